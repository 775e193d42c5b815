"""Is the service what the release says? Pure: values in, a finding out."""

from __future__ import annotations

import re
import shlex
from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path

from homelab_agent.core.health import Finding
from homelab_agent.unit import sandbox
from homelab_agent.unit.asking import (
    CREDENTIALS,
    HALF_SOCKET,
    RESUME,
    SERVICE,
    SERVICES,
    SOCKET,
    UNITS,
    Credentials,
    Running,
    Sandbox,
    Unit,
)

MOST = 1.7
"""The agent's own unit is no more exposed than that."""
_AGAIN = "sudo make install, in the checkout"
_NAME = re.compile(r"[a-zA-Z0-9._-]+")
"""What make install takes for the name of a credential."""


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


def of_sandbox(units: Mapping[str, Unit], found: Mapping[str, Sandbox]) -> Finding:
    """Say how confined the services are, and which drop-ins let them do more."""
    told = ", ".join(f"{name.removesuffix('.service')} {found[name].score:g}" for name in SERVICES if name in found)
    said = f"exposure, of 10: {told}" if told else ""
    loose: dict[str, list[str]] = {}
    for name in SERVICES:
        for path, line in _loosened(units[name], found.get(name)):
            loose.setdefault(path, []).append(line)
    if loose:
        words = [f"{path} loosens the sandbox: {'; '.join(lines)}" for path, lines in loose.items()]
        path = next(iter(loose))
        repair = f"look whether that is wanted: {path}; away with it: sudo rm {path} && sudo systemctl daemon-reload"
        if path in {units[name].properties.get("FragmentPath") for name in SERVICES}:
            repair = _AGAIN
        return Finding.degraded("; ".join(filter(None, (*words, said))), repair)
    if SERVICE in found and found[SERVICE].score > MOST:
        return Finding.degraded(f"{said}; for the agent {MOST:g} is the most", f"systemd-analyze security {SERVICE}")
    return Finding.ok(said)


def _loosened(unit: Unit, found: Sandbox | None) -> Iterator[tuple[str, str]]:
    """Yield where and by which line; what no drop-in says comes from the unit's own file."""
    wider = set() if found is None or found.released is None else set(sandbox.wider(found.released, found.open))
    said = set()
    for path, text in unit.drop_ins.items():
        for line in sandbox.loosened(unit.release or unit.text, text, wider):
            said.add(line.partition("=")[0])
            yield path, line
    for key in sorted(wider - said):
        yield unit.properties.get("FragmentPath", unit.name), f"{key}="


def of_credentials(found: Credentials, needed: Mapping[str, Sequence[str]]) -> Finding:
    """Say whether the service is given what is there for it and what the configuration needs.

    `needed` is by name of a credential the keys that are references to it.
    """
    there = None if found.files is None else {name.removesuffix(".cred") for name in found.files}
    gone = [str(path) for name, path in found.given.items() if there is not None and _is_gone(name, path, there)]
    if gone:
        said = f"the agent does not start again without what it is given: {', '.join(gone)}, which is no more"
        return Finding.failed(said, f"put it there again, or: {_AGAIN}")
    for name in sorted(set(needed) - set(found.given)):
        keys = ", ".join(needed[name])
        if there is not None and name in there:
            return Finding.failed(f"the service is not given {CREDENTIALS}/{name} yet, which {keys} names", _AGAIN)
        repair = f"write it to {CREDENTIALS}/{name} (root's, mode 600), then: {_AGAIN}"
        return Finding.failed(f"the service is given no credential {name}, which {keys} names", repair)
    if unnamed := sorted(name for name in found.files or () if not _NAME.fullmatch(name)):
        repair = f"sudo mv {shlex.quote(f'{CREDENTIALS}/{unnamed[0]}')} {CREDENTIALS}/NAME"
        return Finding.degraded(f"no credential can be called so: {', '.join(unnamed)}", repair)
    if idle := sorted((there or set()) - set(found.given)):
        return Finding.degraded(f"in {CREDENTIALS}, and not given to the service yet: {', '.join(idle)}", _AGAIN)
    return Finding.ok(f"the service is given: {', '.join(sorted(found.given)) or 'no credentials'}")


def _is_gone(name: str, path: Path, there: Collection[str]) -> bool:
    return path.parent == CREDENTIALS and name not in there
