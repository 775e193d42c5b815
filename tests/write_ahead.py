"""What SQLite's write-ahead log tells about a state.db from outside."""

from __future__ import annotations

from pathlib import Path


def commits(directory: Path) -> int:
    """Return how many commits the log of the state.db there holds, since it was last begun anew.

    https://www.sqlite.org/fileformat2.html, section 4.1: the last frame of each has a size in its header.
    """
    log = directory / "state.db-wal"
    content = log.read_bytes() if log.exists() else b""
    page = int.from_bytes(content[8:12], "big")
    heads = (content[at : at + 24] for at in range(32, len(content), 24 + page))
    return sum(head[4:8] != bytes(4) and head[8:16] == content[16:24] for head in heads)
