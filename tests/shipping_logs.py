"""What a machine with the stack logs, by whom, and how it is found in Loki."""

from __future__ import annotations

import json
import time
from typing import Any

from tests.neighbours.loki import Line
from tests.stack import Stack
from tests.waiting import until

TALKS = "echo from the container; echo; echo and more; exec sleep 1000"
FORGED = '{"level":"info","component":"forged","event":"forged.event"}'
"""What somebody says who claims to be the agent."""
SAID = ["from the container", " ", "and more"]


def restart_agent(stack: Stack) -> float:
    """Start the agent anew; return when that was."""
    at = time.time()
    stack.machine.systemctl("restart", "homelab-agent.service")
    return at


def say(stack: Stack, unit: str, script: str) -> None:
    """Run a script as a unit to its end; journald lets it say as much as it likes."""
    words = ("--wait", "--collect", "--property=LogRateLimitIntervalSec=0", f"--unit={unit}")
    stack.machine("systemd-run", *words, "sh", "-c", script)


def forge(stack: Stack, unit: str) -> Line:
    """Have a unit send a line under all the agent's names; return what came of it.

    It lives until the line is found: journald asks /proc of what unit a sender is, too late for one that is gone.
    """
    fields = (
        f"MESSAGE={FORGED}", "HOMELAB_COMPONENT=forged", "HOMELAB_EVENT=forged.event", "HOMELAB_RUN_ID=forged",
        "SYSLOG_IDENTIFIER=homelab-agent", "UNIT=homelab-agent.service",
    )  # fmt: skip
    stack.machine("systemd-run", "--collect", f"--unit={unit}", "python3", "-c", _SEND, *fields)
    try:
        return stack.until_found(f'{{job="systemd-journal"}} | unit="{unit}.service" |~ "forged.event.}}$"')
    finally:
        stack.machine.systemctl("stop", f"{unit}.service")


_SEND = """
import signal, socket, sys
journal = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
journal.sendto("".join(f"{field}\\n" for field in sys.argv[1:]).encode(), "/run/systemd/journal/socket")
signal.pause()
"""


def stream(stack: Stack, query: str) -> dict[str, Any]:
    """Return the labels of the one stream that a selector finds: without structured metadata."""
    [found] = {json.dumps(one, sort_keys=True) for one in stack.loki("series", **{"match[]": query})["data"]}
    return dict(json.loads(found))


def until_newer(stack: Stack, query: str, at: float) -> Line:
    """Wait for a line from after that moment."""
    return until(
        lambda: [one for one in stack.lines(query) if one.nanoseconds > at * 1e9], f"Loki has {query}", seconds=40
    )[-1]
