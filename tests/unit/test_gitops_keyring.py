"""The secrets of the hooks: which are accepted now, how they are replaced, what is said of those that fail."""

from __future__ import annotations

import threading
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from homelab_agent.core import secret
from homelab_agent.core.health import Finding, State
from homelab_agent.core.journal.redaction import Redactor
from homelab_agent.core.secret import Secrets
from homelab_agent.gitops import signature
from homelab_agent.gitops.keyring import RENEW_SECONDS, Keyring
from homelab_agent.gitops.settings import Repository
from homelab_agent.gitops.signature import Key
from tests import hooks, payloads
from tests.clock import MovableClock, until

BODY = b"{}"
Make = Callable[..., Keyring]


@pytest.fixture
def clock() -> MovableClock:
    return MovableClock()


@pytest.fixture
def make(clock: MovableClock) -> Make:
    def make(*repositories: dict[str, Any]) -> Keyring:
        secrets = Secrets(Redactor(), clock)
        return Keyring(
            [Repository.model_validate(one) for one in repositories],
            secrets.find,
            clock,
        )

    return make


async def signers(keyring: Keyring, clock: MovableClock, value: str) -> tuple[Key, ...]:
    check = (await keyring.ring(clock.read().monotonic)).check()
    check.update(BODY)
    claimed = signature.read(payloads.sign(value, BODY))
    assert claimed is not None
    return check.signers(claimed)


async def finding(keyring: Keyring, state: State) -> Finding:
    found = await keyring.probe()
    assert found.state is state, found
    return found


async def test_every_secret_of_every_repository_is_a_key(make: Make, clock: MovableClock, tmp_path: Path) -> None:
    pair = [hooks.secret_in(tmp_path, "one", name="new"), hooks.secret_in(tmp_path, "two", name="old")]
    other = hooks.secret_in(tmp_path, "three", name="other")
    keyring = make(hooks.repository(secrets=pair), hooks.repository("second", secrets=[other]))
    assert await signers(keyring, clock, "one") == (Key("homelab", "new"),)
    assert await signers(keyring, clock, "two") == (Key("homelab", "old"),)
    assert await signers(keyring, clock, "three") == (Key("second", "other"),)
    assert (await finding(keyring, State.OK)).detail == "webhook secrets: 3"


async def test_without_any_secret_there_is_no_key_and_that_is_said(make: Make, clock: MovableClock) -> None:
    keyring = make(hooks.repository())
    assert not await keyring.ring(clock.read().monotonic)
    assert "every delivery is refused" in (await finding(keyring, State.DISABLED)).detail


async def test_a_replaced_value_is_accepted_beside_the_new_one_for_a_while(
    make: Make, clock: MovableClock, tmp_path: Path
) -> None:
    keyring = make(hooks.repository(secrets=[hooks.secret_in(tmp_path, "before")]))
    await keyring.probe()
    hooks.secret_in(tmp_path, "after")
    await keyring.probe()
    assert await signers(keyring, clock, "after") == (Key("homelab", "main"),)
    assert await signers(keyring, clock, "before") == (Key("homelab", "main", former=True),)
    await clock.advance(secret.OVERLAP_SECONDS + 2)
    assert await signers(keyring, clock, "before") == ()
    assert await signers(keyring, clock, "after") == (Key("homelab", "main"),)


async def test_what_fits_nothing_makes_the_secrets_be_read_again_but_not_each_time(
    make: Make, clock: MovableClock, tmp_path: Path
) -> None:
    keyring = make(hooks.repository(secrets=[hooks.secret_in(tmp_path, "before")]))
    assert await signers(keyring, clock, "before")
    hooks.secret_in(tmp_path, "after")
    await keyring.renew(clock.read().monotonic)
    assert await signers(keyring, clock, "after")
    hooks.secret_in(tmp_path, "later")
    await keyring.renew(clock.read().monotonic)
    assert not await signers(keyring, clock, "later")
    await clock.advance(RENEW_SECONDS)
    await keyring.renew(clock.read().monotonic)
    assert await signers(keyring, clock, "later")


async def test_a_secret_that_cannot_be_read_any_more_keeps_its_value_and_that_is_said(
    make: Make, clock: MovableClock, tmp_path: Path
) -> None:
    keyring = make(hooks.repository(secrets=[hooks.secret_in(tmp_path, "one")]))
    await finding(keyring, State.OK)
    (tmp_path / "secret-main").chmod(0o644)
    found = await finding(keyring, State.DEGRADED)
    assert "secret-main" in found.detail
    assert found.repair.startswith("chmod 600")
    assert await signers(keyring, clock, "one")
    (tmp_path / "secret-main").chmod(0o600)
    await finding(keyring, State.OK)


async def test_a_secret_that_never_could_be_read_is_no_key_until_it_can(
    make: Make, clock: MovableClock, tmp_path: Path
) -> None:
    section = hooks.secret_in(tmp_path, "one")
    (tmp_path / "secret-main").unlink()
    keyring = make(hooks.repository(secrets=[section]))
    assert not await keyring.ring(clock.read().monotonic)
    assert "secret-main" in (await finding(keyring, State.FAILED)).detail
    hooks.secret_in(tmp_path, "one")
    await finding(keyring, State.OK)
    assert await signers(keyring, clock, "one")


async def test_a_secret_that_is_no_reference_is_no_key_and_is_not_repeated(make: Make) -> None:
    keyring = make(hooks.repository(secrets=[{"name": "main", "secret": "fil:hunter2-hunter2"}]))
    found = await finding(keyring, State.FAILED)
    assert "hunter2" not in f"{found}"


async def test_a_secret_on_a_share_that_is_gone_keeps_nobody_waiting(clock: MovableClock, tmp_path: Path) -> None:
    answers = threading.Event()

    def slow(name: str) -> str:
        answers.wait(20)
        return name

    origins = {**secret.ORIGINS, "slow": secret.Local(slow)}
    secrets = [hooks.secret_in(tmp_path, "one"), {"name": "slow", "secret": "slow:two"}]
    keyring = Keyring(
        [Repository.model_validate(hooks.repository(secrets=secrets))],
        Secrets(Redactor(), clock, origins=origins).find,
        clock,
        read_seconds=0.1,
    )
    assert "in time" in (await finding(keyring, State.DEGRADED)).detail
    assert await signers(keyring, clock, "one")
    assert not await signers(keyring, clock, "two")
    await finding(keyring, State.DEGRADED)
    assert sum(thread.name == "secret" for thread in threading.enumerate()) == 1, "no second one for what hangs"
    answers.set()
    await until(lambda: not keyring._reading, "what hung has gone on")
    await finding(keyring, State.OK)
    assert await signers(keyring, clock, "two")


async def test_the_end_of_a_repositorys_last_secret_is_announced_and_then_said(
    make: Make, clock: MovableClock, tmp_path: Path
) -> None:
    today = clock.read().wall.date()
    old = hooks.secret_in(tmp_path, "one", name="old", expires=today + timedelta(days=20))
    keyring = make(hooks.repository(secrets=[old]))
    await finding(keyring, State.OK)
    clock.step(10 * 86400)
    assert f"until {old['expires']}" in (await finding(keyring, State.DEGRADED)).detail
    clock.step(11 * 86400)
    found = await finding(keyring, State.DEGRADED)
    assert f"expired on {old['expires']}" in found.detail
    assert found.repair
    new = hooks.secret_in(tmp_path, "two", name="new")
    await finding(make(hooks.repository(secrets=[old, new])), State.OK)
