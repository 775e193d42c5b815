"""Who answers late or never: told again only as often as it has perhaps taken it, and not after the time is up."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest

from tests.clock import until
from tests.integration.test_notify_send import TEXT, sending
from tests.neighbours.ntfy import Ntfy


@contextmanager
def listening(answer: Callable[[socket.socket, threading.Event], object]) -> Iterator[int]:
    """Have each connection answered in a thread, which is to end when told; yield the port."""
    listener, stop = socket.create_server(("127.0.0.1", 0)), threading.Event()

    def each(connection: socket.socket) -> None:
        with connection, suppress(OSError):
            answer(connection, stop)

    def serve() -> None:
        with suppress(OSError):  # it is shut
            while True:
                threading.Thread(target=each, args=(listener.accept()[0],), daemon=True).start()

    threading.Thread(target=serve, daemon=True).start()
    try:
        yield listener.getsockname()[1]
    finally:
        stop.set()
        listener.shutdown(socket.SHUT_RDWR)
        listener.close()


def slow_lookup(monkeypatch: pytest.MonkeyPatch, seconds: float) -> None:
    """Have each name found that late."""
    find = socket.getaddrinfo

    def late(*args: Any, **kwargs: Any) -> Any:
        time.sleep(seconds)
        return find(*args, **kwargs)

    monkeypatch.setattr(socket, "getaddrinfo", late)


async def test_who_is_found_late_and_says_nothing_has_perhaps_taken_it(
    tmp_path: Path, ntfy: Ntfy, monkeypatch: pytest.MonkeyPatch
) -> None:
    ntfy.keep_waiting()
    slow_lookup(monkeypatch, 2.5)
    phone = sending(tmp_path, ntfy.url().replace("127.0.0.1", "localhost"), deadline=5)
    answer = await phone.send(TEXT)
    assert (answer.ok, answer.unclear, len(ntfy.messages)) == (False, True, 1)
    assert "no answer in time" in answer.words


async def test_who_is_found_too_late_is_told_nothing_then_and_is_asked_again(
    tmp_path: Path, ntfy: Ntfy, monkeypatch: pytest.MonkeyPatch
) -> None:
    phone = sending(tmp_path, ntfy.url().replace("127.0.0.1", "localhost"), deadline=1)
    with monkeypatch.context() as patch:
        slow_lookup(patch, 1.5)
        late, busy = await phone.send(TEXT), await phone.send(TEXT)
        assert [(answer.ok, answer.unclear) for answer in (late, busy)] == [(False, False)] * 2
        assert "has not come back" in busy.words
        await until(lambda: not [one for one in threading.enumerate() if one.name == "notify-phone"], "it is back")
    assert not ntfy.messages
    assert (await phone.send(TEXT)).ok


async def test_who_hangs_in_the_handshake_was_told_nothing(tmp_path: Path) -> None:
    with listening(lambda _, stop: stop.wait()) as port:
        answer = await sending(tmp_path, f"ntfys://127.0.0.1:{port}/alerts", deadline=3).send(TEXT)
    assert (answer.ok, answer.unclear) == (False, False)


async def test_what_was_acknowledged_late_is_taken_though_the_rest_never_comes(tmp_path: Path) -> None:
    def answer(connection: socket.socket, stop: threading.Event) -> None:
        connection.recv(65536)
        stop.wait(2)
        connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n")
        stop.wait()

    with listening(answer) as port:
        taken = await sending(tmp_path, f"ntfy://127.0.0.1:{port}/alerts", deadline=5).send(TEXT)
    assert (taken.ok, taken.words) == (True, "it answers 200 OK")


@pytest.mark.parametrize("hangs", ["DATA", "."])
async def test_a_mail_that_was_sent_whole_and_is_not_acknowledged_was_perhaps_taken(tmp_path: Path, hangs: str) -> None:
    mails: list[str] = []

    def answer(connection: socket.socket, stop: threading.Event) -> None:
        lines = connection.makefile("r")
        connection.sendall(b"220 mx\r\n")
        for line in lines:
            word = line.split()[0].upper() if line.strip() else ""
            if word == ".":
                mails.append(line)
            if word == hangs:
                stop.wait()
            if word in {"EHLO", "MAIL", "RCPT", "DATA"}:
                connection.sendall(b"354 go on\r\n" if word == "DATA" else b"250 mx\r\n")

    with listening(answer) as port:
        url = f"mailto://127.0.0.1:{port}?from=nas@example.net&to=me@example.net&mode=insecure"
        said = await sending(tmp_path, url, deadline=4).send(TEXT)
    assert (said.ok, said.unclear, len(mails)) == (False, hangs == ".", hangs == ".")
