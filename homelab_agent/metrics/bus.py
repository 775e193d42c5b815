"""The system bus, as far as systemd is asked there: calls, and what they return (D-Bus Specification 0.43).

Own and small: `systemctl show` has systemd put together every property of each unit, which costs ten times as much,
and needs a process.
"""

from __future__ import annotations

import os
import socket
import struct
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from types import TracebackType
from typing import Self, TypeAlias

from homelab_agent.core.errors import AgentError

SOCKET = "/run/dbus/system_bus_socket"
SYSTEMD = "org.freedesktop.systemd1"
Value: TypeAlias = str | int | bool

_MANAGER = "/org/freedesktop/systemd1"
_BUS = "org.freedesktop.DBus"
_CALL, _ERROR = 1, 3
_PATH, _INTERFACE, _MEMBER, _ERROR_NAME, _REPLY_SERIAL, _DESTINATION, _SIGNATURE = 1, 2, 3, 4, 5, 6, 8
_HEADER_BYTES = 16
_AT_ONCE = 64
"""Calls under way; the bus takes 128 of one connection unless its configuration says otherwise."""
_CHUNK = 65536
_LENGTH = {order: struct.Struct(f"{order}I") for order in "<>"}


class BusSilent(AgentError):
    """systemd cannot be asked at {socket}."""

    repair = "systemctl status dbus; busctl status org.freedesktop.systemd1"


@dataclass(frozen=True, slots=True)
class Unit:
    """One unit that systemd has loaded; `path` is what it is called on the bus."""

    name: str
    load: str
    active: str
    sub: str
    path: str


@dataclass(frozen=True, slots=True)
class Property:
    """One property of the unit at `path`; `interface` is Unit, Service, Timer ..."""

    path: str
    interface: str
    name: str


@dataclass(frozen=True, slots=True)
class _Call:
    destination: str
    path: str
    interface: str
    member: str
    signature: str = ""
    body: bytes = b""

    def message(self, serial: int) -> bytes:
        """Return it as it goes over the wire."""
        built = _built(self)
        return built[:8] + struct.pack("<I", serial) + built[12:]

    def build(self) -> bytes:
        """Return it without its number, little-endian."""
        fields = bytearray()
        named = (
            (_PATH, "o", self.path),
            (_INTERFACE, "s", self.interface),
            (_MEMBER, "s", self.member),
            (_DESTINATION, "s", self.destination),
            (_SIGNATURE, "g", self.signature),
        )
        for code, kind, text in named:
            if text:
                fields += b"\0" * (-len(fields) % 8) + bytes((code, 1, ord(kind), 0))
                fields += _signature(text) if kind == "g" else _string(text)
        head = struct.pack("<cBBBIII", b"l", _CALL, 0, 1, len(self.body), 0, len(fields)) + fields
        return head + b"\0" * (-len(head) % 8) + self.body


@lru_cache(maxsize=4096)
def _built(call: _Call) -> bytes:
    """Return the bytes of a call; the same ones are made at each look."""
    return call.build()


class Bus:
    """A connection to the system bus of this host or of another root; a context. Blocking: not for the loop.

    Each answer is waited for at most `patience` seconds. All raise `BusSilent`.
    """

    def __init__(self, path: Path, *, patience: float) -> None:
        self._path = path
        self._patience = patience
        self._buffer = bytearray()
        self._serial = 0

    def __enter__(self) -> Self:
        """Connect and say who we are; the kernel tells the bus whether that is true."""
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            self._socket.settimeout(self._patience)
            self._socket.connect(str(self._path))
            self._socket.sendall(b"\0AUTH EXTERNAL " + str(os.geteuid()).encode().hex().encode() + b"\r\n")
            while b"\r\n" not in self._buffer:
                self._receive()
            said = bytes(self._buffer)
            self._buffer.clear()
            if not said.startswith(b"OK "):
                raise BusSilent(socket=self._path, cause=said.decode(errors="replace").strip())
            self._socket.sendall(b"BEGIN\r\n")
            self._ask([_Call(_BUS, "/org/freedesktop/DBus", _BUS, "Hello")])
        except OSError as error:
            self._socket.close()
            raise BusSilent(socket=self._path, cause=error) from error
        except BaseException:
            self._socket.close()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._socket.close()

    def units(self, globs: Sequence[str]) -> Sequence[Unit]:
        """Return the units that systemd has loaded and whose name matches one of `globs`."""
        names = b""
        for glob in globs:
            names += b"\0" * (-len(names) % 4) + _string(glob)
        body = struct.pack("<II", 0, len(names)) + names  # no state is asked for, so all are
        call = _Call(SYSTEMD, _MANAGER, f"{SYSTEMD}.Manager", "ListUnitsByPatterns", "asas", body)
        [answer] = self._ask([call])
        if isinstance(answer, str):
            raise BusSilent(socket=self._path, cause=answer)
        return _units(answer)

    def read(self, properties: Sequence[Property]) -> Sequence[Value | None]:
        """Return the value of each property; None for a unit that went away, or has none of that name."""
        calls = [_get(one) for one in properties]
        return [None if isinstance(answer, str) else _variant(answer) for answer in self._ask(calls)]

    def _ask(self, calls: Sequence[_Call]) -> list[_Body | str]:
        """Return what each call was answered: a body, or the name of an error."""
        found: list[_Body | str] = []
        try:
            for start in range(0, len(calls), _AT_ONCE):
                first, part = self._serial + 1, calls[start : start + _AT_ONCE]
                self._serial += len(part)
                self._socket.sendall(b"".join(call.message(first + at) for at, call in enumerate(part)))
                answers: dict[int, _Body | str] = {}
                while len(answers) < len(part):
                    serial, answer = self._next()
                    if first <= serial < first + len(part):  # else it is a signal that the bus sends unasked
                        answers[serial] = answer
                found += [answers[first + at] for at in range(len(part))]
        except OSError as error:
            raise BusSilent(socket=self._path, cause=error) from error
        return found

    def _next(self) -> tuple[int, _Body | str]:
        """Return the next message: which call it answers, 0 for none, and its body or the error's name."""
        while len(self._buffer) < _HEADER_BYTES:
            self._receive()
        order = "<" if self._buffer[0] == ord("l") else ">"
        body_bytes, _, fields_bytes = struct.unpack_from(f"{order}III", self._buffer, 4)
        begins = _HEADER_BYTES + fields_bytes + -fields_bytes % 8
        while len(self._buffer) < begins + body_bytes:
            self._receive()
        message = bytes(self._buffer[: begins + body_bytes])
        del self._buffer[: begins + body_bytes]
        ends = _HEADER_BYTES + fields_bytes
        answered = _field(message, order, ends, _REPLY_SERIAL)
        if message[1] == _ERROR:
            return int(answered or 0), str(_field(message, order, ends, _ERROR_NAME))
        return int(answered or 0), _Body(message, order, begins)

    def _receive(self) -> None:
        chunk = self._socket.recv(_CHUNK)
        if not chunk:
            message = "it ended the connection"
            raise ConnectionResetError(message)
        self._buffer += chunk


class _Body:
    """Values read one after the other; each begins at a multiple of its size. Texts are by far the most of them."""

    __slots__ = ("_unpack", "at", "data", "order")

    def __init__(self, data: bytes, order: str, at: int) -> None:
        self.data = data
        self.order = order
        self.at = at
        self._unpack = _LENGTH[order].unpack_from

    def align(self, size: int) -> None:
        self.at += -self.at % size

    def number(self, form: str, size: int) -> int:
        self.align(size)
        [value] = struct.unpack_from(self.order + form, self.data, self.at)
        self.at += size
        return int(value)

    def string(self) -> str:
        begins = self.at + (-self.at & 3) + 4
        [length] = self._unpack(self.data, begins - 4)
        self.at = begins + length + 1
        return self.data[begins : begins + length].decode("utf-8", "replace")

    def skip(self, strings: int) -> None:
        """Pass over so many texts."""
        at = self.at
        for _ in range(strings):
            at += -at & 3
            [length] = self._unpack(self.data, at)
            at += length + 5
        self.at = at

    def signature(self) -> str:
        begins, length = self.at + 1, self.data[self.at]
        self.at = begins + length + 1
        return self.data[begins : begins + length].decode("ascii", "replace")

    def value(self, kind: str) -> Value:
        """Return a value of one of the kinds that systemd's properties and the header's fields have here."""
        match kind:
            case "s" | "o":
                return self.string()
            case "g":
                return self.signature()
            case "u":
                return self.number("I", 4)
            case "t":
                return self.number("Q", 8)
            case "b":
                return bool(self.number("I", 4))
        message = f"a value of the type {kind} was not asked for"
        raise ValueError(message)


def _field(message: bytes, order: str, ends: int, wanted: int) -> Value | None:
    """Return one of a message's header fields, which end at `ends`; None without it."""
    fields = _Body(message, order, _HEADER_BYTES)
    while fields.at < ends:
        fields.align(8)
        code = message[fields.at]
        fields.at += 1
        value = fields.value(fields.signature())
        if code == wanted:
            return value
    return None


def _variant(body: _Body) -> Value:
    return body.value(body.signature())


def _units(body: _Body) -> Sequence[Unit]:
    """Return what ListUnitsByPatterns answers: a(ssssssouso)."""
    ends = body.number("I", 4)
    body.align(8)
    ends += body.at
    found = []
    while body.at < ends:
        body.align(8)
        name = body.string()
        body.skip(1)  # its description
        load, active, sub = body.string(), body.string(), body.string()
        body.skip(1)  # the unit that it follows
        path = body.string()
        body.number("I", 4)  # the number of a job, with its kind and path
        body.skip(2)
        found.append(Unit(name, load, active, sub, path))
    return found


@lru_cache(maxsize=4096)
def _get(one: Property) -> _Call:
    asked = _two(f"{SYSTEMD}.{one.interface}", one.name)
    return _Call(SYSTEMD, one.path, f"{_BUS}.Properties", "Get", "ss", asked)


def _string(text: str) -> bytes:
    data = text.encode()
    return struct.pack("<I", len(data)) + data + b"\0"


def _signature(text: str) -> bytes:
    data = text.encode()
    return bytes((len(data),)) + data + b"\0"


def _two(one: str, other: str) -> bytes:
    first = _string(one)
    return first + b"\0" * (-len(first) % 4) + _string(other)
