"""Become an ordinary user, who can read this checkout and its Python wherever they lie."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

UID = 65534
_READING_ONLY = "-all,+dac_read_search"
"""A checkout below /root is closed to others; to be allowed to read is not to be allowed to do."""


def ordinary(argv: list[str]) -> list[str]:
    """Return the command that runs `argv` as an ordinary user; skip when we are neither root nor ordinary enough."""
    if os.geteuid() != 0:
        pytest.skip("only root can become another user; run the tests as one and this is covered by the others")
    capabilities = [f"--inh-caps={_READING_ONLY}", f"--ambient-caps={_READING_ONLY}", f"--bounding-set={_READING_ONLY}"]
    return ["setpriv", f"--reuid={UID}", f"--regid={UID}", "--clear-groups", *capabilities, "--", *argv]


@contextmanager
def acting_as(uid: int) -> Iterator[None]:
    """Be this user meanwhile, as far as those see whom this process asks; skip where that cannot be."""
    if os.geteuid() != 0:
        pytest.skip("only root can act as another user; run the tests as root and this is covered")
    os.seteuid(uid)
    try:
        yield
    finally:
        os.seteuid(0)
