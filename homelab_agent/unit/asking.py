"""systemd, asked by its own commands, about the units of the agent."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from homelab_agent.core import process
from homelab_agent.core.errors import AgentError

SERVICE = "homelab-agent.service"
SOCKET = "homelab-agent.socket"
HALF = "homelab-agent-privileged.service"
HALF_SOCKET = "homelab-agent-privileged.socket"
RESUME = "homelab-agent-resume.service"
UNITS = (SERVICE, SOCKET, HALF, HALF_SOCKET, RESUME)
SERVICES = (SERVICE, HALF, RESUME)

PREFIX = Path("/opt/homelab-agent")
_PROPERTIES = (
    "Id,LoadState,ActiveState,SubState,UnitFileState,FragmentPath,DropInPaths,NeedDaemonReload,MainPID,"
    "ExecMainStatus,Result"
)
_SECONDS = 20.0
_SCORE = re.compile(r"exposure level for (\S+): ([\d.]+) (\w+)")


class SystemdSilent(AgentError):
    """systemd does not tell of its units: {said}."""

    repair = "systemctl status homelab-agent"


@dataclass(frozen=True, slots=True)
class Unit:
    """One unit, as systemd has it now; `text` is its file, `drop_ins` by path, `release` the file of the release."""

    name: str
    properties: Mapping[str, str]
    text: str = ""
    drop_ins: Mapping[str, str] = field(default_factory=dict)
    release: str | None = None

    @property
    def is_there(self) -> bool:
        """Whether there is such a unit."""
        return self.properties.get("LoadState") == "loaded"


@dataclass(frozen=True, slots=True)
class Running:
    """The program that the service runs: the first word of its command line."""

    program: Path


async def units() -> Mapping[str, Unit]:
    """Return the units of the agent by name; raises `SystemdSilent`, `process.ProgramMissing`."""
    done = await process.run(["systemctl", "show", f"--property={_PROPERTIES}", *UNITS], deadline=_SECONDS)
    if done.code:
        raise SystemdSilent(said=done.stderr.decode(errors="replace").strip())
    blocks = done.stdout.decode(errors="replace").strip().split("\n\n")
    shown = [dict(line.split("=", 1) for line in block.splitlines() if "=" in line) for block in blocks]
    found = await asyncio.to_thread(lambda: [_unit(each) for each in shown])
    return {unit.name: unit for unit in found}


async def exposure(names: Sequence[str]) -> Mapping[str, float]:
    """Return of each service how exposed systemd-analyze finds it: 0 is not at all, 10 is wholly.

    Raises `SystemdSilent`, `process.ProgramMissing`.
    """
    found = {}
    for name in names:
        done = await process.run(["systemd-analyze", "security", "--no-pager", name], deadline=_SECONDS)
        score = _SCORE.search(done.stdout.decode(errors="replace"))
        if score is None:
            said = done.stderr.decode(errors="replace").strip() or f"systemd-analyze gives no score for {name}"
            raise SystemdSilent(said=said)
        found[name] = float(score[2])
    return found


async def running(unit: Unit) -> Running | None:
    """Return what the service runs; None where it does not run."""
    pid = unit.properties.get("MainPID", "0")
    if pid == "0":
        return None
    try:
        words = await asyncio.to_thread(Path(f"/proc/{pid}/cmdline").read_bytes)
    except OSError:
        return None
    return Running(Path(words.split(b"\0")[0].decode(errors="replace")))


def _unit(shown: Mapping[str, str]) -> Unit:
    name = shown.get("Id", "")
    paths = shown.get("DropInPaths", "").split()
    release = _text(PREFIX / "current/units" / name)
    return Unit(
        name,
        shown,
        text=_text(Path(shown.get("FragmentPath") or "/nowhere")) or "",
        drop_ins={path: _text(Path(path)) or "" for path in paths},
        release=release,
    )


def _text(path: Path) -> str | None:
    with suppress(OSError):
        return path.read_text(errors="replace")
    return None
