"""Names as DNS asks for them and answers (RFC 1035, section 4): one question, and the addresses in its answer."""

from __future__ import annotations

import ipaddress
import struct
from dataclasses import dataclass
from typing import Literal, TypeAlias

Address: TypeAlias = ipaddress.IPv4Address | ipaddress.IPv6Address
Kind: TypeAlias = Literal["A", "AAAA"]

NO_ERROR, NO_SUCH_NAME = 0, 3
"""Response codes; every other one says that the resolver could not find out."""

_TYPES: dict[Kind, int] = {"A": 1, "AAAA": 28}
_INTERNET = 1
_RESPONSE, _RECURSION_DESIRED = 0x8000, 0x0100
_HEADER = struct.Struct(">6H")
_RECORD = struct.Struct(">HHIH")
_POINTER = 0xC0
"""The two bits that say that a name goes on elsewhere in the message."""


class NoAnswer(ValueError):
    """What came is no answer to a question."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What a resolver says: its response code, and the addresses in its answer, in its order."""

    code: int
    addresses: tuple[Address, ...]


def question(name: str, kind: Kind) -> bytes:
    """Return the message that asks for a name's addresses; raises ValueError for what is no name.

    Its id is 0, as RFC 8484 has it, so that the answer may come from a cache.
    """
    labels = [label.encode("ascii") for label in name.rstrip(".").split(".")]
    if not all(0 < len(label) < 64 for label in labels) or sum(map(len, labels)) + len(labels) > 254:
        message = f"{name!r} is no name"
        raise ValueError(message)
    asked = b"".join(bytes([len(label)]) + label for label in labels) + b"\0"
    return _HEADER.pack(0, _RECURSION_DESIRED, 1, 0, 0, 0) + asked + struct.pack(">HH", _TYPES[kind], _INTERNET)


def answer(message: bytes) -> Answer:
    """Return what a message says; raises `NoAnswer`."""
    try:
        _, flags, questions, answers, _, _ = _HEADER.unpack_from(message)
        if not flags & _RESPONSE:
            raise NoAnswer("it is a question itself")
        at = _HEADER.size
        for _ in range(questions):
            at = _after_name(message, at) + 4
        found = []
        for _ in range(answers):
            at = _after_name(message, at)
            kind, network, _, length = _RECORD.unpack_from(message, at)
            at += _RECORD.size + length
            if at > len(message):
                raise NoAnswer("it ends too early")
            if network == _INTERNET and (kind, length) in {(1, 4), (28, 16)}:
                found.append(ipaddress.ip_address(message[at - length : at]))
    except (struct.error, IndexError):
        raise NoAnswer("it ends too early") from None
    return Answer(flags & 0xF, tuple(found))


def _after_name(message: bytes, at: int) -> int:
    """Return where a name ends: with an empty label, or with a pointer to the rest of it."""
    while length := message[at]:
        if length & _POINTER == _POINTER:
            return at + 2
        at += 1 + length
    return at + 1
