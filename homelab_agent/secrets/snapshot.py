"""A snapshot of OpenBao's storage: a tar archive with gzip around it, and in it the sums to know it by.

https://openbao.org/api-docs/system/storage/raft/#take-a-snapshot-of-the-raft-cluster. What goes wrong when the first
bytes are out, the server cannot say any more (a good status went before): so the sums are looked at here.
"""

from __future__ import annotations

import gzip
import hashlib
import os
import tarfile
import zlib
from pathlib import Path
from typing import IO

import hvac
import requests

from homelab_agent.core import statefile
from homelab_agent.secrets.errors import SnapshotBroken

PATH = "sys/storage/raft/snapshot"

_PIECE_BYTES = 256 * 1024


def take(client: hvac.Client, to: Path) -> int:
    """Write a snapshot to a file that only its owner may read, whole or not at all; return its bytes.

    Raises `SnapshotBroken`, OSError for the file, and what a request raises.
    """
    response = client.adapter.get(f"/v1/{PATH}", stream=True)  # hvac's own method goes past our adapter
    fresh = to.with_name(f"{to.name}.new")
    fresh.unlink(missing_ok=True)
    descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    try:
        with os.fdopen(descriptor, "wb") as file:
            for piece in response.iter_content(_PIECE_BYTES):
                file.write(piece)
            file.flush()
            os.fsync(descriptor)
            size = file.tell()
        examine(fresh)
        fresh.rename(to)
    except requests.RequestException as error:
        raise SnapshotBroken(cause=type(error).__name__) from None
    finally:
        response.close()
        fresh.unlink(missing_ok=True)
    statefile.sync_directory(to.parent)
    return size


def examine(path: Path) -> None:
    """See whether a snapshot is whole; raises `SnapshotBroken`, and OSError where it cannot be read."""
    try:
        with gzip.open(path) as unpacked:
            with tarfile.open(fileobj=unpacked, mode="r|") as archive:
                sums, found = _contents(archive)
            while unpacked.read(_PIECE_BYTES):  # to the very end, where gzip's own sum is
                pass
    except (tarfile.TarError, gzip.BadGzipFile, zlib.error, EOFError, ValueError) as error:
        raise SnapshotBroken(cause=error) from error
    if "state.bin" not in sums:
        raise SnapshotBroken(cause="it holds no sums")
    for name, digest in sums.items():
        if found.get(name) != digest:
            raise SnapshotBroken(cause=f"{name} is not what its sum says")


def _contents(archive: tarfile.TarFile) -> tuple[dict[str, str], dict[str, str]]:
    """Return by name the sums that the archive names, and those that its files have."""
    sums: dict[str, str] = {}
    found: dict[str, str] = {}
    for member in archive:
        file = archive.extractfile(member)
        if file is not None and member.name == "SHA256SUMS":
            sums = {name: digest for digest, name in (line.split() for line in file.read().decode().splitlines())}
        elif file is not None:
            found[member.name] = _sum(file)
    return sums, found


def _sum(file: IO[bytes]) -> str:
    digest = hashlib.sha256()
    while piece := file.read(_PIECE_BYTES):
        digest.update(piece)
    return digest.hexdigest()
