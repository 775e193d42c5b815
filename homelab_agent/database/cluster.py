"""A data directory, made and mended while no server runs on it."""

from __future__ import annotations

import re
from pathlib import Path

from homelab_agent.core import process
from homelab_agent.core.errors import AgentError
from homelab_agent.database.binaries import Programs
from homelab_agent.database.place import DATABASE, ROLE, Place

MAKE_SECONDS = 300.0
ENVIRONMENT = {"LC_ALL": "C", "TZ": "UTC"}
_BUILTIN_LOCALES = 17
"""From this version on PostgreSQL knows upper and lower case of all letters without the system's locales."""


class CannotMakeCluster(AgentError):
    """A PostgreSQL data directory could not be made in {directory}."""

    repair = "see the cause; usually it is free space, or the rights of {directory}"


async def make(place: Place, programs: Programs, data: Path, password: str) -> None:
    """Make a data directory with one role that has this password; `data` is empty and the server's own."""
    command = [programs.path("initdb"), f"--pgdata={data}", f"--username={ROLE}", "--pwfile=/dev/stdin"]
    command += ["--auth=scram-sha-256", "--encoding=UTF8", "--data-checksums", "--no-instructions", "--locale=C"]
    if programs.major >= _BUILTIN_LOCALES:
        command += ["--locale-provider=builtin", "--builtin-locale=C.UTF-8"]
    await _run(place, data, command, stdin=f"{password}\n".encode())


async def make_database(place: Place, programs: Programs, data: Path) -> None:
    """Make the one database in a new data directory."""
    await _single(place, programs, data, f"CREATE DATABASE {DATABASE}")


async def set_password(place: Place, programs: Programs, data: Path, password: str) -> None:
    """Give the role another password, where the file that held it was lost."""
    assert re.fullmatch(r"[\w-]+", password)  # noqa: S101 - it is put into SQL as it is
    await _single(place, programs, data, f"ALTER ROLE {ROLE} PASSWORD '{password}'")


async def _single(place: Place, programs: Programs, data: Path, statement: str) -> None:
    """Run one statement without a server (postgres, "single-user mode"); it goes by stdin, unseen by `ps`."""
    command = [programs.path("postgres"), "--single", "-D", str(data), "-c", "exit_on_error=on", "postgres"]
    await _run(place, data, command, stdin=f"{statement}\n".encode())


async def _run(place: Place, data: Path, command: list[str], *, stdin: bytes = b"") -> None:
    done = await process.run(
        command,
        env=ENVIRONMENT,
        cwd=data,
        stdin=stdin,
        deadline=MAKE_SECONDS,
        output_max=65536,
        user=place.account.switch,
    )
    if done.code != 0:
        said = done.stderr.decode(errors="replace").strip().splitlines()
        raise CannotMakeCluster(directory=data.parent, cause=said[-1] if said else f"exit code {done.code}")
