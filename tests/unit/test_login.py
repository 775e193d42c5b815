"""Links that work once, sessions that end, tokens that can be taken back: against a real state.db."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

import homelab_agent.web
from homelab_agent.core.journal.redaction import Redactor
from homelab_agent.core.secret import SecretMissing, Secrets
from homelab_agent.core.state import State, StateUnavailable
from homelab_agent.web import credentials as credentials_module
from homelab_agent.web import login
from homelab_agent.web.credentials import Credentials, Kind, TokenNameTaken
from homelab_agent.web.login import BadTokenName, LinkNotValid, Logins, NoSuchToken, TooManyFailures
from tests.clock import MovableClock

SCHEMA = Path(homelab_agent.web.__file__).parent / "schema" / "state.sql"
DAY = 86400.0


@pytest.fixture
def clock() -> MovableClock:
    return MovableClock()


@pytest.fixture
async def state(tmp_path: Path, clock: MovableClock) -> AsyncIterator[State]:
    opened = await State.open(tmp_path, [SCHEMA], clock=clock)
    yield opened
    await opened.close()


async def restarted(state: State, clock: MovableClock) -> Logins:
    """Return what a new process knows: nothing but what is in the file."""
    credentials = Credentials(state, clock)
    await credentials.load()
    return Logins(credentials, clock, session_age=30 * DAY)


@pytest.fixture
async def logins(state: State, clock: MovableClock) -> Logins:
    return await restarted(state, clock)


def cookie(session: str) -> str:
    return f"theme=dark; {login.COOKIE}={session}; other=1"


def recognise(logins: Logins, *, authorization: str = "", cookie: str = "", source: str = "192.0.2.1") -> str:
    return logins.recognise(authorization=authorization, cookie=cookie, source=source)


async def test_a_link_logs_in_once(logins: Logins) -> None:
    link, _ = await logins.new_link()
    assert logins.is_link(link)
    session = await logins.claim(link, "192.0.2.1")
    assert recognise(logins, cookie=cookie(session)) == "cookie"
    assert not logins.is_link(link)
    with pytest.raises(LinkNotValid):
        await logins.claim(link, "192.0.2.1")


async def test_of_many_who_claim_one_link_at_once_one_gets_in(logins: Logins) -> None:
    link, _ = await logins.new_link()
    claims = [logins.claim(link, f"192.0.2.{number}") for number in range(20)]
    outcomes = await asyncio.gather(*claims, return_exceptions=True)
    assert sum(isinstance(outcome, str) for outcome in outcomes) == 1
    assert sum(isinstance(outcome, LinkNotValid) for outcome in outcomes) == 19


async def test_a_link_is_not_valid_after_ten_minutes(logins: Logins, clock: MovableClock) -> None:
    link, _ = await logins.new_link()
    await clock.advance(599)
    assert logins.is_link(link)
    await clock.advance(1)
    with pytest.raises(LinkNotValid):
        await logins.claim(link, "192.0.2.1")


async def test_a_session_lasts_thirty_days_and_over_a_restart(
    logins: Logins, state: State, clock: MovableClock
) -> None:
    link, _ = await logins.new_link()
    session = await logins.claim(link, "192.0.2.1")
    later = await restarted(state, clock)
    assert recognise(later, cookie=cookie(session)) == "cookie"
    await clock.advance(30 * DAY - 1)
    assert recognise(later, cookie=cookie(session)) == "cookie"
    await clock.advance(1)
    assert recognise(later, cookie=cookie(session)) == ""


async def test_logging_out_ends_the_session_for_good(logins: Logins, state: State, clock: MovableClock) -> None:
    link, _ = await logins.new_link()
    session = await logins.claim(link, "192.0.2.1")
    await logins.log_out(session)
    await logins.log_out(session)
    assert recognise(logins, cookie=cookie(session)) == ""
    assert recognise(await restarted(state, clock), cookie=cookie(session)) == ""


async def test_a_token_works_until_it_is_revoked(logins: Logins, state: State, clock: MovableClock) -> None:
    token = await logins.add_token("prometheus")
    assert recognise(logins, authorization=f"Bearer {token}") == "token"
    assert recognise(await restarted(state, clock), authorization=f"bearer  {token} ") == "token"
    assert [one.name for one in logins.tokens()] == ["prometheus"]
    with pytest.raises(TokenNameTaken):
        await logins.add_token("prometheus")
    await logins.revoke_token("prometheus")
    assert recognise(logins, authorization=f"Bearer {token}") == ""
    with pytest.raises(NoSuchToken):
        await logins.revoke_token("prometheus")


@pytest.mark.parametrize("name", ["", "a b", "a/b", "ü", "x" * 65, "a\n"])
async def test_a_token_has_a_name_that_fits_in_a_path(logins: Logins, name: str) -> None:
    with pytest.raises(BadTokenName):
        await logins.add_token(name)


async def test_one_kind_is_not_taken_for_another(logins: Logins) -> None:
    link, _ = await logins.new_link()
    token = await logins.add_token("x")
    session = await logins.claim((await logins.new_link())[0], "192.0.2.1")
    assert recognise(logins, cookie=cookie(link)) == ""
    assert recognise(logins, cookie=cookie(token)) == ""
    assert recognise(logins, authorization=f"Bearer {link}") == ""
    assert recognise(logins, authorization=f"Bearer {session}") == ""
    assert recognise(logins, authorization=f"Basic {token}") == ""


def all_bytes(directory: Path) -> bytes:
    return b"".join(path.read_bytes() for path in directory.iterdir() if path.is_file())


async def test_the_file_holds_no_secret(logins: Logins, tmp_path: Path) -> None:
    link, _ = await logins.new_link()
    session = await logins.claim((await logins.new_link())[0], "192.0.2.1")
    token = await logins.add_token("x")
    stored = await asyncio.to_thread(all_bytes, tmp_path)
    for secret in (link, session, token.removeprefix("hla_")):
        assert credentials_module.digest(secret) in stored
        assert secret.encode() not in stored


async def test_what_is_expired_leaves_the_file(logins: Logins, state: State, clock: MovableClock) -> None:
    for _ in range(5):
        await logins.new_link()
    await clock.advance(600)
    await logins.new_link()

    def count(connection: sqlite3.Connection) -> int:
        return int(connection.execute("SELECT count(*) FROM web_credential").fetchone()[0])

    assert await state.read(count) == 1


async def test_a_disk_that_takes_nothing_changes_nothing(logins: Logins, state: State) -> None:
    token = await logins.add_token("x")
    link, _ = await logins.new_link()
    await state.close()
    with pytest.raises(StateUnavailable):
        await logins.revoke_token("x")
    with pytest.raises(StateUnavailable):
        await logins.claim(link, "192.0.2.1")
    assert recognise(logins, authorization=f"Bearer {token}") == "token"


async def test_ten_failures_close_the_door_to_one_source_for_a_while(logins: Logins, clock: MovableClock) -> None:
    token = await logins.add_token("x")
    for _ in range(login.FAILURES):
        assert recognise(logins, authorization="Bearer wrong") == ""
    with pytest.raises(TooManyFailures):
        recognise(logins, authorization=f"Bearer {token}")
    with pytest.raises(TooManyFailures):
        await logins.claim("wrong", "192.0.2.1")
    assert recognise(logins, authorization=f"Bearer {token}", source="192.0.2.2") == "token"
    await clock.advance(login.FAILURE_SECONDS)
    assert recognise(logins, authorization=f"Bearer {token}") == "token"


def test_the_failures_of_many_sources_take_bounded_memory(clock: MovableClock) -> None:
    failures = login.Failures(clock)
    for number in range(5000):
        failures.add(f"2001:db8::{number:x}")
    assert len(failures._times) <= 1024
    assert failures.wait("2001:db8::1") == 0


async def test_a_cookie_of_yesterday_locks_nobody_out(logins: Logins) -> None:
    for _ in range(3 * login.FAILURES):
        assert recognise(logins, cookie=cookie("old")) == ""
    assert logins.failures.wait("192.0.2.1") == 0


@given(st.text(max_size=80))
def test_any_cookie_header_can_be_read(text: str) -> None:
    assert isinstance(login.session_of(text), str)


def test_the_cookie_is_for_this_site_and_no_script() -> None:
    set_cookie = login.set_cookie("s3ss10n", secure=True, age=30 * DAY)
    assert set_cookie == "homelab_agent_session=s3ss10n; Path=/; Max-Age=2592000; HttpOnly; SameSite=Strict; Secure"
    assert "Secure" not in login.set_cookie("s", secure=False, age=1)


async def test_an_unknown_secret_of_any_kind_is_unknown(logins: Logins, state: State, clock: MovableClock) -> None:
    credentials = Credentials(state, clock)
    await credentials.load()
    for kind in Kind:
        assert credentials.find(kind, "\ud800 not even text") is None


async def test_the_token_of_the_configuration_is_good_and_no_other(
    state: State, clock: MovableClock, tmp_path: Path
) -> None:
    file = tmp_path / "api-token"
    file.write_text("hla_of-the-service\n")
    file.chmod(0o600)
    given_token = Secrets(Redactor(), clock).find(f"file:{file}")
    logins = Logins(Credentials(state, clock), clock, session_age=DAY, given=given_token)
    await logins.load()
    assert recognise(logins, authorization="Bearer hla_of-the-service") == "token"
    for wrong in ("of-the-service", "hla_of-the-servic", "hla_of-the-service2", "", "hla_of-the-sérvice"):
        assert recognise(logins, authorization=f"Bearer {wrong}") == "", wrong
    assert recognise(logins, authorization=f"Bearer {await logins.add_token('mine')}") == "token"


async def test_a_token_that_cannot_be_read_lets_nobody_in_until_it_can(
    state: State, clock: MovableClock, tmp_path: Path
) -> None:
    file = tmp_path / "api-token"
    logins = Logins(
        Credentials(state, clock), clock, session_age=DAY, given=Secrets(Redactor(), clock).find(f"file:{file}")
    )
    await logins.load()
    assert recognise(logins, authorization="Bearer hla_late") == ""
    with pytest.raises(SecretMissing):
        await logins.read_given()
    file.write_text("hla_late\n")
    file.chmod(0o600)
    await logins.read_given()
    assert recognise(logins, authorization="Bearer hla_late") == "token"
