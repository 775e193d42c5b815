"""What the configuration of a checkout needs to become the service's, and what the units need of it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from homelab_agent import config
from homelab_agent.config import references, writer
from homelab_agent.installing import adopting

TOKEN = "credential:api-token"  # noqa: S105 - where it is
RECORDS = Path("/var/lib/homelab-agent-backup")
"""Where homelab-agent-resume.service looks itself for notes of the root half."""
NOTES = ("frozen", "hooks", "undo")
LISTENS_AT = "127.0.0.1:8085"
"""What homelab-agent.socket says itself."""
SOCKET = Path("/run/homelab-agent/agent.sock")


def fit(path: Path) -> None:
    """Have the file name the service's own state directory and its token; raises `ConfigurationFaulty`."""
    settings = config.load(path).settings
    wanted = {}
    if settings.agent.state not in {None, adopting.STATE}:
        wanted["agent.state"] = str(adopting.STATE)
    if not settings.web.api_token:
        wanted["web.api_token"] = TOKEN
    if wanted:
        writer.set_values(path, wanted, again=("config", "set"))


def notes(path: Path) -> Iterator[str]:
    """Yield in words what secrets the service cannot have from where the configuration says."""
    for reference, keys in references.uses(config.load(path).settings).items():
        where = ", ".join(keys)
        if reference.startswith("env:"):
            name = reference.removeprefix("env:")
            yield f"{where}: the service has no variable {name}; put its value into a file of that name in \
/etc/homelab-agent/credentials, say credential:{name} instead, and make install again"
        elif reference.startswith("file:"):
            file = reference.removeprefix("file:")
            user = adopting.USER
            yield f"{where}: {file} is to be readable by the agent alone: chown {user} {file}; chmod 600 {file}"


def socket_drop_in(listen: str) -> str:
    """Return the drop-in of the socket unit for `[web] listen`; "" where that is what the unit says itself."""
    if listen == LISTENS_AT:
        return ""
    head = "# Written by make install: as [web] listen says."
    free = "# At boot the address may come after the socket.\nFreeBind=yes"
    return f"{head}\n[Socket]\nListenStream=\nListenStream={listen}\nListenStream={SOCKET}\n{free}\n"


def resume_drop_in(records: Path) -> str:
    """Return the drop-in of the unit that resumes, for `[backup] records`; "" where the unit looks there itself."""
    if records == RECORDS:
        return ""
    place = str(records).replace("%", "%%")  # else a specifier (systemd.unit(5))
    lines = "".join(f"ConditionDirectoryNotEmpty=|{place}/{name}\n" for name in NOTES)
    return f"# Written by make install: as [backup] records says.\n[Unit]\n{lines}"
