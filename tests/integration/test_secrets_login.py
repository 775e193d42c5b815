"""Logging in to a real OpenBao: with each request, by role and token, by a token given; kept alive, and given up."""

from __future__ import annotations

import asyncio
import re
import traceback
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from homelab_agent.core.secret import Secrets
from homelab_agent.secrets import openbao as room
from homelab_agent.secrets.client import Client
from homelab_agent.secrets.errors import Denied, LogInRefused, Refused, TokenFaulty, TokenRefused, Unreachable
from homelab_agent.secrets.lease import HOLDS
from tests import clock, threads
from tests.clock import MovableClock
from tests.neighbours.openbao import OpenBao
from tests.openbao_client import Home

POSTGRES = "secret/homelab/postgres"
READ = "read secret/data/homelab/postgres"
LOG_IN = "update auth/approle/login"
LOOK = "read auth/token/lookup-self"
RENEW = "update auth/token/renew-self"
REVOKE = "update auth/token/revoke-self"


@pytest.fixture
def home(openbao: OpenBao, tmp_path: Path) -> Home:
    openbao.put("homelab/postgres", password="first-of-them")
    return Home(openbao, tmp_path)


@pytest.fixture
def hands() -> MovableClock:
    """The clock by which the agent of `still` lives: it stands still until the test moves it."""
    return MovableClock()


@pytest.fixture
def still(openbao: OpenBao, tmp_path: Path, hands: MovableClock) -> Home:
    openbao.put("homelab/postgres", password="first-of-them")
    return Home(openbao, tmp_path, hands)


@asynccontextmanager
async def kept_alive(client: Client) -> AsyncIterator[None]:
    """Let the client see to its log-in while the context lasts."""
    running = asyncio.create_task(client.run())
    try:
        yield
    finally:
        running.cancel()
        with suppress(asyncio.CancelledError):
            await running


async def later(hands: MovableClock, seconds: float) -> None:
    """Let the client look once, when so many seconds have passed: it asks in a thread, which no clock waits for."""
    hands.hang(seconds)
    await hands.advance(0)


async def test_inline_nothing_is_left_on_the_server(home: Home) -> None:
    async with home.asking(login="inline") as client, kept_alive(client):
        with home.asks("inline") as asked:
            for _ in range(3):
                await client.read(POSTGRES)
        assert asked == [READ] * 3
        assert client.standing() == "the role homelab-agent logs in with each request"
    assert home.tokens() == 0


async def test_by_role_there_is_one_log_in_for_all_requests_and_the_token_goes_with_the_agent(home: Home) -> None:
    with home.asks() as asked:
        async with home.asking(login="approle") as client:
            for _ in range(3):
                await client.read(POSTGRES)
            assert re.fullmatch(
                r"the role homelab-agent: token until \d{4}-\d\d-\d\d \d\d:\d\d:\d\d, renewed 0 times",
                client.standing(),
            )
    assert asked == [LOG_IN, READ, READ, READ, REVOKE]
    assert home.tokens() == 0


@pytest.mark.parametrize("way", ["inline", "approle"])
async def test_a_token_that_is_made_for_the_agent_is_masked_wherever_it_might_be_printed(home: Home, way: str) -> None:
    async with home.asking(login=way) as client:
        made = await client._ask(lambda session: session._logged_in().ask_with_token(lambda asking: str(asking.token)))
        assert re.fullmatch(r"s\.\w{20,}", made)
        try:
            raise OSError(f"X-Vault-Token: {made}")
        except OSError:
            assert made not in home.redactor.mask(traceback.format_exc())


async def test_a_token_is_renewed_and_replaced_before_its_maximum_age_and_no_read_is_refused(home: Home) -> None:
    home.openbao.role(token_ttl="4s", token_max_ttl="8s")
    with home.asks() as asked:
        async with home.asking(login="approle") as client, kept_alive(client):
            async with asyncio.timeout(40):
                while "renewed 0 times" in client.standing() or home.log_ins() < 2:
                    assert (await client.read(POSTGRES)).number == 1
                    await asyncio.sleep(0.05)
            assert (await client.read(POSTGRES)).number == 1
    assert not [one for one in asked if one.startswith("!")]
    assert asked.count(RENEW) >= 1
    assert LOOK not in asked


async def test_it_is_renewed_at_two_thirds_of_what_was_granted(still: Home, hands: MovableClock) -> None:
    async with still.asking(login="approle") as client, kept_alive(client):
        await clock.until(lambda: "token until" in client.standing(), "it has logged in")
        await clock.until(lambda: hands.sleepers == 1, "it waits for the time to renew")
        with still.asks() as asked:
            await later(hands, 1200 * (2 / 3 - 0.1) - 10)
            await clock.until(lambda: hands.sleepers == 1, "it has looked, and waits again")
        assert asked == []
        await later(hands, 1200 * 0.1 + 20)
        await clock.until(lambda: "renewed 1 times" in client.standing(), "it is renewed")


async def test_a_token_that_expired_while_the_host_slept_is_not_tried(still: Home, hands: MovableClock) -> None:
    async with still.asking(login="approle") as client:
        await client.read(POSTGRES)
        hands.suspend(1201)
        with still.asks() as asked:
            await client.read(POSTGRES)
        assert asked == [LOG_IN, READ]


async def test_a_clock_that_is_set_ends_no_lease(still: Home, hands: MovableClock) -> None:
    async with still.asking(login="approle") as client:
        await client.read(POSTGRES)
        with still.asks() as asked:
            for day in (86400, -2 * 86400):
                hands.step(day)
                await client.read(POSTGRES)
        assert asked == [READ, READ]


async def test_a_token_that_expired_before_its_time_is_found_out_once(still: Home) -> None:
    still.openbao.role(token_ttl="1s", token_max_ttl="1s")
    async with still.asking(login="approle") as client:
        await client.read(POSTGRES)
        await clock.until(lambda: still.tokens() == 0, "the server has forgotten the token")
        with still.asks() as asked:
            assert (await client.read(POSTGRES)).number == 1
        assert asked == ["!" + READ, "!" + LOOK, LOG_IN, READ]


async def test_a_revoked_token_costs_one_look_one_log_in_and_one_retry(home: Home) -> None:
    async with home.asking(login="approle") as client:
        await client.read(POSTGRES)
        home.openbao.revoke()
        with home.asks() as asked:
            assert (await client.read(POSTGRES)).number == 1
            assert (await client.read(POSTGRES)).number == 1
        assert asked == ["!" + READ, "!" + LOOK, LOG_IN, READ, READ]


async def test_what_the_new_log_in_may_not_read_either_is_denied(home: Home) -> None:
    async with home.asking(login="approle") as client:
        await client.read(POSTGRES)
        home.openbao.policy('path "secret/data/other" { capabilities = ["read"] }')
        home.openbao.revoke()
        with home.asks() as asked, pytest.raises(Denied):
            await client.read(POSTGRES)
        assert asked == ["!" + READ, "!" + LOOK, LOG_IN, "!" + READ]


@pytest.mark.parametrize("way", ["inline", "approle"])
async def test_a_role_that_is_gone_is_said_and_left_alone_until_it_may_be_back(
    still: Home, hands: MovableClock, way: str
) -> None:
    async with still.asking(login=way) as client:
        await client.read(POSTGRES)
        still.openbao.delete_role()
        still.openbao.revoke()
        for _ in range(3):
            with pytest.raises(LogInRefused, match="does not let the role homelab-agent in"):
                await client.read(POSTGRES)
        before = len(still.openbao.requests())
        for _ in range(10):
            with pytest.raises(LogInRefused, match=r"tried again at \d\d:\d\d:30, or with another secret id"):
                await client.read(POSTGRES)
        assert len(still.openbao.requests()) - before == (0 if way == "inline" else 20)  # the read and the look
        still.restore_role()
        hands.hang(HOLDS[0] + 1)
        assert (await client.read(POSTGRES)).number == 1


@pytest.mark.parametrize("way", ["inline", "approle"])
async def test_a_new_secret_id_is_taken_at_once(home: Home, way: str) -> None:
    async with home.asking(login=way) as client:
        await client.read(POSTGRES)
        home.destroy_secret_id()
        home.openbao.revoke()
        for _ in range(2):
            with pytest.raises(LogInRefused, match="invalid role or secret ID"):
                await client.read(POSTGRES)
        home.write(home.secret_id, home.openbao.new_secret_id())
        assert (await client.read(POSTGRES)).number == 1


@pytest.mark.parametrize("way", ["inline", "approle"])
async def test_a_role_that_is_locked_out_is_a_log_in_that_is_refused(home: Home, way: str) -> None:
    async with home.asking(login=way) as client:
        with home.locked_out(), pytest.raises(LogInRefused, match="permission denied"):
            await client.read(POSTGRES)


async def test_a_given_token_is_used_renewed_and_not_revoked(still: Home, hands: MovableClock) -> None:
    token = still.openbao.log_in()
    still.write(still.token, token)
    with still.asks() as asked:
        async with still.asking(token=f"file:{still.token}") as client, kept_alive(client):
            assert (await client.read(POSTGRES)).number == 1
            await clock.until(lambda: hands.sleepers == 1, "it waits for the time to renew")
            await later(hands, 1200)
            await clock.until(lambda: "renewed 1 times" in client.standing(), "it is renewed")
    assert asked == [LOOK, READ, RENEW]
    assert still.tokens() == 1


async def test_a_given_token_that_is_dead_is_read_again(home: Home) -> None:
    token = home.openbao.log_in()
    home.write(home.token, token)
    async with home.asking(token=f"file:{home.token}") as client:
        await client.read(POSTGRES)
        home.openbao.revoke(token)
        for _ in range(2):
            with pytest.raises(TokenRefused, match="does not accept the token file:"):
                await client.read(POSTGRES)
        home.write(home.token, home.openbao.log_in())
        with home.asks() as asked:
            assert (await client.read(POSTGRES)).number == 1
        assert asked == ["!" + READ, "!" + LOOK, LOOK, READ]


async def test_a_given_token_that_takes_the_place_of_a_dead_one_is_renewed_as_that_was(
    still: Home, hands: MovableClock
) -> None:
    dead = still.openbao.log_in()
    still.openbao.revoke(dead)
    still.write(still.token, dead)
    async with still.asking(token=f"file:{still.token}") as client, kept_alive(client):
        await clock.until(lambda: hands.sleepers == 1, "it has met the dead one")
        still.write(still.token, still.openbao.log_in())
        assert (await client.read(POSTGRES)).number == 1
        await later(hands, 1200 - 120)
        await clock.until(lambda: "renewed 1 times" in client.standing(), "it is renewed")


@pytest.mark.parametrize("more", ["\nsecond-line", " and more", "\r\nX-Evil: 1", "ö"])
async def test_a_token_with_more_around_it_is_no_token_and_not_repeated(home: Home, more: str) -> None:
    home.write(home.token, home.openbao.log_in() + more)
    async with home.asking(token=f"file:{home.token}") as client:
        with pytest.raises(TokenFaulty) as error:
            await client.read(POSTGRES)
    assert not isinstance(error.value, Refused), "nobody was asked who could have"
    assert more.strip() not in "".join(traceback.format_exception(error.value))


async def test_a_given_token_may_be_unable_to_look_at_itself(home: Home) -> None:
    home.openbao.policy('path "secret/data/homelab/postgres" { capabilities = ["read"] }')
    home.write(home.token, home.openbao.log_in())
    async with home.asking(token=f"file:{home.token}") as client:
        assert (await client.read(POSTGRES)).number == 1
        with pytest.raises(TokenRefused):  # it cannot be told from one that is dead
            await client.read("secret/homelab/other")
        assert (await client.read(POSTGRES)).number == 1


async def test_while_the_server_is_away_the_log_in_is_tried_again_and_that_is_said_once(home: Home) -> None:
    home.openbao.kill()
    with capture_logs() as logged:
        async with home.asking(login="approle", poll=1) as client, kept_alive(client):
            await clock.until(lambda: logged, "it says that it cannot log in")
            await asyncio.to_thread(home.openbao.start)
            await clock.until(lambda: "token until" in client.standing(), "it has logged in")
    assert [one["event"] for one in logged] == ["secrets.log_in_failed", "secrets.logged_in"]


async def test_a_log_in_that_fails_as_nobody_expected_goes_on_when_it_is_run_again(
    home: Home,
) -> None:
    bao = room.add(home.settings(login="approle"), Secrets(home.redactor), home.directory, home.clock)
    assert bao is not None
    with threads.no_more(), pytest.raises(RuntimeError):
        await bao.log_in()
    running = asyncio.create_task(bao.log_in())
    await clock.until(lambda: "token until" in bao.client.standing(), "it has logged in")
    running.cancel()
    with suppress(asyncio.CancelledError):
        await running
    assert home.tokens() == 0
    with pytest.raises(Unreachable, match="the agent is stopping"):
        await bao.client.read(POSTGRES)
