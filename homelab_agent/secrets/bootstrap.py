"""From a machine that has the program `bao` to a server that serves and an agent that may read: step by step.

A step looks whether what it makes is there; then it is left as it is. So the same command may be given again at any
time: it goes on where it was cut short, and changes nothing where all is well. Of each file the whole is there, or
nothing. The two secret ids are derived from the unseal key: with that one file, and a snapshot, a new machine has all.
"""

from __future__ import annotations

import asyncio
import grp
import hashlib
import hmac
import os
import pwd
import re
import secrets
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from homelab_agent.core import process
from homelab_agent.core.errors import AgentError, Exit
from homelab_agent.secrets import installation
from homelab_agent.secrets.bao import Program
from homelab_agent.secrets.first_start import Runner, Store
from homelab_agent.secrets.installation import (
    AGENT_SECRET_ID,
    CONFIGURATION,
    OPERATOR_SECRET_ID,
    POLICY,
    UNSEAL_KEY,
    Installation,
)
from homelab_agent.secrets.runner import UNIT, Child, CommandFails, Unit, command

SYSTEMD = Path("/run/systemd/system")
"""There where systemd is PID 1 (sd_booted(3))."""

_UNITS = Path("/etc/systemd/system")
_AGENT_UNIT = "homelab-agent.service"
_AGENT_DROP_IN = f"""\
# By `homelab-agent secrets bootstrap`: what the agent logs in to OpenBao with, and its way to the socket.
[Unit]
Wants={UNIT}
After={UNIT}

[Service]
LoadCredential=openbao-secret-id:{{secret_id}}
SupplementaryGroups={{group}}
"""
_PLAIN = re.compile(r"[\w./+@:-]+", re.ASCII)


class PlaceNotPlain(AgentError):
    """The directory {directory} has characters in its name that OpenBao's configuration would take for its own."""

    repair = "choose another one: --directory PATH"
    exit_code = Exit.USAGE


class AnotherOpenBao(AgentError):
    """There is an OpenBao here already, with {what}."""

    repair = (
        "log in there: set url, role_id and secret_id in [secrets], see docs/secrets.md; "
        "or begin another one beside it: --directory PATH --port PORT"
    )


class UnsealKeyGone(AgentError):
    """{key} is not there, and the store in {store} is encrypted with it."""

    repair = "put it back from where it is kept, then give the same command again"


@dataclass(frozen=True, slots=True)
class Step:
    """Something that is to be there: `what` in words; `make` makes it."""

    what: str
    is_there: Callable[[], bool]
    make: Callable[[], Awaitable[None]]


@dataclass(frozen=True, slots=True)
class House:
    """Where all goes: `is_unit` says that systemd runs the server; the agent is the user `reader`."""

    at: Installation
    program: Path
    is_unit: bool
    reader: int

    @property
    def key(self) -> Path:
        """The unseal key, readable."""
        return self.at.configuration / UNSEAL_KEY

    @property
    def sealed_key(self) -> Path:
        """The unseal key as only this machine can read it (systemd-creds(1))."""
        return self.at.configuration / f"{UNSEAL_KEY}.cred"

    @property
    def loads_sealed_key(self) -> bool:
        """Whether the unit, with what is added to it, loads the sealed key, and nowhere the readable one."""
        files = [_UNITS / UNIT, *(_UNITS / f"{UNIT}.d").glob("*.conf")]
        lines = [line.strip() for file in files if file.exists() for line in file.read_text().splitlines()]
        return f"LoadCredentialEncrypted={UNSEAL_KEY}:{self.sealed_key}" in lines and not any(
            line.startswith(f"LoadCredential={UNSEAL_KEY}:") for line in lines
        )

    @property
    def command(self) -> list[str]:
        """The command that runs the server where there is no unit."""
        return [str(self.program), "server", f"-config={self.at.configuration / CONFIGURATION}"]

    @property
    def is_for_agent_unit(self) -> bool:
        """Whether the agent, too, is a unit, so that it can be given a credential."""
        places = (_UNITS, Path("/usr/local/lib/systemd/system"), Path("/usr/lib/systemd/system"))
        return self.is_unit and any((place / _AGENT_UNIT).exists() for place in places)

    @property
    def settings(self) -> dict[str, str]:
        """What belongs into `[secrets]`."""
        file = f"file:{self.at.configuration / AGENT_SECRET_ID}"
        return {
            "url": f"unix:{self.at.socket}",
            "role_id": "homelab-agent",
            "secret_id": "credential:openbao-secret-id" if self.is_for_agent_unit else file,
        }


def house(program: Program, directory: Path | None, port: int, *, default: Path, reader: int) -> House:
    """Return where all goes: as OpenBao's packages have it where systemd runs and we are root, else a directory.

    `reader` is the number of the agent's user. Raises `PlaceNotPlain`.
    """
    if directory is None and os.geteuid() == 0 and SYSTEMD.is_dir():
        return House(Installation(port=port, cluster_port=port + 1), program.path, is_unit=True, reader=reader)
    below = (directory or default).absolute()
    if not _PLAIN.fullmatch(str(below)):
        raise PlaceNotPlain(directory=below)
    agent = pwd.getpwuid(reader)
    at = Installation(
        configuration=below,
        state=below,
        socket=below / "openbao.sock",
        credentials=below,
        port=port,
        cluster_port=port + 1,
        owner=str(os.geteuid()),
        group=str(agent.pw_gid if os.geteuid() == 0 else os.getegid()),
    )
    return House(at, program.path, is_unit=False, reader=reader)


async def steps(house: House) -> list[Step]:
    """Return what has to be there, in order; raises `AnotherOpenBao`, `UnsealKeyGone`, and looks only."""
    store = Store(house.at)
    await _see_whose(house, store)
    return [*_files(house), *_systemd(house), _started(house, store)]


async def _see_whose(house: House, store: Store) -> None:
    """Raise for a server or store that is not ours, or that cannot be opened any more."""
    if not _is_ours(house.at.configuration / CONFIGURATION):
        if store.exists:
            raise AnotherOpenBao(what=f"the store {store.directory}")
        if house.is_unit:
            with suppress(CommandFails):
                await command("systemctl", "is-active", "--quiet", UNIT)
                raise AnotherOpenBao(what=f"the unit {UNIT}, which runs with a configuration of its own")
    if store.exists and not (house.key.exists() or house.sealed_key.exists()):
        raise UnsealKeyGone(key=house.key, store=store.directory)


def _files(house: House) -> list[Step]:
    at = house.at
    own = house.reader if os.geteuid() == 0 and not house.is_for_agent_unit else -1

    def delivered(name: str) -> Callable[[], str]:
        return (installation.DELIVERED / name).read_text

    def derived(name: str) -> Callable[[], str]:
        return lambda: _derived(house, name)

    return [
        *([_account(at)] if house.is_unit else []),
        _directory(at.configuration),
        Step(f"the configuration {at.configuration / CONFIGURATION}", *_configuration(at)),
        _file("the agent's policy", at.configuration / POLICY, delivered(POLICY), mode=0o644),
        _unseal_key(house),
        _file("the agent's secret id", at.configuration / AGENT_SECRET_ID, derived(AGENT_SECRET_ID), owner=own),
        _file("the operator's secret id", at.configuration / OPERATOR_SECRET_ID, derived(OPERATOR_SECRET_ID)),
    ]


def _derived(house: House, name: str) -> str:
    if not house.key.exists():
        raise UnsealKeyGone(key=house.key, store=house.at.state)
    return hmac.new(house.key.read_bytes(), name.encode(), hashlib.sha256).hexdigest()


def _systemd(house: House) -> list[Step]:
    if not house.is_unit:
        return []
    found = []
    if process.find("systemd-creds"):
        what = f"the unseal key, encrypted for this machine, {house.sealed_key}"
        found.append(Step(what, house.sealed_key.exists, lambda: _seal(house)))
    found.append(_file("the unit", _UNITS / UNIT, lambda: _unit(house), mode=0o644, after=reload))
    if house.is_for_agent_unit:
        secret_id = house.at.configuration / AGENT_SECRET_ID
        text = _AGENT_DROP_IN.format(secret_id=secret_id, group=house.at.group)
        drop_in = _UNITS / f"{_AGENT_UNIT}.d" / "openbao.conf"
        found.append(_file("the agent's way to it", drop_in, lambda: text, mode=0o644, after=reload))
    return found


def _started(house: House, store: Store) -> Step:
    runner: Runner = Unit() if house.is_unit else Child(house.command, house.at.configuration, store.serves)

    def is_there() -> bool:
        if not store.is_finished or not (house.at.configuration / AGENT_SECRET_ID).exists():
            return False
        return store.lets_agent_in() if store.serves() else not house.is_unit

    return Step(f"the store {store.directory}, which lets the agent in", is_there, lambda: store.finish(runner))


def _account(at: Installation) -> Step:
    def is_there() -> bool:
        with suppress(KeyError):
            pwd.getpwnam(at.owner)
            grp.getgrnam(at.group)
            return True
        return False

    async def make() -> None:
        await command("systemd-sysusers", "--inline", f'u {at.owner} - "OpenBao" {at.state}')

    return Step(f"the account {at.owner}", is_there, make)


def _unseal_key(house: House) -> Step:
    def is_there() -> bool:
        return house.key.exists() or house.sealed_key.exists()

    def make() -> None:
        installation.write(house.key, secrets.token_hex(32), mode=0o600)

    return Step(f"the unseal key {house.key}", is_there, _blocking(make))


def _configuration(at: Installation) -> tuple[Callable[[], bool], Callable[[], Awaitable[None]]]:
    path = at.configuration / CONFIGURATION

    def make() -> None:
        if path.exists():  # the one of OpenBao's package
            path.rename(path.with_name(f"{CONFIGURATION}.before-homelab-agent"))
        installation.write(path, at.text(), mode=0o644)

    return lambda: _is_ours(path), _blocking(make)


def _is_ours(configuration: Path) -> bool:
    return configuration.exists() and 'initialize "homelab"' in configuration.read_text()


def _unit(house: House) -> str:
    text = (installation.DELIVERED / UNIT).read_text().replace("/usr/bin/bao", str(house.program))
    if house.sealed_key.exists():
        plain = f"LoadCredential={UNSEAL_KEY}:{house.key}"
        text = text.replace(plain, f"LoadCredentialEncrypted={UNSEAL_KEY}:{house.sealed_key}")
    return text


async def _seal(house: House) -> None:
    fresh = house.sealed_key.with_suffix(".new")
    await command("systemd-creds", "encrypt", f"--name={UNSEAL_KEY}", str(house.key), str(fresh))
    await asyncio.to_thread(installation.put, fresh, house.sealed_key)


async def reload() -> None:
    """Have systemd read its units again."""
    await command("systemctl", "daemon-reload")


def _directory(path: Path) -> Step:
    def make() -> None:
        path.mkdir(mode=0o711, parents=True, exist_ok=True)

    return Step(f"the directory {path}", path.is_dir, _blocking(make))


def _blocking(call: Callable[[], None]) -> Callable[[], Awaitable[None]]:
    async def make() -> None:
        await asyncio.to_thread(call)

    return make


def _file(
    what: str,
    path: Path,
    text: Callable[[], str],
    *,
    mode: int = 0o600,
    owner: int = -1,
    after: Callable[[], Awaitable[None]] | None = None,
) -> Step:
    async def make() -> None:
        await asyncio.to_thread(lambda: installation.write(path, text(), mode=mode, owner=owner))
        if after is not None:
            await after()

    return Step(f"{what}, {path}", path.exists, make)
