"""Ids that sort by time: UUID version 7 (RFC 9562, section 5.7)."""

from __future__ import annotations

import secrets
import sys
import threading
import time
import uuid

if sys.version_info >= (3, 14):

    def uuid7() -> str:
        """Return a new id; within this process each is greater than the one before."""
        return str(uuid.uuid7())

else:
    _RANDOM_BITS = 74
    _lock = threading.Lock()
    _last = (0, 0)

    def uuid7() -> str:
        """Return a new id; within this process each is greater than the one before.

        Within one millisecond, and after the clock was set back, the random part is counted up (RFC 9562,
        section 6.2, method 2).
        """
        global _last  # noqa: PLW0603 - the id before this one, guarded by the lock
        with _lock:
            milliseconds = max(time.time_ns() // 1_000_000, _last[0])
            if milliseconds == _last[0]:
                tail = _last[1] + 1 + secrets.randbits(32)
            else:
                tail = secrets.randbits(_RANDOM_BITS - 1)
            if tail >> _RANDOM_BITS:
                milliseconds, tail = milliseconds + 1, secrets.randbits(_RANDOM_BITS - 1)
            _last = (milliseconds, tail)
        return _compose(milliseconds, tail)

    def _compose(milliseconds: int, tail: int) -> str:
        """Lay out 48 bits of time, the version, 12 bits, the variant, 62 bits."""
        digits = f"{milliseconds << 80 | 7 << 76 | tail >> 62 << 64 | 2 << 62 | tail & ((1 << 62) - 1):032x}"
        return f"{digits[:8]}-{digits[8:12]}-{digits[12:16]}-{digits[16:20]}-{digits[20:]}"
