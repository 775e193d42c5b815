"""Whether anything keeps this host's clock right: what the kernel was told (adjtimex(2))."""

from __future__ import annotations

import ctypes
from pathlib import Path

_STA_UNSYNC = 0x0040
_TIMEX_BYTES = 208
_STATUS_OFFSET = 40
"""Of `status` in `struct timex` (adjtimex(2)) where a long has 64 bits."""
_MARKER = Path("/run/systemd/timesync/synchronized")


def synchronised(marker: Path = _MARKER) -> bool:
    """Return whether something keeps the clock: what the kernel says, else systemd-timesyncd's marker.

    With a hardware clock in local time timesyncd keeps the kernel from knowing.
    """
    buffer = ctypes.create_string_buffer(_TIMEX_BYTES)
    if _libc.adjtimex(buffer) >= 0 and not ctypes.c_int.from_buffer(buffer, _STATUS_OFFSET).value & _STA_UNSYNC:
        return True
    return marker.exists()


_libc = ctypes.CDLL(None)
