"""How the agent before this one ended, as systemd saw it: a note that its unit leaves in the state directory.

The file `ended` there holds how many of the service's processes the kernel has killed for want of memory, as the agent
found it when it began; once it has ended, behind that what ExecStopPost= is told (systemd.exec(5)): $SERVICE_RESULT,
$EXIT_CODE, $EXIT_STATUS; then the boot, and that number as it is now. "-" is what nobody knows.
"""

from __future__ import annotations

import re
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

NOTE = "ended"
_BYTES_MAX = 256
_WORD = re.compile(r"[A-Za-z0-9-]+")
_UNKNOWN = "-"
_COUNTS = {"": "/sys/fs/cgroup{}/memory.events", "memory": "/sys/fs/cgroup/memory{}/memory.oom_control"}
"""Where the kernel counts, in its present way and in the one before (cgroup v1)."""


@dataclass(frozen=True, slots=True)
class Ended:
    """When and how it ended, in systemd's words; `boot` is the kernel's name for that boot.

    `out_of_memory` says that the kernel has killed something of the service for want of memory while it lived.
    """

    at: datetime
    result: str
    code: str
    status: str
    boot: str
    out_of_memory: bool = False


def read(directory: Path) -> Ended | None:
    """Return what is noted of the last end, None where nothing is; for a thread."""
    try:
        with (directory / NOTE).open("rb") as file:
            said = file.read(_BYTES_MAX).decode("ascii", "replace")
        at = datetime.fromtimestamp((directory / NOTE).stat().st_mtime, UTC)
    except OSError:
        return None
    words = said.split()
    if len(words) != 6 or not all(_WORD.fullmatch(word) for word in words):
        return None
    was, result, code, status, boot, now = words
    return Ended(at, result, code, status, boot, out_of_memory=_has_grown(was, now))


def begin(directory: Path) -> None:
    """Note that an agent lives, in place of how the one before has ended; for a thread."""
    with suppress(OSError):
        (directory / NOTE).write_text(f"{_killed()}\n")


def _killed() -> str:
    """Return how many processes of our control group the kernel has killed for want of memory."""
    for line in Path("/proc/self/cgroup").read_text().splitlines():
        _, kind, group = line.split(":", 2)
        with suppress(KeyError, OSError):
            counts = Path(_COUNTS[kind].format(group)).read_text()
            return dict(one.split() for one in counts.splitlines())["oom_kill"]
    return _UNKNOWN


def _has_grown(was: str, now: str) -> bool:
    """Return whether there were more; a group that was made anew counts from nothing."""
    if not was.isdecimal() or not now.isdecimal():
        return False
    return int(now) > int(was) or 0 < int(now) < int(was)
