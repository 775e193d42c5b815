"""Frames arrive whole however they are cut, with the descriptors that were sent along, and none is left over."""

from __future__ import annotations

import asyncio
import os
import socket
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from homelab_agent.core import process
from homelab_agent.core.privilege import DESCRIPTORS_MAX
from homelab_agent.privileged import frames

MESSAGES = st.dictionaries(
    st.text(max_size=10),
    st.recursive(st.none() | st.booleans() | st.integers() | st.text(), lambda inner: st.lists(inner, max_size=3)),
    max_size=4,
)


def pair() -> tuple[socket.socket, socket.socket]:
    return socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)


def opened() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


def read(descriptor: int) -> bytes:
    return os.pread(descriptor, 100, 0)


@given(message=MESSAGES, cuts=st.lists(st.integers(1, 50), max_size=6), files=st.integers(0, 3))
def test_a_request_arrives_with_its_descriptors(message: dict[str, Any], cuts: list[int], files: int) -> None:
    async def exchange() -> tuple[dict[str, Any], list[bytes], int]:
        caller, half = pair()
        with caller, half, ExitStack() as held:
            receiving = asyncio.create_task(frames.receive_request(half, held))
            data, sent = frames.encode(message), 0
            for size in (*cuts, len(data)):
                part, data = data[:size], data[size:]
                if part and sent + files <= DESCRIPTORS_MAX:
                    socket.send_fds(caller, [part], [file] * files)
                    sent += files
                elif part:
                    caller.send(part)
                await asyncio.sleep(0)
            caller.send(b"more")  # is not read with it
            found, descriptors = await receiving
            assert half.recv(10) == b"more"
            return dict(found), [await asyncio.to_thread(read, one) for one in descriptors], sent

    file = process.readable(b"what is in it")
    before = opened()
    found, contents, sent = asyncio.run(exchange())
    assert found == message
    assert contents == [b"what is in it"] * sent
    assert opened() == before
    os.close(file)


@given(data=st.binary(max_size=60), files=st.integers(1, DESCRIPTORS_MAX + 4))
def test_of_what_is_no_frame_no_descriptor_is_left(data: bytes, files: int) -> None:
    async def exchange() -> None:
        caller, half = pair()
        with caller, half, ExitStack() as held:
            socket.send_fds(caller, [b"\0" + data], [0] * files)
            caller.shutdown(socket.SHUT_WR)
            with pytest.raises(frames.NotAFrame):
                await frames.receive_request(half, held)

    before = opened()
    asyncio.run(exchange())
    assert opened() == before


@given(st.lists(MESSAGES, max_size=4))
def test_what_the_half_says_arrives_in_order_and_its_end_is_told(messages: list[dict[str, Any]]) -> None:
    async def exchange() -> list[dict[str, Any]]:
        caller, half = pair()
        with caller:
            with half:
                half.send(b"".join(map(frames.encode, messages)) + b"\0\0")
            found = [await frames.receive(caller) for _ in messages]
            with pytest.raises(frames.NotAFrame):
                await frames.receive(caller)
            return found

    assert asyncio.run(exchange()) == messages


@pytest.mark.parametrize("body", [b"[" * 100_000, b"[]", b"1", b"", b"\xff", b"{" * 30, b'{"a":' * 10_000])
def test_what_is_no_object_is_none(body: bytes) -> None:
    with pytest.raises(frames.NotAFrame):
        frames.decode(body)


async def test_what_nobody_could_receive_is_not_sent() -> None:
    with pytest.raises(ValueError, match="at most 1048576"):
        frames.encode({"text": "x" * frames.LONGEST})
    caller, half = pair()
    with caller, half:
        with pytest.raises(ValueError, match="at most 65536"):
            await frames.send_request(caller, {"text": "x" * frames.REQUEST_MAX}, [])
        half.send((frames.LONGEST + 1).to_bytes(4, "big"))
        with pytest.raises(frames.NotAFrame):
            await frames.receive(caller)


async def test_who_connects_waits_while_too_many_others_do(tmp_path: Path) -> None:
    path = tmp_path / "half.sock"
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK) as listener, ExitStack() as held:
        listener.bind(str(path))
        listener.listen(2)
        asked = [asyncio.create_task(frames.connected(path)) for _ in range(20)]
        taken = 0
        while len(done := [task for task in asked if task.done()]) < len(asked) or taken < len(asked):
            await frames.readable(listener)
            held.enter_context(listener.accept()[0])
            taken += 1
        for task in done:
            connection = held.enter_context(await task)
            assert connection.getpeername() == str(path)
