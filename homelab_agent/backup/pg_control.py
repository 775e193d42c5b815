"""Whether a PostgreSQL had ended in order: its own word for it, the file `global/pg_control`.

From the head of PostgreSQL's `ControlFileData` (src/include/catalog/pg_control.h, 9.5 to 18): the system's number as 8
bytes, the file's version, the catalogue's, and the state as 4 bytes each, as the machine has them. A CRC-32C of all
that is before it follows the structure's last field, wherever that is in this version.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Sequence
from pathlib import Path

from homelab_agent.backup import databases
from homelab_agent.backup.inventory import Container

FILE = "global/pg_control"
_HEAD = struct.Struct("=QIIi")
_SHUT_DOWN, _SHUT_DOWN_IN_RECOVERY = 1, 2
_STATES = (
    "it was starting",
    "it was shut down",
    "it was shut down in recovery",
    "it was shutting down",
    "it was recovering from a crash",
    "it was recovering from an archive",
    "it was at work",
)
_READ_BYTES = 1024
_LEAST_BYTES = 128
_POLYNOMIAL = 0x82F63B78  # Castagnoli's, its bits in reverse


def not_shut_down(container: Container) -> Sequence[str]:
    """Return why a PostgreSQL that has ended did not end in order, for each data directory in its mounts; blocking.

    Nothing for what is no PostgreSQL. A directory without the file is none.
    """
    known = databases.recognise(container)
    if known is None or known.kind != "postgres":
        return []
    tops = [mount.source for mount in container.mounts if known.keeps_in(mount)]
    files = sorted({file for top in tops for depth in ("", "*/", "*/*/") for file in top.glob(f"{depth}{FILE}")})
    told = {file: state(file) for file in files}
    return [f"{file}: {said}" for file, said in told.items() if said]


def state(file: Path) -> str:
    """Return what such a file says of a server that did not end in order; "" of one that did; blocking."""
    try:
        descriptor = os.open(file, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
        try:
            content = os.read(descriptor, _READ_BYTES)
        finally:
            os.close(descriptor)
    except OSError as error:
        return f"it cannot be read ({error})"
    if not is_sound(content):
        return "it is damaged"
    *_, number = _HEAD.unpack_from(content)
    if number in {_SHUT_DOWN, _SHUT_DOWN_IN_RECOVERY}:
        return ""
    return _STATES[number] if 0 <= number < len(_STATES) else f"its state is {number}"


def is_sound(content: bytes) -> bool:
    """Return whether the bytes have their own checksum after them, where a version of the file may have it."""
    crc = 0xFFFFFFFF
    for place, byte in enumerate(content):
        if (
            place >= _LEAST_BYTES
            and place % 4 == 0
            and content[place : place + 4] == (crc ^ 0xFFFFFFFF).to_bytes(4, "little")
        ):
            return True
        crc ^= byte
        for _ in range(8):
            crc = crc >> 1 ^ (_POLYNOMIAL if crc & 1 else 0)
    return False
