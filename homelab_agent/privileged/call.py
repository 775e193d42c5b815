"""One call on the half's side, as its verb sees it, and the frames that come of it."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from typing import Any

from homelab_agent.core.privilege import Answer
from homelab_agent.core.process_output import LINE_MAX, Stream
from homelab_agent.privileged import frames

WAITING_MAX = 1024 * 1024
"""Bytes of output that wait for a caller who does not read; what comes beyond them is left out."""


class ServedCall:
    """Implements `core.privilege.Call`."""

    def __init__(self, arguments: Mapping[str, Any], descriptors: Sequence[int], writer: asyncio.StreamWriter) -> None:
        self.arguments = arguments
        self.descriptors = descriptors
        self.holds = False
        self._writer = writer
        self._let_go = asyncio.Event()
        self._left_out = 0

    def say(self, stream: Stream, line: str) -> None:
        """Send a line of output, without waiting; what would have to wait for long is left out, which is said."""
        if self._writer.transport.get_write_buffer_size() > WAITING_MAX:
            self._left_out += 1
            return
        self.tell_left_out()
        for begin in range(0, len(line), LINE_MAX):
            self.tell({"line": [stream, line[begin : begin + LINE_MAX]]})

    def tell_left_out(self) -> None:
        """Say how many lines were left out, if any were."""
        if self._left_out:
            self.tell({"line": ["stderr", f"[{self._left_out} lines left out: they were not read in time]"]})
            self._left_out = 0

    async def hold(self, answer: Answer) -> None:
        """Give a first answer, and wait until it is let go."""
        self.holds = True
        self.tell({"held": dict(answer)})
        await self._let_go.wait()

    def let_go(self) -> None:
        """Let what is held be released, also what would be held from now on."""
        self._let_go.set()

    def tell(self, message: Mapping[str, Any]) -> None:
        """Send a message, without waiting; nothing to one who has gone. Raises what `frames.encode` raises."""
        frame = frames.encode(message)
        if not self._writer.is_closing():
            self._writer.write(frame)
