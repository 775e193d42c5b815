"""The real Alloy 1.19.0, built with only the components that compose/alloy/config.alloy names.

Its command line, its loader, and these components with all they stand on are Alloy's own source, from its Go module
with that one's own checksums; `go/alloy/tree` is laid over it: a main program, the list of components, and a converter
that converts nothing (Alloy's own imports every component there is). compose/docker-compose.yml pins 1.19.1, which is
not to be had as a module.

On two free cores, once: five minutes. The program is 100 MB.
"""

from __future__ import annotations

import functools
import json
import shutil
import tempfile
from pathlib import Path

from tests.neighbours import cache, golang, loki
from tests.neighbours.neighbour import Neighbour, version_of

VERSION = "1.19.0"
_MODULE = "github.com/grafana/alloy"
_SYNTAX = f"{_MODULE}/syntax"
"""Its language is a module of its own, which Alloy expects beside it; its module's archive has it not."""
_DIRECTORY = golang.MODULES / "alloy"
_LAID_OVER = _DIRECTORY / "tree"
_TAGS = ("-tags", "promtail_journal_enabled netgo")
_READ_ONLY = "-buildvcs=false -mod=readonly"


@functools.cache
def program() -> Path:
    """Return Alloy, which reads journals; raises `Missing` without Go or libsystemd's headers."""
    loki.need_libsystemd()
    laid_over = sorted(path for path in _LAID_OVER.rglob("*") if path.is_file())
    sources = [*laid_over, *(_DIRECTORY / name for name in ("go.mod", "go.sum"))]
    return cache.kept("alloy", [*sources, *_TAGS], _build) / "alloy"


def _build(into: Path) -> None:
    """Copy the module's tree, put ours over it, and build that."""
    said = golang.go(_DIRECTORY, "alloy", "mod", "download", "-json", f"{_MODULE}@v{VERSION}")
    with tempfile.TemporaryDirectory(prefix="homelab-agent-alloy-") as directory:
        tree = Path(directory) / "alloy"
        _copy(Path(json.loads(said)["Dir"]), tree)
        shutil.copytree(_LAID_OVER, tree, dirs_exist_ok=True)
        (tree / "internal/component/all/all_test.go").unlink()
        with (tree / "go.sum").open("a") as sums:
            sums.write((_DIRECTORY / "go.sum").read_text())
        replaced = f"{_SYNTAX}={_SYNTAX}@{_syntax_version()}"
        golang.go(tree, "alloy", "mod", "edit", "-replace", replaced)
        golang.build_in(tree, "alloy", "./cmd/ours", into, flags=_TAGS, env={"CGO_ENABLED": "1", "GOFLAGS": _READ_ONLY})


def _copy(module: Path, tree: Path) -> None:
    """Copy a module out of Go's cache, where all is read-only."""
    shutil.copytree(module, tree, copy_function=shutil.copyfile)
    for path in (tree, *tree.rglob("*")):
        if path.is_dir():
            path.chmod(0o755)


def _syntax_version() -> str:
    [version] = (line.split()[1] for line in (_DIRECTORY / "go.mod").read_text().splitlines() if _SYNTAX in line)
    return version


def obtain() -> None:
    """Build it."""
    program()


NEIGHBOUR = Neighbour(
    "Alloy", f"Go module {_MODULE} v{VERSION}", version=lambda: version_of([program(), "--version"]), obtain=obtain
)
