"""A host that has no thread to give."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def no_more() -> Iterator[None]:
    """Have the system refuse each new thread while the context lasts: no address space holds such a stack."""
    before = threading.stack_size(1 << 47)
    try:
        yield
    finally:
        threading.stack_size(before)
