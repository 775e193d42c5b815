"""A key of a restic repository that opens at once.

restic makes its keys so that each opening costs half a second of scrypt, and a test opens a repository a dozen times.
What is here is the same key with scrypt asked for next to nothing, as the format has it:
https://restic.readthedocs.io/en/stable/100_references.html (Keys, Encryption and MAC).
"""

from __future__ import annotations

import base64
import hashlib
import json
import os
import subprocess
from pathlib import Path

from tests.neighbours import neighbour, restic

_COST, _BLOCK_SIZE, _LANES = 2, 8, 1
_PRIME = (1 << 130) - 5
_CLAMP = 0x0FFFFFFC0FFFFFFC0FFFFFFC0FFFFFFF


def weaken(repository: Path, password: str) -> None:
    """Put a key that opens at once in the place of a new repository's only one."""
    (strong,) = (repository / "keys").iterdir()
    salt = os.urandom(64)
    derived = hashlib.scrypt(password.encode(), salt=salt, n=_COST, r=_BLOCK_SIZE, p=_LANES, dklen=64)
    known = json.loads(restic.run(repository, password, "cat", "key", strong.name))
    master = json.dumps(json.loads(restic.run(repository, password, "cat", "masterkey"))).encode()
    cost = {"N": _COST, "r": _BLOCK_SIZE, "p": _LANES, "salt": _text(salt)}
    key = json.dumps({**known, **cost, "data": _text(_sealed(master, derived))}).encode()
    (repository / "keys" / hashlib.sha256(key).hexdigest()).write_bytes(key)
    strong.unlink()


def _sealed(data: bytes, key: bytes) -> bytes:
    nonce = os.urandom(16)
    hidden = _openssl(data, "-aes-256-ctr", "-K", key[:32].hex(), "-iv", nonce.hex())
    return (
        nonce
        + hidden
        + _poly1305(hidden, r=key[48:], s=_openssl(nonce, "-aes-128-ecb", "-nopad", "-K", key[32:48].hex()))
    )


def _poly1305(message: bytes, *, r: bytes, s: bytes) -> bytes:
    """Return the message's tag (RFC 8439, 2.5)."""
    factor, found = int.from_bytes(r, "little") & _CLAMP, 0
    for place in range(0, len(message), 16):
        found = (found + int.from_bytes(message[place : place + 16] + b"\1", "little")) * factor % _PRIME
    return ((found + int.from_bytes(s, "little")) & ((1 << 128) - 1)).to_bytes(16, "little")


def _openssl(data: bytes, *words: str) -> bytes:
    openssl = neighbour.program("openssl", "apt install openssl")
    return subprocess.run([openssl, "enc", *words], input=data, capture_output=True, check=True).stdout


def _text(data: bytes) -> str:
    return base64.b64encode(data).decode()
