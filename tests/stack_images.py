"""Images of the stack's services, made of what this host has: Debian's PostgreSQL 15 with PostGIS and TimescaleDB, and
the Loki, Promtail and Alloy that are built from their Go modules. What is pulled on a home server has the same programs
at the same paths, under the same users; `ENVIRONMENT` says which image is whose.

There is none of Grafana, of which no package is to be had here: it is not started.
"""

from __future__ import annotations

import tempfile
from pathlib import Path

from tests.neighbours import alloy, images, loki, postgres_kinds
from tests.neighbours.images import Engine

POSTGRES = "tests/postgres:15-timescaledb-postgis"
LOKI = f"tests/loki:{loki.VERSION}"
PROMTAIL = f"tests/promtail:{loki.PROMTAIL_VERSION}"
ALLOY = f"tests/alloy:{alloy.VERSION}"
ENVIRONMENT = {
    "HOMELAB_POSTGRES_IMAGE": POSTGRES,
    "HOMELAB_LOKI_IMAGE": LOKI,
    "HOMELAB_PROMTAIL_IMAGE": PROMTAIL,
    "HOMELAB_ALLOY_IMAGE": ALLOY,
}

_PROGRAMS = Path("/usr/lib/postgresql/15/bin")
_CLIENTS = ("pg_dump", "pg_isready", "pg_restore", "psql")
_SHELL = ("cat", "chmod", "cmp", "dirname", "mkdir", "mv", "readlink", "rm", "rmdir", "sed", "sh", "sleep", "sync")
_UNNEEDED = ("bitcode", "llvm", "/man/", "topology", "tiger", "raster", "sfcgal", "locale/")


def _postgres(docker: Engine) -> None:
    """Make the image of PostgreSQL."""
    packages = ("postgresql-15", "postgresql-15-postgis-3", "postgresql-15-postgis-3-scripts")
    files = [path for name in packages for path in images.of_package(name) if not _is_unneeded(path)]
    with tempfile.TemporaryDirectory(prefix="homelab-agent-image-") as directory:
        images.of_host(
            docker,
            POSTGRES,
            [
                *files,
                *(_PROGRAMS / name for name in _CLIENTS),
                *(_program(name) for name in _SHELL),
                "/usr/share/postgresql/15/extension/postgis.control",  # a link, which no package owns
                "/usr/lib/locale/C.utf8",
                "/usr/share/zoneinfo/UTC",
                "/usr/share/zoneinfo/Etc/UTC",
            ],
            placed={"/": postgres_kinds.timescale_files(Path(directory))},
            directories={"/home/postgres/pgdata": 1000},
            users={"postgres": 1000},
            changes=[f"ENV PATH={_PROGRAMS}:/usr/bin:/bin", "USER postgres"],
        )


def _log_store(docker: Engine) -> None:
    """Make the image of Loki, which has no shell either."""
    images.of_host(
        docker,
        LOKI,
        [],
        placed={"/usr/bin/loki": loki.program()},
        directories={"/loki": 10001},
        users={"loki": 10001},
        changes=["USER loki", 'ENTRYPOINT ["/usr/bin/loki"]'],
    )


def _shipper(docker: Engine, tag: str, inside: str, program: Path) -> None:
    """Make the image of what opens libsystemd when it reads a journal, and has bash and the like for our scripts."""
    [library] = Path("/usr/lib").glob("*-linux-gnu/libsystemd.so.0")
    changes = [f'ENTRYPOINT ["{inside}"]']
    shell = [Path("/bin/bash"), *(_program(name) for name in ("mkdir", "mv", "rm"))]
    images.of_host(docker, tag, [*shell, library], placed={inside: program}, changes=changes)


def _promtail(docker: Engine) -> None:
    _shipper(docker, PROMTAIL, "/usr/bin/promtail", loki.promtail())


def _alloy(docker: Engine) -> None:
    _shipper(docker, ALLOY, "/usr/bin/alloy", alloy.program())


def _program(name: str) -> Path:
    return next(path for path in (Path("/usr/bin", name), Path("/bin", name)) if path.exists())


def _is_unneeded(path: Path) -> bool:
    return any(word in str(path) for word in _UNNEEDED)


MADE = {"postgres": _postgres, "loki": _log_store, "promtail": _promtail, "alloy": _alloy}
"""What makes the image of each service."""
