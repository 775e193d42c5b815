"""What a machine with the stack logs, by whom, and how it is found in Loki."""

from __future__ import annotations

import json
import shlex
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
    """Have a unit send a line under all the agent's names; return what came of it."""
    fields = (
        f"MESSAGE={FORGED}", "HOMELAB_COMPONENT=forged", "HOMELAB_EVENT=forged.event", "HOMELAB_RUN_ID=forged",
        "SYSLOG_IDENTIFIER=homelab-agent", "UNIT=homelab-agent.service",
    )  # fmt: skip
    say(stack, unit, f"printf '%s\\n' {' '.join(shlex.quote(one) for one in fields)} | logger --journald")
    return stack.until_found(f'{{job="systemd-journal"}} | unit="{unit}.service" |~ "forged.event.}}$"')


def stream(stack: Stack, query: str) -> dict[str, Any]:
    """Return the labels of the one stream that a selector finds: without structured metadata."""
    [found] = {json.dumps(one, sort_keys=True) for one in stack.loki("series", **{"match[]": query})["data"]}
    return dict(json.loads(found))


def until_newer(stack: Stack, query: str, at: float) -> Line:
    """Wait for a line from after that moment."""
    return until(
        lambda: [one for one in stack.lines(query) if one.nanoseconds > at * 1e9], f"Loki has {query}", seconds=40
    )[-1]
