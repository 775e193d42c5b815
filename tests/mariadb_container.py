"""MariaDB of Debian in a container, on a volume, for tests of backups."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

from tests.neighbours import images, mariadb
from tests.neighbours.docker import Docker
from tests.waiting import until

IMAGE = "mariadb:10.11"
USER = 65534
DATA = "/var/lib/mysql"
_PLACE = f"/run/mysqld:uid={USER}"
"""Of its socket, which clients know; a mode is forgotten when the container is started again."""


def image(docker: Docker) -> str:
    """Import it; return its id."""
    clients = [mariadb.client(name) for name in ("mariadb", "mariadb-dump", "mariadb-check")]
    changes = [f"USER {USER}", 'CMD ["mariadbd"]', "ENV PATH=/usr/sbin:/usr/bin:/sbin:/bin"]
    tools = [Path("/bin/sh"), Path("/bin/cat")]
    files = [*images.of_package("mariadb-server-core"), *clients, *tools]
    return images.of_host(docker, IMAGE, files, changes=changes)


def run(docker: Docker, name: str, password: str, *words: str) -> None:
    """Start one on a new volume of its own name, with that password of root, and return when it takes queries."""
    docker("volume", "create", name)
    data = Path(docker("volume", "inspect", "--format", "{{.Mountpoint}}", name))
    install = mariadb.server("mariadb-install-db")
    subprocess.run(
        [install, "--no-defaults", f"--datadir={data}", "--auth-root-authentication-method=normal", "--skip-test-db"],
        check=True,
        capture_output=True,
    )
    for path in (data, *data.rglob("*")):
        os.chown(path, USER, USER)
    docker("run", "-d", "--name", name, "--tmpfs", _PLACE, "-v", f"{name}:{DATA}", *words, IMAGE)
    until(lambda: _answers(docker, name), f"{name} takes queries", seconds=60)
    quoted = password.replace("\\", "\\\\").replace("'", "\\'")
    ask(docker, name, f"ALTER USER root@localhost IDENTIFIED BY '{quoted}'", "")


def ask(docker: Docker, name: str, statement: str, password: str, database: str = "") -> str:
    """Return what statements give."""
    words = ["-e", f"MYSQL_PWD={password}", name, "mariadb", "-u", "root", "-BNr", "--default-character-set=utf8mb4"]
    return docker("exec", *words, f"--database={database}", "-e", statement)


def _answers(docker: Docker, name: str) -> bool:
    try:
        return ask(docker, name, "SELECT 1", "") == "1"
    except AssertionError:
        return False
