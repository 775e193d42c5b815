"""systemd's journal, read by `journalctl` as a child."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Sequence
from datetime import datetime
from pathlib import Path

from homelab_agent.core import process
from homelab_agent.core.errors import AgentError, Exit
from homelab_agent.core.journal.entries import FIELDS
from homelab_agent.core.journal.sink import IDENTIFIER
from homelab_agent.core.process_output import Stream

UNITS = ("homelab-agent.service", "homelab-agent-privileged.service", "homelab-agent-privileged.socket")
"""Both halves; what systemd says of them is in the journal, too."""
PERSISTENT, VOLATILE = Path("/var/log/journal"), Path("/run/log/journal")

_NO_RIGHTS = ("insufficient permissions", "not seeing messages from other users")
"""What journalctl says where it may not read all (shared by its versions since 2012)."""
KEEP = (
    "sudo mkdir -p /var/log/journal /etc/systemd/journald.conf.d; printf '[Journal]\\nStorage=persistent\\n' | sudo tee"
    " /etc/systemd/journald.conf.d/99-persistent.conf; sudo systemctl restart systemd-journald; sudo journalctl --flush"
)
"""What has journald keep its journal on disk (journald.conf(5))."""


class NoJournal(AgentError):
    """There is no systemd journal on this host to read the agent's events from."""

    repair = "{repair}"
    exit_code = Exit.UNREACHABLE


class JournalClosed(AgentError):
    """You may not read the system's journal, which the groups systemd-journal and adm may."""

    repair = "sudo homelab-agent logs; or for good: sudo usermod -aG systemd-journal {user}, and log in again"


class JournalUnreadable(AgentError):
    """journalctl failed with code {code}."""

    repair = "journalctl --verify"


def arguments(since: datetime | None, until: datetime | None, *, follow: bool) -> list[str]:
    """Return the command line: the agent's entries of all boots, oldest first."""
    bounds = [  # it knows no time before 1970, and nothing was logged then
        f"--{name}=@{max(when.timestamp(), 0):.6f}" for name, when in (("since", since), ("until", until)) if when
    ]
    sources = [
        f"SYSLOG_IDENTIFIER={IDENTIFIER}",
        *(f"{name}={unit}" for unit in UNITS for name in ("_SYSTEMD_UNIT", "UNIT")),
    ]
    # --all: else a field of more than 4096 bytes is null.
    words = ["--output=json", "--all", "--no-pager", f"--output-fields={','.join(FIELDS)}", *bounds]
    either = [word for source in sources for word in (source, "+")][:-1]
    return ["journalctl", *words, *(["--follow", "--no-tail"] if follow else ()), *either]


async def read(words: Sequence[str], take: Callable[[str], None], where: str) -> str:
    """Hand each line to `take` as it comes, until journalctl ends; return what it says that it may not read, or "".

    Raises what `take` raises, `NoJournal`, with `where` else to look, and `JournalUnreadable`.
    """
    failed = asyncio.Event()
    failure: list[BaseException] = []
    complaints: list[str] = []

    def on_line(stream: Stream, line: str) -> None:
        if stream == "stderr":
            complaints.append(line)
        elif not failed.is_set():
            try:
                take(line)
            except BaseException as error:  # noqa: BLE001 - the loop would swallow it: it is raised below
                failure.append(error)
                failed.set()

    try:
        child = await process.start(words, env={"LC_ALL": "C.UTF-8"}, on_line=on_line, output_max=4096)
    except process.ProgramMissing as error:
        raise NoJournal(cause=error.message, repair=where) from error
    ending, stopping = asyncio.ensure_future(child.wait()), asyncio.ensure_future(failed.wait())
    try:
        await asyncio.wait([ending, stopping], return_when=asyncio.FIRST_COMPLETED)
    finally:
        stopping.cancel()
        completed = await child.stop()
    if failure:
        raise failure[0]
    said = " ".join(complaints)
    if any(words in said for words in _NO_RIGHTS):
        return said
    if completed.code > 0:
        raise JournalUnreadable(code=completed.code, cause=complaints[-1] if complaints else "")
    return ""


def closed(complaint: str) -> JournalClosed:
    """Return the error for what `read` was told."""
    return JournalClosed(cause=complaint, user=os.environ.get("USER") or "$USER")


def check_there(where: str) -> None:
    """Raise `NoJournal`, with `where` else to look, on a host on which no journal is kept."""
    if not (PERSISTENT.is_dir() or VOLATILE.is_dir()):
        raise NoJournal(cause=f"neither {PERSISTENT} nor {VOLATILE} is there", repair=where)


def is_volatile(memory: Path = VOLATILE, disk: Path = PERSISTENT) -> bool:
    """Return whether what is logged now is lost with the next boot: whether journald writes to its place in memory.

    It may have left there what it wrote before it was told to go to the disk. Where we may not look, it writes there.
    `compose/stack.sh` asks the same.
    """
    return any(_writes(one, disk / one.name) for one in memory.glob("*/"))


def _writes(memory: Path, disk: Path) -> bool:
    try:
        written = (memory / "system.journal").stat().st_mtime_ns
    except FileNotFoundError:
        return False
    except PermissionError:
        return True
    try:
        return written > (disk / "system.journal").stat().st_mtime_ns
    except OSError:
        return True
