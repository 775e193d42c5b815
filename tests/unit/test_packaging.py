"""What a user installs is pinned, whole, and comes from wherever they get their packages."""

from __future__ import annotations

import re
import tarfile
import tomllib
import zipfile
from pathlib import Path

import pytest
from flit_core import buildapi  # type: ignore[import-untyped]
from packaging.requirements import Requirement

from tests.installed import COPIED

ROOT = Path(__file__).parents[2]
LOCKS = sorted((ROOT / "requirements").glob("*.txt"))
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())


def pinned(lock: Path) -> dict[str, str]:
    """Return name and version of everything in a lock."""
    found = re.findall(r"^([a-z0-9-]+)==(\S+)", lock.read_text(), flags=re.MULTILINE)
    assert found, lock
    return dict(found)


@pytest.mark.parametrize("lock", LOCKS, ids=lambda lock: lock.stem)
def test_a_lock_pins_every_line_with_hashes_and_names_no_index(lock: Path) -> None:
    entries = lock.read_text().replace("\\\n", " ").splitlines()
    for entry in entries:
        assert re.match(r"[a-z0-9-]+==\S+( ; [^#]+?)?( +--hash=sha256:[0-9a-f]{64})+$", entry), entry
    assert "://" not in lock.read_text()


def test_the_locks_are_those_of_the_project() -> None:
    run, test = pinned(ROOT / "requirements/run.txt"), pinned(ROOT / "requirements/test.txt")
    for wanted, lock in (
        (PROJECT["project"]["dependencies"], run),
        (PROJECT["dependency-groups"]["test"], test),
        (PROJECT["project"]["optional-dependencies"]["systemd"], pinned(ROOT / "requirements/systemd.txt")),
        (PROJECT["build-system"]["requires"], pinned(ROOT / "requirements/build.txt")),
    ):
        for requirement in map(Requirement, wanted):
            version = lock[requirement.name.lower().replace("_", "-")]
            assert requirement.specifier.contains(version, prereleases=True), requirement
    assert run.items() <= test.items(), "the tests run what users run"


def test_what_is_installed_has_the_scripts_and_they_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    with zipfile.ZipFile(tmp_path / buildapi.build_wheel(str(tmp_path))) as wheel:
        modes = {entry.filename: entry.external_attr >> 16 for entry in wheel.infolist()}
        for name in ("gitops_sync.sh", "askpass.sh"):
            inside = f"homelab_agent/gitops/{name}"
            assert wheel.read(inside) == (ROOT / inside).read_bytes()
            assert modes[inside] & 0o777 == 0o755
        assert {"openbao.hcl", "openbao.service", "agent.policy.hcl"} <= {Path(name).name for name in modes}
    assert (ROOT / "deploy/gitops_sync.sh").resolve() == ROOT / "homelab_agent/gitops/gitops_sync.sh"


def test_what_is_built_twice_is_the_same_and_can_be_installed_from(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(ROOT)
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "1764400000")
    made: list[dict[str, bytes]] = []
    for name in ("first", "second"):
        there = tmp_path / name
        there.mkdir()
        for build in (buildapi.build_wheel, buildapi.build_sdist):
            build(str(there))
        made.append({file.name: file.read_bytes() for file in there.iterdir()})
    assert made[0] == made[1]
    assert len(made[0]) == 2
    (sdist,) = (tmp_path / "first").glob("*.tar.gz")
    with tarfile.open(sdist) as archive:
        modes = {member.name.partition("/")[2]: member.mode for member in archive}
    for name in COPIED:
        assert any(path == name or path.startswith(f"{name}/") for path in modes), name
    for script in (ROOT / "deploy").glob("*.sh"):
        assert modes[f"deploy/{script.name}"] & 0o111 == script.stat().st_mode & 0o111, script


def test_every_target_of_the_makefile_is_explained() -> None:
    text = (ROOT / "Makefile").read_text()
    declared = re.search(r"^\.PHONY: (.*)$", text, flags=re.MULTILINE)
    assert declared is not None
    explained = set(re.findall(r"^([a-z-]+):.*## \S", text, flags=re.MULTILINE))
    assert explained == set(declared[1].split())
