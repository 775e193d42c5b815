"""What leaves through Apprise: once, as it is written, to the address that is written, and never for ever."""

from __future__ import annotations

import asyncio
import importlib
import json
import logging
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import apprise
import pytest

from homelab_agent.core.clock import SystemClock
from homelab_agent.core.health import Finding
from homelab_agent.core.journal.redaction import Redactor
from homelab_agent.core.secret import Secrets
from homelab_agent.notify import hearing, sender
from homelab_agent.notify.message import Text
from homelab_agent.notify.sender import Sender
from homelab_agent.notify.severity import Severity
from tests.clock import until
from tests.integration.test_notify_told import DOWN, Mailbox, smtp, target
from tests.neighbours.http_stand_in import Asked, Reply, StandIn
from tests.neighbours.ntfy import Ntfy
from tests.neighbours.ports import free_port
from tests.notified import room, secret

TEXT = Text("nas: web is failed", "web is failed\nHost: nas\nCause: <nil> & <b>a", Severity.FAILED)


def sending(directory: Path, url: str, redactor: Redactor | None = None, **more: Any) -> Sender:
    masks = redactor or Redactor()
    return Sender("phone", Secrets(masks, SystemClock()).find(secret(directory, "phone", url)), masks, **more)


class Moved(StandIn):
    """A proxy that sends on to https, where a page is that answers everything."""

    def answer(self, asked: Asked) -> Reply:
        if asked.method != "POST":
            return Reply(200, b"<html>")
        return Reply(301, headers={"Location": f"http://127.0.0.1:{self.port}/app?key=canary-in-location"})


@pytest.mark.parametrize("more", ["", "?redirect=yes"])
async def test_who_sends_elsewhere_has_taken_nothing(tmp_path: Path, more: str) -> None:
    moved = Moved()
    with moved.lasting():
        answer = await sending(tmp_path, f"ntfy://127.0.0.1:{moved.port}/alerts{more}").send(TEXT)
    assert not answer.ok
    assert "301 Moved Permanently" in answer.words
    assert f"http://127.0.0.1:{moved.port}: write that address" in answer.words
    assert "canary" not in answer.words
    assert [asked.method for asked in moved.asked] == ["POST"]


class Slow(Ntfy):
    """Publishes at once, and says so six seconds later."""

    def answer(self, asked: Asked) -> Reply:
        reply = super().answer(asked)
        time.sleep(6)
        return reply


async def test_who_answers_late_is_told_once(tmp_path: Path) -> None:
    slow = Slow()
    with slow.lasting():
        async with room(tmp_path, {"target": [target(tmp_path, "phone", slow.url())]}) as house:
            house.report("database", DOWN)
            await until(lambda: house.rows("SELECT outcome FROM notify_message") == [("sent",)], "it is", seconds=30)
    assert len(slow.messages) == 1


async def test_who_takes_a_message_and_says_nothing_has_perhaps_taken_it(tmp_path: Path, ntfy: Ntfy) -> None:
    ntfy.keep_waiting()
    answer = await sending(tmp_path, ntfy.url(), deadline=3).send(TEXT)
    assert (answer.ok, answer.unclear) == (False, True)
    assert len(ntfy.messages) == 1
    away = await sending(tmp_path, f"ntfy://127.0.0.1:{free_port()}/alerts").send(TEXT)
    assert (away.ok, away.unclear) == (False, False)


async def test_an_address_of_several_is_refused_before_any_is_told(tmp_path: Path, ntfy: Ntfy) -> None:
    url = f"{ntfy.url('one')}/two/three"
    answer = await sending(tmp_path, url).send(TEXT)
    assert not answer.ok
    assert "3 recipients" in answer.words
    assert "one [[notify.target]] each" in answer.words
    assert await asyncio.to_thread(sender.understood, url) == answer.words
    assert not ntfy.asked
    assert "more than one line" in await asyncio.to_thread(sender.understood, f"{ntfy.url()}\n{ntfy.url()}")


async def test_a_mail_is_read_as_it_is_written(tmp_path: Path) -> None:
    mailbox = Mailbox()
    with smtp(mailbox) as port:
        url = f"mailto://127.0.0.1:{port}?from=nas@example.net&to=me@example.net&mode=insecure"
        assert (await sending(tmp_path, url).send(TEXT)).ok
    assert [part.get_content_type() for part in mailbox.mails[0].walk()] == ["text/plain"]
    assert mailbox.mails[0].get_content().splitlines() == TEXT.body.splitlines()


class Hook(StandIn):
    """A webhook; it keeps what was posted."""

    @property
    def url(self) -> str:
        return f"json://127.0.0.1:{self.port}/hook"

    def posted(self) -> Any:
        return json.loads(self.asked[-1].body)

    def answer(self, asked: Asked) -> Reply:  # noqa: ARG002 - it takes whatever is posted
        return Reply(200)


@pytest.fixture
def hook() -> Iterator[Hook]:
    server = Hook()
    with server.lasting():
        yield server


async def test_where_html_is_wanted_what_is_said_is_no_html(tmp_path: Path, hook: Hook) -> None:
    assert (await sending(tmp_path, f"{hook.url}?format=html").send(TEXT)).ok
    assert "&lt;nil&gt;" in hook.posted()["message"]
    assert "<b>" not in hook.posted()["message"]


async def test_telegram_is_told_in_its_html_what_is_none(
    tmp_path: Path, hook: Hook, monkeypatch: pytest.MonkeyPatch
) -> None:
    telegram = importlib.import_module("apprise.plugins.telegram")
    monkeypatch.setattr(telegram.NotifyTelegram, "notify_url", f"http://127.0.0.1:{hook.port}/bot")
    url = "tgram://123456789:AAFtokenofthebot_abcdefghijklmnopqrstu/12315544/"
    assert (await sending(tmp_path, url).send(TEXT)).ok
    assert hook.posted()["parse_mode"] == "HTML"
    assert "&lt;nil&gt; &amp; &lt;b&gt;a" in hook.posted()["text"].replace("\xa0", " ")
    assert "<nil>" not in hook.posted()["text"]


async def test_nobody_is_called_by_what_a_finding_says(tmp_path: Path, hook: Hook) -> None:
    body = "mail to me@here.example.net failed: @everyone @here <!channel> <@U123> @room"
    assert (await sending(tmp_path, hook.url).send(Text("@everyone", body, Severity.FAILED))).ok
    said = hook.posted()["message"]
    assert not [call for call in ("@everyone", "@here ", "<!", "<@", "@room") if call in said + hook.posted()["title"]]
    assert "me@here.example.net" in said


@contextmanager
def endless(chunk: bytes, pause: float) -> Iterator[tuple[int, list[int]]]:
    """Answer each request 200 and a body without an end; yield the port, and how much each was sent."""
    sent: list[int] = []
    listener, stop = socket.create_server(("127.0.0.1", 0)), threading.Event()

    def answer(connection: socket.socket, number: int) -> None:
        with connection:
            connection.recv(65536)
            connection.sendall(b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n")
            try:
                while not stop.wait(pause) and sent[number] < 400 * 2**20:
                    connection.sendall(chunk)
                    sent[number] += len(chunk)
            except OSError:
                pass  # who was asked hangs up

    def serve() -> None:
        while not stop.is_set():
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            sent.append(0)
            threading.Thread(target=answer, args=(connection, len(sent) - 1), daemon=True).start()

    threading.Thread(target=serve, daemon=True).start()
    try:
        yield listener.getsockname()[1], sent
    finally:
        stop.set()
        listener.shutdown(socket.SHUT_RDWR)
        listener.close()


async def test_of_an_answer_without_an_end_little_is_read(tmp_path: Path) -> None:
    with endless(b"x" * 2**20, 0) as (port, sent):
        answer = await sending(tmp_path, f"ntfy://127.0.0.1:{port}/alerts").send(TEXT)
        assert answer.ok
        assert sent[0] < 32 * 2**20


async def test_an_answer_that_drips_holds_no_thread(tmp_path: Path) -> None:
    with endless(b"x", 0.1) as (port, _):
        phone = sending(tmp_path, f"ntfy://127.0.0.1:{port}/alerts", deadline=3)
        assert [(await phone.send(TEXT)).words for _ in range(2)] == ["it answers 200 OK"] * 2


@pytest.mark.parametrize(
    "url",
    [
        "hassios://127.0.0.1:9/eyJhbGciOiJIUzI1NiJ9.eyJpc3MiOiJjYW5hcnkifQ.CANARYsig-1234567890",
        "nonsense://u:p@h/" + "CANARY.tok9" * 40,
        "json://127.0.0.1:9/CANARY1.tok/x",
        "jsons://127.0.0.1:9/CANARY.jwt0.tok?+Authorization=Bearer%20CANARY.abc",
        "mailto://127.0.0.1:9?from=a@b.c&to=d@e.f&user=u&pass=CANARYpw",
        "matrix://CANARYu:CANARYpassword@127.0.0.1:9/#room",
        "mailtos://me:CANARY[ss@127.0.0.1:9?to=me@example.net",
    ],
)
async def test_what_is_said_of_an_address_that_fails_has_no_secret_of_it(tmp_path: Path, url: str) -> None:
    answer = await sending(tmp_path, url).send(TEXT)
    assert not answer.ok
    assert "CANARYp" not in answer.words
    assert "CANARY." not in answer.words
    assert "CANARY[" not in answer.words


def test_a_secret_in_what_is_said_of_a_send_is_masked_before_it_is_cut() -> None:
    redactor = Redactor()
    redactor.add("canary-of-a-long-password")
    hearing.begin()
    heard = hearing.Heard(redactor.mask, time.monotonic() + 5)
    with hearing.hearing(heard):
        for pad in range(200, 320, 4):
            logging.getLogger("apprise").warning("%s canary-of-a-long-password", "x" * pad)
    assert len(heard.words) == 30
    assert "canary" not in str(heard.words)


async def test_what_a_message_needs_is_not_masked(tmp_path: Path, ntfy: Ntfy) -> None:
    redactor = Redactor()
    phone = sending(tmp_path, ntfy.url("raspberrypi4"), redactor, public=("raspberrypi4",))
    assert (await phone.send(Text("raspberrypi4", "ssh raspberrypi4: homelab-agent doctor web", Severity.FAILED))).ok
    assert ntfy.messages[0].message == "ssh raspberrypi4: homelab-agent doctor web"


async def test_an_address_with_a_bracket_in_its_password_breaks_nothing(tmp_path: Path, ntfy: Ntfy) -> None:
    bad = target(tmp_path, "mail", f"mailto://me:p[ss@127.0.0.1:{free_port()}?to=me@example.net&mode=insecure")
    async with room(tmp_path, {"target": [bad, target(tmp_path, "phone", ntfy.url())]}) as house:
        house.report("database", DOWN)
        await until(lambda: ntfy.messages, "the other is told")
        tests = (await house.ask("POST", "/api/notify/test", {}))["tests"]
    assert [one["ok"] for one in tests] == [False, True]


async def test_what_is_critical_has_the_highest_priority_there(tmp_path: Path, ntfy: Ntfy) -> None:
    phone = sending(tmp_path, f"{ntfy.url()}?priority=low")
    for severity in (Severity.FAILED, Severity.CRITICAL):
        assert (await phone.send(Text("nas", "state is failed", severity))).ok
    assert [asked.headers["x-priority"] for asked in ntfy.asked] == ["low", "max"]


@pytest.mark.parametrize(
    ("scheme", "url"),
    [
        ("bark", "bark://h/devkey0123456789012345?level=critical"),
        ("gotify", "gotify://h/AbcdefghijklmnO?priority=emergency"),
        ("join", f"join://{'a' * 32}/{'b' * 32}?priority=emergency"),
        ("lametric", f"lametric://{'a' * 64}@192.0.2.1?mode=device&priority=critical"),
        ("ntfy", "ntfy://h/a?priority=max"),
        ("pover", f"pover://{'a' * 30}@{'b' * 30}?priority=high"),
        ("prowl", f"prowl://{'a' * 40}?priority=emergency"),
        ("psafer", f"psafers://{'a' * 20}?priority=2"),
        ("pushward", f"pushward://hlk_{'a' * 32}?level=critical"),
        ("simplepush", "spush://aB1cD2?priority=5"),
        ("youlmk", f"youlmk://ylk_{'a' * 32}?priority=critical"),
    ],
)
def test_the_highest_priority_is_what_each_service_calls_so(scheme: str, url: str) -> None:
    attribute, value = sender.LOUDEST[scheme]
    assert getattr(apprise.Apprise.instantiate(url), attribute) == value


async def test_that_all_is_well_again_is_sent_as_no_failure(tmp_path: Path, hook: Hook) -> None:
    async with room(tmp_path, {"target": [target(tmp_path, "hook", hook.url)]}) as house:
        house.report("database", DOWN)
        await until(lambda: len(hook.asked) == 1, "it is told")
        house.report("database", Finding.ok("it answers"))
        await until(lambda: len(hook.asked) == 2, "its recovery is told")
    assert [json.loads(asked.body)["type"] for asked in hook.asked] == ["failure", "success"]


async def test_a_test_beside_a_send_waits_for_it(tmp_path: Path, ntfy: Ntfy) -> None:
    async with room(tmp_path, {"target": [target(tmp_path, "phone", ntfy.url())]}) as house:
        ntfy.keep_waiting()
        house.report("database", DOWN)
        await until(lambda: ntfy.messages, "a send is under way")
        test = asyncio.ensure_future(house.ask("POST", "/api/notify/test", {}))
        await asyncio.sleep(0.1)  # the test has begun, and would have failed
        ntfy.mend()
        assert (await test)["tests"][0]["ok"]
        assert house.finding("notify.target.phone").state == "ok"


async def test_neither_the_environments_proxy_nor_a_netrc_is_heeded(
    tmp_path: Path, ntfy: Ntfy, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "netrc").write_text("machine 127.0.0.1 login me password canary\n")
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    monkeypatch.setenv("HTTP_PROXY", f"http://127.0.0.1:{free_port()}")
    monkeypatch.delenv("NO_PROXY", raising=False)
    assert (await sending(tmp_path, ntfy.url()).send(TEXT)).ok
    assert "authorization" not in ntfy.asked[0].headers
