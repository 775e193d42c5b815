"""Each thing that an operator wants to be told of is a check by that name, and is told with what mends it.

What a check finds is found by its own code; where that needs a whole neighbour, by the part of it that judges.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Awaitable, Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from homelab_agent.backup import service as backup
from homelab_agent.backup.catalogue import Catalogue
from homelab_agent.backup.point import Archive
from homelab_agent.backup.settings import BackupSet, BackupSettings
from homelab_agent.core.clock import SystemClock
from homelab_agent.core.foundation import Foundation
from homelab_agent.core.health import Finding, State
from homelab_agent.gate import exposure, prerequisites, telling
from homelab_agent.gate import service as gate
from homelab_agent.gate.policy import Gate
from homelab_agent.gate.settings import GateSettings
from homelab_agent.gate.watch import Found
from homelab_agent.gitops import keyring, signature
from homelab_agent.metrics import space
from homelab_agent.metrics.forecast import Forecast
from homelab_agent.metrics.host import Host
from homelab_agent.metrics.probes import Watch, check_name
from homelab_agent.metrics.settings import Probe
from tests import bao_house
from tests.agent import Agent
from tests.clock import until
from tests.integration.test_gitops_end_to_end import Site
from tests.neighbours import certificate
from tests.neighbours.git_remote import GitRemote
from tests.neighbours.github import GitHub
from tests.neighbours.ntfy import Message, Ntfy
from tests.neighbours.openbao import OpenBao
from tests.notified import AT_ONCE, Room, room, secret
from tests.pages import serving
from tests.unit.test_gate_prerequisites import DOOR, GOOD, NOW
from tests.waiting import until as wait

Finds = Callable[[Foundation, Path], Awaitable[Finding]]
KEEPER = GateSettings(funnel=True)


async def copies(base: Foundation, age: timedelta, *, drilled: timedelta | None = None) -> Finding:
    """Return how the set `photos` stands, whose newest copy is so old, and was proven so long ago."""
    settings = BackupSettings(set=[BackupSet(name="photos", paths=[Path("/srv/photos")])])
    catalogue = Catalogue(base.state, base.spool, base.clock, host=base.host)
    now = base.clock.read().wall
    old = [Archive(f"{one}", "archive", "photos", now - one, "crash", "0", 1, 1, 1) for one in {age, drilled or age}]
    await catalogue.rebuild("archive", old)
    check = next(one for one in backup.build(settings, base).checks if one.name == "backup.photos")
    assert check.probe is not None
    return await check.probe()


async def a_stale_copy(base: Foundation, _: Path) -> Finding:
    return await copies(base, timedelta(hours=50))


async def an_old_proof(base: Foundation, _: Path) -> Finding:
    return await copies(base, timedelta(hours=2), drilled=timedelta(weeks=6))


async def a_disk_that_is_full_soon(_base: Foundation, _: Path) -> Finding:
    return space.judged({"/srv": Forecast(2**30, 1.5)})


async def a_certificate_that_ends(_base: Foundation, directory: Path) -> Finding:
    ca = await asyncio.to_thread(certificate.make, directory)  # it is good for a week
    served = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    await asyncio.to_thread(served.load_cert_chain, directory / "server.pem", directory / "server.key")
    async with serving(200, tls=served) as page:
        probe = Probe(name="photos", target=page.url, ca=str(ca), certificate_days=30)
        return await Watch(probe, Host("nas"), SystemClock()).ask()


async def a_blocked_gate(base: Foundation, _: Path) -> Finding:
    missing = prerequisites.obstacles(replace(GOOD, capabilities=frozenset({"https"})), DOOR, NOW)[0]
    return stands(base, Gate(overlay="blocked", why=missing.what, repair=missing.repair))


async def a_node_key_that_ends(base: Foundation, _: Path) -> Finding:
    soon = prerequisites.obstacles(replace(GOOD, key_expiry=NOW + timedelta(days=3)), DOOR, NOW)
    base.door.open()
    return stands(base, Gate(phase="open"), Found("ours", warnings=tuple(soon)))


def stands(base: Foundation, at: Gate, found: Found | None = None) -> Finding:
    """Return what is told of the public door that stands so."""
    service = gate.Service(KEEPER, base, 8085)
    assert {"gate.funnel", exposure.CHECK} <= {check.name for check in service.capability().checks}
    keeper = service.public
    assert keeper is not None
    keeper.gate, keeper.watch.found = at, found or keeper.watch.found
    return telling.finding(keeper)


async def a_gate_that_is_open_too_long(_base: Foundation, _: Path) -> Finding:
    return exposure.finding(Gate(phase="open"), 3600, 3600)


async def a_webhook_secret_that_ends(_base: Foundation, _: Path) -> Finding:
    today = datetime.now(UTC).date()
    found = keyring.expiry([signature.Key("site", "main", today + timedelta(days=1))], today)
    assert found is not None
    return found


NAMED = [
    ("backup.photos", a_stale_copy, "degraded", "the newest copy is 50 hours old", "homelab-agent backup run photos"),
    ("backup.photos", an_old_proof, "degraded", "last proven restorable: never", "homelab-agent backup drill photos"),
    (space.CHECK, a_disk_that_is_full_soon, "failed", "/srv is full in 1.5 days", "sudo du -xh"),
    (check_name(Probe(name="photos", target="x:1")), a_certificate_that_ends, "degraded", "good until", "renew it"),
    ("gate.funnel", a_blocked_gate, "failed", "does not let this node use Funnel", "nodeAttrs"),
    ("gate.funnel", a_node_key_that_ends, "degraded", "this node's key expires on", "sudo tailscale up"),
    (exposure.CHECK, a_gate_that_is_open_too_long, "degraded", "for more than 1 h", "homelab-agent gate close"),
    ("webhook", a_webhook_secret_that_ends, "degraded", "is accepted until", "put a new one beside it"),
]


@pytest.mark.parametrize(("check", "finds", "state", "cause", "repair"), NAMED)
async def test_what_a_check_finds_is_told_with_its_repair(
    tmp_path: Path, ntfy: Ntfy, check: str, finds: Finds, state: str, cause: str, repair: str
) -> None:
    section = {"target": [{"name": "phone", "url": secret(tmp_path, "phone", ntfy.url())}]}
    async with room(tmp_path, section, checks=(check,)) as house:
        found = await finds(house.base, tmp_path)
        assert found.state == state
        await told(house, ntfy, check, found)
    [one] = ntfy.messages
    assert one.title == f"nas: {check} is {state}"
    lines = dict(line.split(": ", 1) for line in one.message.splitlines() if ": " in line)
    assert cause in lines["Cause"]
    assert repair in lines["Repair"]


async def told(house: Room, ntfy: Ntfy, check: str, found: Finding) -> Message:
    """Have a check find this, and return what is told next."""
    before = len(ntfy.messages)
    house.report(check, found)
    await until(lambda: len(ntfy.messages) > before, f"{check} is told")
    return ntfy.messages[-1]


async def test_a_secret_that_is_rejected_and_one_that_is_stale_are_told(
    tmp_path: Path, ntfy: Ntfy, openbao: OpenBao, open_directory: Path
) -> None:
    async def refuses(_: str) -> None:
        raise ConnectionRefusedError("password authentication failed")

    async def takes(_: str) -> None:
        pass

    await asyncio.to_thread(openbao.put, "homelab/postgres", password="first-of-them")
    section = {"target": [{"name": "phone", "url": secret(tmp_path, "phone", ntfy.url())}]}
    async with room(tmp_path, section, checks=("secrets",)) as house, bao_house.house(openbao, open_directory) as bao:
        password = bao.find("postgres#password")
        await password.refresh()
        password.on_change(refuses, takes)
        await asyncio.to_thread(openbao.put, "homelab/postgres", password="second-of-them")
        await bao.look()
        rejected = await told(house, ntfy, "secrets", await bao.finding(State.DEGRADED))
        await asyncio.to_thread(openbao.stop)
        await bao.clock.advance(bao_house.MAX_STALE + 1)
        await bao.look()
        stale = await told(house, ntfy, "secrets", await bao.finding(State.FAILED))
    assert "openbao:secret/homelab/postgres#password does not work; the old one stays" in rejected.message
    assert "not to be used: openbao:secret/homelab/postgres#password" in stale.message
    assert "Repair: " in stale.message
    assert "of-them" not in rejected.message + stale.message


def notifying(agent: Agent, ntfy: Ntfy) -> None:
    """Have the agent tell at once."""
    graces = "".join(f"{key} = {value}\n" for key, value in AT_ONCE.items())
    reference = secret(agent.directory, "phone", ntfy.url())
    with agent.config.open("a") as file:
        file.write(f'\n[notify]\n{graces}\n[[notify.target]]\nname = "phone"\nurl = "{reference}"\n')


def message(ntfy: Ntfy, check: str) -> Message:
    """Wait until a check is told, and return the message about it."""

    def found() -> list[Message]:
        return [one for one in ntfy.messages if f"{check} is " in one.message]

    return wait(found, f"{check} is told", seconds=60)[0]


@pytest.mark.timeout(180)
def test_a_push_whose_deployment_fails_is_told(
    agent: Agent, git_remote: GitRemote, github: GitHub, open_directory: Path, ntfy: Ntfy
) -> None:
    site = Site(agent, git_remote, github, open_directory)
    site.configure(actions=[site.writing("site", "site/**", then="! grep -q broken site/index.html")])
    notifying(agent, ntfy)
    agent.start()
    _, answer = site.push({"site/index.html": "broken\n"})
    assert site.verdict(answer)["verdict"] == "action_failed"
    one = message(ntfy, "gitops.site")
    assert "Cause: action_failed: " in one.message
    assert "Repair: homelab-agent gitops rollback site" in one.message


@pytest.mark.timeout(180)
def test_a_backup_that_fails_a_gate_that_is_blocked_and_a_secret_that_is_missing_are_told(
    agent: Agent, open_directory: Path, ntfy: Ntfy
) -> None:
    agent.write(
        f'[backup]\ndirectory = "{open_directory}/copies"\nrecords = "{open_directory}/records"\nschedule = ""\n'
        f'docker = "{open_directory}/docker.sock"\n\n'
        f'[[backup.set]]\nname = "photos"\npaths = ["{open_directory}/nowhere"]\n\n'
        f'[gate]\nfunnel = true\nsocket = "{open_directory}/tailscaled.sock"\n\n'
        f'[gitops]\npoll = 0\n\n[[gitops.repository]]\nname = "site"\nfull_name = "octo/site"\n'
        f'directory = "{open_directory}/site"\n\n[[gitops.repository.secret]]\nname = "main"\n'
        f'secret = "file:{open_directory}/hook-secret"\n',
        database="postgresql://nobody@127.0.0.1:9/none",
    )
    notifying(agent, ntfy)
    agent.start()
    assert agent.run("backup", "run", "photos", seconds=120).returncode == 1
    for check, cause, repair in (
        ("backup.photos", "Docker does not answer", "systemctl status docker"),
        ("gate.funnel", "tailscaled", "systemctl start tailscaled"),
        ("webhook", "hook-secret is not there", "hook-secret"),
    ):
        about = message(ntfy, check).message
        about = about[about.index(f"{check} is ") :].partition("\n\n")[0]
        assert about.startswith(f"{check} is failed")
        assert cause in about
        assert repair in about.partition("Repair: ")[2]
