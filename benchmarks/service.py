"""The installed service on a systemd of its own: exec to READY, what clients notice of its restarts, and its memory."""

from __future__ import annotations

import json
import statistics
import subprocess
import time
from typing import Any

from benchmarks import process
from tests.installed import CLIENTS, SERVICE, Checkout, bare_with_checkout
from tests.waiting import until

RESTARTS = 20
_END = "/run/clients-end"


def run(*, minutes: float) -> None:
    """Install it, restart it under eight clients, and look at its memory after `minutes` of rest."""
    with bare_with_checkout() as checkout:
        checkout.made("install")
        until(checkout.database_answers, "its database answers", seconds=120)
        ready = [_restarted(checkout) for _ in range(5)]
        process.figure("exec to READY, median of 5", statistics.median(ready), "s", bound=1.0)
        told = _under_clients(checkout)
        process.figure(
            f"{RESTARTS} restarts under 8 clients: refused, of {told['done']}", len(told["failed"]), "", bound=0
        )
        process.figure("the same: longest wait", told["longest"], "s", bound=1.5)
        time.sleep(60 * minutes)
        process.figure(f"RSS after {minutes:g} minutes", _resident(checkout) / 1e6, "MB", bound=100)
        half = checkout.machine.show("homelab-agent-privileged.service")["MainPID"]
        process.figure("processes of the root half at rest", int(half != "0"), "", bound=0)


def _restarted(checkout: Checkout) -> float:
    checkout.machine.systemctl("restart", SERVICE)
    shown = checkout.machine.show(SERVICE)
    return (int(shown["ActiveEnterTimestampMonotonic"]) - int(shown["ExecMainStartTimestampMonotonic"])) / 1e6


def _under_clients(checkout: Checkout) -> dict[str, Any]:
    argv = checkout.machine.inside("python3", "-I", "-c", CLIENTS, _END)
    with subprocess.Popen(argv, stdout=subprocess.PIPE, text=True) as asking:
        try:
            for _ in range(RESTARTS):
                checkout.machine.systemctl("restart", SERVICE)
        finally:
            checkout.machine("touch", _END)
        told: dict[str, Any] = json.loads(asking.communicate(timeout=90)[0])
    return told


def _resident(checkout: Checkout) -> int:
    status = checkout.machine("cat", f"/proc/{checkout.process()}/status")
    return 1024 * int(status.partition("VmRSS:")[2].split()[0])
