"""A new embedded database is made of a dump, beside the one that is used: it runs only for so long as that takes."""

from __future__ import annotations

import os
from pathlib import Path

from homelab_agent.core import process
from homelab_agent.core.errors import AgentError
from homelab_agent.database.cluster import ENVIRONMENT
from homelab_agent.database.embedded import STOP_SECONDS, Embedded, NoPrograms, find_programs

WORDS = ("--clean", "--if-exists", "--single-transaction", "--exit-on-error")
"""Have pg_restore make a database be what the dump says, or change nothing."""
_FROM_DESCRIPTOR = 'exec "$@" <"/dev/fd/$0"'
_LOAD_SECONDS = 24 * 3600.0


class NotLoaded(AgentError):
    """The dump was not loaded into the new database in {directory}."""

    repair = "see the cause: is it what `homelab-agent db dump` has written, and is there room?"


async def fill(directory: Path, source: int) -> None:
    """Make an embedded database below a directory and load the dump that a descriptor gives; it is stopped on return.

    Raises `NotLoaded`, and what a start raises.
    """
    server = Embedded(directory)
    try:
        where = await server.start(_nobody)
        programs = find_programs()
        if programs is None:
            raise NoPrograms
        handed = os.dup(source)  # the child's own 0 is another
        try:
            command = [programs.path("pg_restore"), f"--dbname={where.shown}", *WORDS]
            done = await process.run(
                ["sh", "-c", _FROM_DESCRIPTOR, str(handed), *command],
                env={**ENVIRONMENT, "PGPASSWORD": where.password},
                deadline=_LOAD_SECONDS,
                descriptors=(handed,),
            )
        finally:
            os.close(handed)
    finally:
        await server.stop(STOP_SECONDS)
    if done.code != 0:
        said = done.stderr.decode(errors="replace").strip().splitlines()
        raise NotLoaded(directory=directory, cause=said[0] if said else f"exit code {done.code}")


def _nobody(_: str) -> None:
    """Tell nobody what takes time."""
