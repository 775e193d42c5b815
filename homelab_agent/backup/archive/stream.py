"""Bytes on their way to an archive's file, and back from it; for a thread of their own."""

from __future__ import annotations

import hashlib
import os
import queue
import tarfile
import threading
from collections.abc import Callable
from contextlib import suppress
from typing import BinaryIO

import zstandard

from homelab_agent.backup import pipes

CHUNK = 1024 * 1024
_AHEAD = 4
"""Pieces."""
_BATCH = 256 * 1024
_BATCH_PARTS = 512
"""At most so many bytes, or parts, are written at once: fewer than writev(2) takes."""
_CLOSING_SECONDS = 0.01


class Sink:
    """Takes tar's bytes, writes them compressed, and hashes what is written."""

    def __init__(self, file: BinaryIO, level: int, told: Callable[[int], None]) -> None:
        """`told` is told how many bytes were taken so far."""
        self.taken = 0
        self._file = file
        self._hash = hashlib.sha256()
        self._told = told
        parameters = zstandard.ZstdCompressionParameters.from_level(level, threads=-1, write_checksum=True)
        self._compressor = zstandard.ZstdCompressor(compression_params=parameters).compressobj()

    def write(self, data: bytes) -> None:
        """Take bytes."""
        self.taken += len(data)
        self._put(self._compressor.compress(data))
        self._told(self.taken)

    def member(self, name: str, data: bytes, mode: int = 0o600) -> None:
        """Take a small file, as tar would write it."""
        entry = tarfile.TarInfo(name)
        entry.size, entry.mode = len(data), mode
        self.write(entry.tobuf(tarfile.PAX_FORMAT) + data + bytes(-len(data) % tarfile.BLOCKSIZE))

    def drain(self, source: int) -> None:
        """Take what comes from a descriptor, to its end; closes it."""
        with os.fdopen(source, "rb", buffering=0) as pipe:
            while data := pipe.read(CHUNK):
                self.write(data)

    def close(self) -> str:
        """Write what is left, have all of it on disk, and return its SHA-256."""
        self._put(self._compressor.flush())
        os.fsync(self._file.fileno())
        return self._hash.hexdigest()

    def _put(self, data: bytes) -> None:
        if data:
            pipes.write_all(self._file.fileno(), data)
            self._hash.update(data)


class Ahead:
    """Reads a source in a thread of its own, a few pieces ahead of who takes them; to be closed."""

    def __init__(self, source: Callable[[int], bytes]) -> None:
        """`source` returns the next bytes, at most so many, b"" at its end."""
        self._source = source
        self._pieces: queue.Queue[bytes | Exception] = queue.Queue(_AHEAD)
        self._is_wanted = True
        self._thread = threading.Thread(target=self._read, name="archive ahead", daemon=True)
        self._thread.start()

    def take(self, _size: int) -> bytes:
        """Return the next piece, b"" once at the end; raises what the source raised."""
        piece = self._pieces.get()
        if isinstance(piece, Exception):
            raise piece
        return piece

    def close(self) -> None:
        """Have the thread end; returns when it has."""
        self._is_wanted = False
        while self._thread.is_alive():
            with suppress(queue.Empty):
                self._pieces.get_nowait()
            self._thread.join(_CLOSING_SECONDS)

    def _read(self) -> None:
        try:
            while self._is_wanted and (piece := self._source(CHUNK)):
                self._pieces.put(piece)
            self._pieces.put(b"")
        except Exception as error:  # noqa: BLE001 - it is raised by who takes
            self._pieces.put(error)


class Pipe:
    """The end of a pipe that a thread of its own writes to; to be closed.

    What its reader does not take any more is dropped, and `broken` says so.
    """

    def __init__(self, descriptor: int) -> None:
        self.broken = False
        self._descriptor = descriptor
        self._batch: list[bytes | memoryview] = []
        self._size = 0
        self._batches: queue.Queue[list[bytes | memoryview]] = queue.Queue(_AHEAD)
        self._thread = threading.Thread(target=self._write, name="archive pipe", daemon=True)
        self._thread.start()

    def give(self, data: bytes | memoryview) -> None:
        """Hand on all of it, in the end together with what follows."""
        self._batch.append(data)
        self._size += len(data)
        if self._size >= _BATCH or len(self._batch) == _BATCH_PARTS:
            self._hand_on()

    def close(self) -> None:
        """Let the reader know that there is no more; returns when it has taken all."""
        self._hand_on()
        self._batches.put([])
        self._thread.join()
        os.close(self._descriptor)

    def _hand_on(self) -> None:
        if self._batch:
            self._batches.put(self._batch)
            self._batch, self._size = [], 0

    def _write(self) -> None:
        while batch := self._batches.get():
            try:
                if not self.broken:
                    _write_batch(self._descriptor, batch)
            except OSError:
                self.broken = True


def _write_batch(descriptor: int, batch: list[bytes | memoryview]) -> None:
    written = os.writev(descriptor, batch)
    for data in batch:
        if written < len(data):
            pipes.write_all(descriptor, memoryview(data)[written:])
        written = max(written - len(data), 0)


class Hashing:
    """A file that hashes what is read of it, of which there is no more than `length` bytes."""

    def __init__(self, file: BinaryIO, length: int) -> None:
        self._hash = hashlib.sha256()
        self._file = file
        self._left = length

    @property
    def sha256(self) -> str:
        """The hash of what was read so far."""
        return self._hash.hexdigest()

    def read(self, size: int = -1) -> bytes:
        """Return the next bytes."""
        data = self._file.read(self._left if size < 0 else min(size, self._left))
        self._left -= len(data)
        self._hash.update(data)
        return data

    def go_on(self, length: int) -> None:
        """Read so many bytes more."""
        self._left += length
        self.rest()

    def rest(self) -> None:
        """Read what nobody wanted."""
        while self.read(CHUNK):
            pass
