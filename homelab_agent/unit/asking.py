"""systemd, asked by its own commands, about the units of the agent."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Collection, Mapping
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
RELEASED = PREFIX / "current/units"
CREDENTIALS = Path("/etc/homelab-agent/credentials")
_ON_THE_BUS = (
    "org.freedesktop.systemd1",
    "/org/freedesktop/systemd1/unit/homelab_2dagent_2eservice",
    "org.freedesktop.systemd1.Service",
)
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
class Sandbox:
    """How exposed systemd finds a service: its `score` of 10, and what of that each directive leaves open.

    `released` is the same of the release's unit alone, None where there is no release.
    """

    score: float
    open: Mapping[str, float]
    released: Mapping[str, float] | None = None


@dataclass(frozen=True, slots=True)
class Credentials:
    """What the service is `given`, by name, as systemd has it, and the `files` that there are for it.

    `files` is None for who may not look.
    """

    given: Mapping[str, Path]
    files: Collection[str] | None


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


async def sandbox(name: str) -> Sandbox:
    """Return how confined a service is, and would be without a drop-in.

    Raises `SystemdSilent`, `process.ProgramMissing`.
    """
    done = await _analyze(name)
    score = _SCORE.search(done.stdout.decode(errors="replace"))
    if score is None:
        said = done.stderr.decode(errors="replace").strip() or f"systemd-analyze gives no score for {name}"
        raise SystemdSilent(said=said)
    has_release = await asyncio.to_thread((RELEASED / name).exists)
    return Sandbox(float(score[2]), await left_open(name), await left_open(name, RELEASED) if has_release else None)


async def left_open(name: str, units: Path | None = None) -> Mapping[str, float]:
    """Return what each directive leaves open of a service, by systemd-analyze's name for it; not what is closed.

    With `units` it is asked of the files in that directory, its drop-ins among them, and of no other. Raises
    `SystemdSilent`, `process.ProgramMissing`.
    """
    words = ["--json=short", name] if units is None else ["--json=short", "--offline=true", str(units / name)]
    done = await _analyze(*words)
    try:
        found = json.loads(done.stdout)
    except ValueError:
        raise SystemdSilent(said=done.stderr.decode(errors="replace").strip()) from None
    return {one["json_field"]: float(one["exposure"]) for one in found if one["exposure"] is not None}


async def _analyze(*words: str) -> process.Completed:
    only_these = {"SYSTEMD_UNIT_PATH": ""}  # beside the directory of a file that is named
    argv = ["systemd-analyze", "security", "--no-pager", *words]
    return await process.run(argv, deadline=_SECONDS, env=only_these)


async def credentials() -> Credentials:
    """Return what the service is given, which systemctl cannot print; raises `SystemdSilent`, `ProgramMissing`."""
    asked = ("LoadCredential", "LoadCredentialEncrypted")
    words = ["busctl", "--json=short", "get-property", *_ON_THE_BUS, *asked]
    done = await process.run(words, deadline=_SECONDS)
    if done.code:
        raise SystemdSilent(said=done.stderr.decode(errors="replace").strip())
    given = [pair for line in done.stdout.splitlines() for pair in json.loads(line)["data"]]
    return Credentials({name: Path(path) for name, path in given}, await asyncio.to_thread(_files_in, CREDENTIALS))


def _files_in(directory: Path) -> Collection[str] | None:
    try:
        return {path.name for path in directory.iterdir()}
    except FileNotFoundError:
        return set()
    except OSError:
        return None


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
    release = _text(RELEASED / name)
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
