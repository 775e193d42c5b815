"""Keeps tasks running and stops them in order.

`supervisor` holds `Supervisor`, `restart` its policy, `signals` what ends the process; `watchdog` feeds systemd's while
the loop turns (`looplag` measures it) and those that matter beat (`core.pulse`).
"""

from __future__ import annotations

from homelab_agent.core.supervisor.supervisor import Supervisor

__all__ = ["Supervisor"]
