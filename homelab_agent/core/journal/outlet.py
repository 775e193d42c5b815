"""Where the agent that runs now writes its events, when that is not the journal: a terminal, a file, a pipe."""

from __future__ import annotations

import re
from pathlib import Path

from homelab_agent.core import lock

BY_HAND = "look at the terminal or file that `homelab-agent run` (make run) was started with"
_PROCESS = re.compile(r"process (\d+)")
_STDERR = 2


def running(directory: Path) -> str:
    """Return in words where the running agent of a state directory writes, and how to read it; "" for the journal.

    "" also where none runs or that cannot be told: another user's descriptors can be read by root alone.
    """
    match = _PROCESS.match(lock.holder(directory))
    if match is None:
        return ""
    process = Path("/proc") / match[1]
    try:
        target = str((process / f"fd/{_STDERR}").readlink())
        variables = (process / "environ").read_bytes().split(b"\0")
    except OSError:
        return ""
    stream = next((one.partition(b"=")[2].decode() for one in variables if one.startswith(b"JOURNAL_STREAM=")), "")
    if stream and target == f"socket:[{stream.partition(':')[2]}]":
        return ""
    return f"the agent that runs now (process {match[1]}) was started by hand and writes {_words(target)}"


def _words(target: str) -> str:
    if target.startswith(("/dev/pts/", "/dev/tty", "/dev/console")):
        return f"to the terminal {target}: look there"
    if target == "/dev/null":
        return "nowhere (/dev/null): start it as a service, or with 2>FILE"
    if target.startswith("/"):
        return f"to a file: tail -f {target}"
    return f"to whoever started it ({target.partition(':')[0]}): {BY_HAND}"
