"""New values and outages, as whoever uses a secret meets them: a real OpenBao, and a real PostgreSQL."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from homelab_agent.core.errors import AgentError
from homelab_agent.core.health import State
from homelab_agent.core.journal.redaction import MASK
from homelab_agent.core.secret import Outcome, SecretRefused, SecretStale
from homelab_agent.database.database import Database
from homelab_agent.database.settings import DatabaseSettings
from homelab_agent.gitops.keyring import Keyring
from homelab_agent.gitops.settings import Repository
from homelab_agent.secrets.errors import CannotAsk, Denied, KeyAbsent, VersionDeleted, VersionDestroyed
from tests import bao_house, hooks
from tests.asked_database import asked, without_password
from tests.bao_house import MAX_STALE, House
from tests.clock import until
from tests.neighbours.openbao import OpenBao
from tests.neighbours.postgres import Postgres

DATA, METADATA = "secret/data/homelab/hook", "secret/metadata/homelab/hook"


@pytest.fixture
async def house(openbao: OpenBao, open_directory: Path) -> AsyncIterator[House]:
    await asyncio.to_thread(openbao.put, "homelab/hook", first="value-one", second="value-two")
    async with bao_house.house(openbao, open_directory) as here:
        yield here


async def test_what_many_ask_for_at_once_is_read_once(house: House) -> None:
    async def ask(number: int) -> str:
        secret = house.find("hook#first" if number % 2 else "hook#second")
        await secret.refresh()
        return secret.get()

    assert set(await asyncio.gather(*(ask(number) for number in range(200)))) == {"value-one", "value-two"}
    assert house.server.reads(DATA) == 1
    assert house.server.reads(METADATA) == 0


async def test_at_rest_a_look_asks_once_for_each_path_and_for_nothing_else(house: House) -> None:
    for name in ("hook#first", "hook#second"):
        await house.find(name).refresh()
    before = len(house.server.requests())
    for _ in range(3):
        await house.look()
        await house.finding(State.OK)
    noted = [request.path for request in house.server.requests()[before:]]
    assert noted == ["auth/approle/login", METADATA] * 3, "the log-in in a request is noted as one of its own"
    assert not house.changes


async def test_a_pinned_version_is_asked_for_itself(house: House) -> None:
    await house.find("hook#first@1").refresh()
    await house.look()
    assert (house.server.reads(DATA), house.server.reads(METADATA)) == (2, 0)
    await asyncio.to_thread(house.server.kill)
    await house.look()
    await house.finding(State.DEGRADED)
    await asyncio.to_thread(house.server.heal)
    await asyncio.to_thread(house.server.destroy, "homelab/hook", 1)
    await house.look()
    assert [type(trouble) for trouble in house.bao.troubles.values()] == [VersionDestroyed]


async def test_at_rest_nothing_changes(house: House) -> None:
    await house.find("hook#first").refresh()
    await house.look()
    assert not house.changes


async def test_a_new_version_is_adopted_by_the_next_look_and_the_old_one_accepted_for_a_while(house: House) -> None:
    secret = house.find("hook#first")
    await secret.refresh()
    assert await asyncio.to_thread(house.server.put, "homelab/hook", first="value-new", second="value-two") == 2
    await house.look()
    assert secret.accepted() == ("value-new", "value-one")
    assert house.redactor.mask("value-new") == MASK
    [change] = house.changes
    assert (change.references, change.version, change.outcome) == (
        ("openbao:secret/homelab/hook#first",),
        "2",
        Outcome.ADOPTED,
    )
    await house.clock.advance(301)
    assert secret.accepted() == ("value-new",)


async def test_a_pinned_version_stays(house: House) -> None:
    pinned = house.find("hook#first@1")
    await pinned.refresh()
    await asyncio.to_thread(house.server.put, "homelab/hook", first="value-new")
    await house.look()
    await house.clock.advance(2 * MAX_STALE)
    await house.look()
    assert pinned.get() == "value-one"


async def test_one_that_its_user_cannot_use_is_adopted_by_none_and_told_once(house: House) -> None:
    first, second = house.find("hook#first"), house.find("hook#second")
    adopted: list[str] = []

    async def refuses(_: str) -> None:
        raise OSError(13, "not this one")

    async def adopt(new: str) -> None:
        adopted.append(new)

    end = first.on_change(refuses, adopt)
    await first.refresh()
    await second.refresh()
    adopted.clear()
    await asyncio.to_thread(house.server.put, "homelab/hook", first="value-bad", second="value-too")
    for _ in range(3):
        await house.look()
        assert (first.get(), second.get(), adopted) == ("value-one", "value-two", [])
    assert [change.outcome for change in house.changes] == [Outcome.REFUSED]
    found = await house.finding(State.DEGRADED)
    assert "not this one" in found.detail
    end()
    await house.look()
    assert (first.get(), second.get()) == ("value-bad", "value-too")
    await house.finding(State.OK)


@pytest.mark.parametrize("fault", ["kill", "freeze", "seal"])
async def test_through_an_outage_the_last_known_values_serve_for_so_long_and_no_longer(
    house: House, fault: str
) -> None:
    await asyncio.to_thread(house.server.put, "homelab/other", value="value-two")
    secret, unread = house.find("hook#first"), house.find("other#value")
    await secret.refresh()
    await house.finding(State.OK)
    await asyncio.to_thread(getattr(house.server, fault))
    with pytest.raises(CannotAsk):
        await unread.refresh()
    await house.look()
    found = await house.finding(State.FAILED)  # what was never read cannot be used
    assert "openbao:secret/homelab/other#value" in found.detail
    assert found.repair
    assert secret.get() == "value-one"
    await house.clock.advance(MAX_STALE)
    with pytest.raises(SecretStale):
        secret.get()
    await asyncio.to_thread(house.server.heal)
    await house.look()
    assert (secret.get(), unread.get()) == ("value-one", "value-two")
    await house.finding(State.OK)


async def test_an_outage_is_told_with_the_age_of_what_is_used(house: House) -> None:
    await house.find("hook#first").refresh()
    await asyncio.to_thread(house.server.kill)
    await house.look()
    found = await house.finding(State.DEGRADED)
    assert "60 s old" in found.detail
    await house.clock.advance(MAX_STALE)
    await house.finding(State.FAILED)


async def test_what_is_wrong_with_one_path_is_told_and_its_old_value_stays(house: House) -> None:
    secret = house.find("hook#first")
    await secret.refresh()
    faults: list[tuple[str, tuple[str, ...], type[AgentError]]] = [
        ("put_without", (), KeyAbsent),
        ("delete", ("homelab/hook",), VersionDeleted),
        ("policy", ('path "secret/data/other" { capabilities = ["read"] }',), Denied),
    ]
    for name, given, error in faults:
        if name == "put_without":
            await asyncio.to_thread(house.server.put, "homelab/hook", second="alone")
        else:
            await asyncio.to_thread(getattr(house.server, name), *given)
        await house.look()
        assert {type(trouble) for trouble in house.bao.troubles.values()} == {error}
        found = await house.finding(State.DEGRADED)
        assert found.repair
        assert found.about == set(house.bao.troubles)
        assert secret.get() == "value-one"


async def test_a_new_password_of_postgresql_is_taken_over_and_no_query_fails(
    house: House, postgres: Postgres, tmp_path: Path
) -> None:
    await asyncio.to_thread(house.server.put, "homelab/postgres", password=postgres.password)
    reference = "openbao:secret/homelab/postgres#password"
    settings = DatabaseSettings(url=without_password(postgres.url), password=reference)
    database = Database(settings, house.secrets, directory=tmp_path, clock=house.clock)
    running = asyncio.create_task(database.run())
    await asyncio.wait_for(database.wait_until_up(), 30)
    async with asked(database) as client:
        for number in range(3):
            before = client.answered
            new = f"rotated-password-{number}"
            await asyncio.to_thread(house.server.put, "homelab/postgres", password=new)
            await house.look()
            assert isinstance(house.bao.troubles[reference], SecretRefused), "the server does not know it yet"
            await asyncio.to_thread(postgres.change_password, new)
            await house.look()
            assert not house.bao.troubles
            await client.goes_on(before, 100)
        assert not client.failed
    running.cancel()
    await asyncio.wait([running])
    assert [change.outcome for change in house.changes] == [Outcome.REFUSED, Outcome.ADOPTED] * 3


async def test_user_and_password_of_one_path_change_together(house: House, postgres: Postgres, tmp_path: Path) -> None:
    await asyncio.to_thread(
        house.server.put, "homelab/postgres", url=without_password(postgres.url), password=postgres.password
    )
    where = "openbao:secret/homelab/postgres"
    settings = DatabaseSettings(url=f"{where}#url", password=f"{where}#password")
    database = Database(settings, house.secrets, directory=tmp_path, clock=house.clock)
    running = asyncio.create_task(database.run())
    await asyncio.wait_for(database.wait_until_up(), 30)
    another = without_password(postgres.url) + "&application_name=another"
    async with asked(database) as client:
        await asyncio.to_thread(postgres.change_password, "another-password")
        await asyncio.to_thread(house.server.put, "homelab/postgres", url=another, password="another-password")
        await house.look()
        assert not house.bao.troubles
        await client.goes_on(client.answered, 50)
        assert not client.failed
    running.cancel()
    await asyncio.wait([running])


async def test_who_is_logged_in_stays_so_when_the_password_is_stale_and_says_it(
    house: House, postgres: Postgres, tmp_path: Path
) -> None:
    await asyncio.to_thread(house.server.put, "homelab/postgres", password=postgres.password)
    settings = DatabaseSettings(url=without_password(postgres.url), password="openbao:secret/homelab/postgres#password")
    database = Database(settings, house.secrets, directory=tmp_path, clock=house.clock)
    running = asyncio.create_task(database.run())
    await asyncio.wait_for(database.wait_until_up(), 30)
    await asyncio.to_thread(house.server.kill)
    await house.look()
    assert database.stale() is None
    await house.clock.advance(MAX_STALE)
    assert isinstance(database.stale(), SecretStale)
    await database.ping()
    await asyncio.to_thread(house.server.heal)
    await house.look()
    assert database.stale() is None
    running.cancel()
    await asyncio.wait([running])


async def test_a_webhooks_secret_that_is_stale_is_no_key_any_more(house: House) -> None:
    entry = hooks.repository(secrets=[{"name": "main", "secret": "openbao:secret/homelab/hook#first"}])
    keyring = Keyring([Repository.model_validate(entry)], house.secrets.find, house.clock)
    assert await keyring.ring(house.clock.read().monotonic)
    await asyncio.to_thread(house.server.kill)
    await house.clock.advance(MAX_STALE + 1)
    assert not await keyring.ring(house.clock.read().monotonic)
    found = await keyring.probe()
    assert found.state is State.FAILED
    await asyncio.to_thread(house.server.heal)
    await house.look()
    await house.clock.advance(1)
    assert await keyring.ring(house.clock.read().monotonic)
    assert (await keyring.probe()).state is State.OK


async def test_a_database_waits_for_its_password_and_comes_up_when_openbao_does(
    house: House, postgres: Postgres, tmp_path: Path
) -> None:
    await asyncio.to_thread(house.server.put, "homelab/postgres", password=postgres.password)
    await asyncio.to_thread(house.server.kill)
    settings = DatabaseSettings(url=without_password(postgres.url), password="openbao:secret/homelab/postgres#password")
    database = Database(settings, house.secrets, directory=tmp_path, clock=house.clock)
    running = asyncio.create_task(database.run())
    await until(lambda: database.connection.state is State.FAILED, "it says why it does not come up")
    assert "OpenBao" in database.connection.detail
    await asyncio.to_thread(house.server.heal)
    await house.look()
    for _ in range(10):
        await house.clock.advance(5)
    await asyncio.wait_for(database.wait_until_up(), 30)
    running.cancel()
    await asyncio.wait([running])
