"""Is the service what the release says? Pure: values in, a finding out."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from homelab_agent.core.health import Finding
from homelab_agent.unit import sandbox
from homelab_agent.unit.asking import HALF, HALF_SOCKET, RESUME, SERVICE, SERVICES, SOCKET, UNITS, Running, Unit

MOST = 1.7
"""The agent's own unit is no more exposed than that."""
_AGAIN = "sudo make install, in the checkout"
_WRITTEN = "/usr/local/lib/systemd/system/"
"""What is there, make install has put there; what is in /etc, somebody else."""


def of_enabling(units: Mapping[str, Unit]) -> Finding:
    """Say whether all starts with this host that is to."""
    missing = [name for name in UNITS if not units[name].is_there]
    if missing:
        return Finding.failed(f"systemd does not know {', '.join(missing)}", _AGAIN)
    wanted = (SERVICE, SOCKET, HALF_SOCKET, RESUME)
    off = [name for name in wanted if units[name].properties.get("UnitFileState") != "enabled"]
    if off:
        return Finding.failed(f"not enabled: {', '.join(off)}", f"sudo systemctl enable --now {' '.join(off)}")
    if (state := units[SERVICE].properties.get("ActiveState")) != "active":
        shown = units[SERVICE].properties
        how = f"{state} ({shown.get('Result')}, exit code {shown.get('ExecMainStatus')})"
        return Finding.failed(
            f"{SERVICE} is {how}", "journalctl -e -u homelab-agent; then: sudo systemctl start homelab-agent"
        )
    return Finding.ok("the agent runs, and all of it starts with this host")


def of_sockets(units: Mapping[str, Unit]) -> Finding:
    """Say whether both sockets are listened at."""
    shut = [name for name in (SOCKET, HALF_SOCKET) if units[name].properties.get("ActiveState") != "active"]
    if not shut:
        return Finding.ok("systemd listens for the agent and for its root half")
    if SOCKET in shut:
        return Finding.failed(
            f"nobody listens at {', '.join(shut)}", f"sudo systemctl restart {' '.join(shut)} {SERVICE}"
        )
    return Finding.failed(f"the root half cannot be asked: {HALF_SOCKET} is off", f"sudo systemctl start {HALF_SOCKET}")


def of_files(units: Mapping[str, Unit]) -> Finding:
    """Say whether the units' files are the release's, and systemd has read them."""
    strange = [unit.properties["FragmentPath"] for unit in units.values() if _is_other(unit)]
    if strange:
        return Finding.failed(f"not those of the release that is installed: {', '.join(strange)}", _AGAIN)
    stale = [unit.name for unit in units.values() if unit.properties.get("NeedDaemonReload") == "yes"]
    if stale:
        said = f"systemd has not read again: {', '.join(stale)}"
        return Finding.degraded(said, "sudo systemctl daemon-reload && sudo systemctl restart homelab-agent")
    if all(unit.release is None for unit in units.values()):
        return Finding.degraded("there is no release in /opt/homelab-agent to compare the units with", _AGAIN)
    return Finding.ok("the units are those of the release that is installed")


def _is_other(unit: Unit) -> bool:
    return unit.is_there and unit.release is not None and unit.text != unit.release


def of_program(running: Running | None, current: Path | None, python: Path) -> Finding:
    """Say whether the service runs the release that is chosen; `current` is where that is, `python` who says so."""
    if running is None:
        return Finding.degraded("the agent does not run", "sudo systemctl start homelab-agent")
    if current is None:
        return Finding.failed(f"{running.program} runs, and no release is chosen", _AGAIN)
    if current in running.program.parents:
        return Finding.ok(f"it runs {running.program}")
    if current.parent in running.program.parents:
        said = f"the release {running.program.relative_to(current.parent).parts[0]} runs, {current.name} is chosen"
        return Finding.failed(said, "sudo systemctl restart homelab-agent")
    said = f"the service is run by {running.program}, not by the release's own {python}"
    return Finding.failed(said, f"systemctl cat {SERVICE} says where that is set; then: {_AGAIN}")


def of_sandbox(units: Mapping[str, Unit], scores: Mapping[str, float]) -> Finding:
    """Say how confined the services are, and which drop-ins let them do more."""
    told = ", ".join(f"{name.removesuffix('.service')} {scores[name]:g}" for name in SERVICES if name in scores)
    said = f"exposure, of 10: {told}" if told else ""
    loose = [
        (path, line)
        for name in (SERVICE, HALF)
        for path, text in units[name].drop_ins.items()
        if not path.startswith(_WRITTEN)
        for line in sandbox.loosened(units[name].text, text)
    ]
    if loose:
        path = loose[0][0]
        lines = "; ".join(line for _, line in loose)
        repair = f"look whether that is wanted: {path}; away with it: sudo rm {path} && sudo systemctl daemon-reload"
        return Finding.degraded("; ".join(filter(None, (f"{path} loosens the sandbox: {lines}", said))), repair)
    if scores.get(SERVICE, 0.0) > MOST:
        return Finding.degraded(f"{said}; for the agent {MOST:g} is the most", f"systemd-analyze security {SERVICE}")
    return Finding.ok(said)
