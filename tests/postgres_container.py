"""PostgreSQL 15 of Debian in a container, on a volume, for tests of backups."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from tests.neighbours import images
from tests.neighbours.docker import Docker
from tests.waiting import until

IMAGE = "postgres:15"
USER = 65534
DATA = "/var/lib/postgresql/data"
_PROGRAMS = Path("/usr/lib/postgresql/15/bin")
_RUN = (
    f"[ -f {DATA}/PG_VERSION ] || initdb -D {DATA} -A trust -U postgres --no-sync -k; exec postgres -D {DATA} -k /tmp"
)


def image(docker: Docker) -> str:
    """Import it; return its id."""
    files = [
        path for path in images.of_package("postgresql-15") if "llvm" not in str(path) and "bitcode" not in str(path)
    ]
    clients = [_PROGRAMS / name for name in ("psql", "pg_amcheck", "pg_dump", "pg_dumpall", "pg_restore", "pgbench")]
    changes = [
        f"ENV PATH={_PROGRAMS}:/usr/bin:/bin",
        f"USER {USER}",
        f'CMD ["sh", "-c", "{_RUN}"]',
        'HEALTHCHECK --interval=1s --retries=60 CMD ["psql", "-h", "/tmp", "-U", "postgres", "-c", "SELECT 1"]',
    ]
    return images.of_host(docker, IMAGE, ["/bin/sh", "/usr/bin/env", *files, *clients], changes=changes)


def run(
    docker: Docker,
    name: str,
    volume: str,
    *,
    files: Path | None = None,
    words: Sequence[str] = (),
    options: Sequence[str] = (),
) -> None:
    """Start one on a new volume, with more files, words of its own and options of Docker's; return when it is well."""
    docker("volume", "create", volume)
    own(Path(docker("volume", "inspect", "--format", "{{.Mountpoint}}", volume)))
    command = ["sh", "-c", " ".join([_RUN, *words])]
    docker("create", "--name", name, "--stop-signal", "SIGINT", "-v", f"{volume}:{DATA}", *options, IMAGE, *command)
    if files is not None:
        docker("cp", f"{files}/.", f"{name}:/")
    docker("start", name)
    await_well(docker, name)


def own(data: Path) -> None:
    """Give a directory to the server's user."""
    os.chown(data, USER, USER)
    data.chmod(0o700)


def conninfo(database: str) -> str:
    """Return what connects to a database whatever it is called."""
    return "dbname='{}'".format(database.replace("\\", "\\\\").replace("'", "\\'"))


def await_well(docker: Docker, name: str) -> None:
    """Return when its own check says that it is well."""
    until(lambda: docker.state(name).get("Health", {}).get("Status") == "healthy", f"{name} is well", seconds=60)


def ask(docker: Docker, name: str, statement: str) -> str:
    """Return what a statement gives."""
    return docker("exec", name, "psql", "-h", "/tmp", "-U", "postgres", "-Atc", statement)
