"""Tells one target what waits for it: in order, again until it is taken, given up after a bound; it delays nobody."""

from __future__ import annotations

import asyncio
import math
import random
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from datetime import tzinfo
from typing import Protocol

from homelab_agent.core import journal
from homelab_agent.core.clock import LONGEST_SLEEP_SECONDS, Clock, about
from homelab_agent.core.errors import AgentError
from homelab_agent.core.health import Finding
from homelab_agent.core.nudge import Nudge
from homelab_agent.core.waiting import all_done
from homelab_agent.notify.answer import UNCLEAR_MAX, Answer, pause
from homelab_agent.notify.batch import last_words, next_batch, overdue
from homelab_agent.notify.message import Text, Writer
from homelab_agent.notify.promise import Portion
from homelab_agent.notify.queue import Queue
from homelab_agent.notify.target import Target

STOP_SECONDS = 3.0
"""So long a stop waits for the answer to what is being sent."""

_BETWEEN_SECONDS = 1.0

log = journal.logger("notify")


class Sends(Protocol):
    """What sends: `sender.Sender`."""

    async def address(self) -> str:
        """Return where it goes; what is secret in it is masked from then on."""

    async def send(self, text: Text) -> Answer:
        """Send a message and return the answer."""


class Courier:
    """The messages of one target. `report` is told how it stands; while `is_muted` says so nothing is sent."""

    def __init__(
        self,
        target: Target,
        sender: Sends,
        queue: Queue,
        writer: Writer,
        clock: Clock,
        *,
        page: Callable[[], str],
        give_up: float,
    ) -> None:
        """`give_up` in seconds that a target does not take a message; `page` is where the status page is."""
        self.target = target
        self.sender: Sends = sender
        self.news = Nudge(clock)
        self._retry = Nudge(clock)
        self.report: Callable[[Finding], None] = lambda _: None
        self.is_muted: Callable[[], bool] = lambda: False
        self._queue = queue
        self._writer = writer
        self._clock = clock
        self._page = page
        self._give_up = give_up
        self._masked: Sends | None = None
        self._failures = 0
        self._due: dict[str, float] = {}
        self._muted_from: float | None = None
        self._last = Answer(ok=True, words="")
        self._local: tzinfo | None = writer.zone

    @property
    def check(self) -> str:
        """The check that says whether its target takes messages."""
        return self.target.check

    async def run(self) -> None:
        """Send until cancelled."""
        if self._queue.is_recovered:  # else nobody knows yet how the target was left
            self.report(self.finding())
        while True:
            await self._mask()
            batch = self._next()
            if not batch:
                await self.news.sleep(self._idle())
                continue
            wait = await self._tell(batch)
            self.report(self.finding())
            await self._retry.sleep(wait)

    def adopt(self, target: Target, sender: Sends | None, writer: Writer, *, give_up: float) -> None:
        """Take new settings; with another `sender` what waits is tried at once."""
        self.target, self._writer, self._give_up = target, writer, give_up
        if sender is not None:
            self.sender = sender
            self._queue.readdress(target.name)
            self.begin_anew()
        self.news.give()  # quiet hours may be others

    def begin_anew(self) -> None:
        """Hold nothing against the target, which has taken a test or is another one, and try what waits at once."""
        self._failures, self._last = 0, Answer(ok=True, words="")
        self._queue.forgive(self.target.name)
        self.report(self.finding())
        self._due.clear()
        self._retry.give()
        self.news.give()

    def finding(self) -> Finding:
        """Say whether it takes messages, from what an agent before this one has noted, too."""
        waiting = self._queue.waiting(self.target.name)
        given_up = self._queue.given_up(self.target.name)
        words = self._last.words or next((one.answer for one in waiting if one.answer), "")
        test = f"homelab-agent notify test {self.target.name}"
        if given_up:
            return Finding.failed(f"it was not told of {given_up} messages, which are given up: {words}", test)
        if self._failures or any(one.tries for one in waiting):
            return Finding.degraded(f"it takes no messages, {len(waiting)} wait: {words}", test)
        return Finding.ok("it has taken all messages" if not waiting else f"messages that wait: {len(waiting)}")

    def text(self, batch: Sequence[Portion]) -> Text:
        """Return what a batch says."""
        return self._writer.write([item for one in batch for item in one.items], self._page())

    async def _mask(self) -> None:
        """Have what is secret in the address masked, before anything is sent there."""
        if self._masked is not self.sender:
            self._masked = self.sender
            with suppress(AgentError):  # a send says what it is
                await self.sender.address()

    def _next(self) -> Sequence[Portion]:
        now = self._clock.read().monotonic
        if self.is_muted():
            self._muted_from = now if self._muted_from is None else self._muted_from
            return ()
        if self._muted_from is not None:
            self._queue.excuse(self.target.name, now - self._muted_from)
            self._muted_from = None
        held = self._held()
        return next_batch(self._queue.waiting(self.target.name), quiet=self._is_quiet(), held=held.keys())

    def _held(self) -> Mapping[str, float]:
        """Return when (monotonic) that is tried again which the target has perhaps taken, by the promise's id."""
        now = self._clock.read().monotonic
        waiting = {one.id for one in self._queue.waiting(self.target.name)}
        self._due = {name: at for name, at in self._due.items() if at > now and name in waiting}
        return self._due

    def _idle(self) -> float:
        """Return the seconds until it looks again though there is no news."""
        now = self._clock.read()
        next_due = min(self._held().values(), default=math.inf) - now.monotonic
        return min(about(now, LONGEST_SLEEP_SECONDS), next_due)

    def _is_quiet(self) -> bool:
        return self.target.is_quiet(self._clock.read().wall.astimezone(self._local))

    async def _tell(self, batch: Sequence[Portion]) -> float:
        """Send a batch and note what became of it; return the seconds until the next."""
        text, name, sender = self.text(batch), self.target.name, self.sender
        answer = await self._ask(sender, batch, text)
        if sender is not self.sender and not answer.ok:
            return 0.0  # the new address is asked, and nothing of the old one's is held against it
        self._last = answer
        if answer.ok:
            self._failures = 0
            await self._note_sent(batch, answer, text)
            return _BETWEEN_SECONDS
        self._failures += 1
        if self._failures == 1:
            log.warning("notify.not_taken", target=name, title=text.title, answer=answer.words)
        is_quiet = self._is_quiet()
        # What waits for the end of quiet hours is not late.
        late = [one.promise for one in batch] if is_quiet else self._queue.waiting(name)
        await self._queue.tried(batch, answer.words, late, unclear=answer.unclear)
        if answer.unclear:
            await self._let_go(batch, answer, text.title)
        if not is_quiet:
            await self._give_up_overdue(answer)
        return self._hold(batch, answer) if answer.unclear else self._pause(self._failures, answer)

    async def _ask(self, sender: Sends, batch: Sequence[Portion], text: Text) -> Answer:
        """Send, and return the answer; a stop waits for it a moment, so that the next agent does not send it again."""
        sending = asyncio.ensure_future(sender.send(text))
        try:
            return await asyncio.shield(sending)
        except asyncio.CancelledError:
            is_done = await all_done([sending], self._clock, within=STOP_SECONDS)
            left = [one for one in batch if one.promise.ended_at is None]
            if is_done and left and sending.exception() is None and sending.result().ok:
                await self._note_sent(left, sending.result(), text)
            raise
        finally:
            sending.cancel()

    async def _note_sent(self, batch: Sequence[Portion], answer: Answer, text: Text) -> None:
        await self._queue.sent(batch, answer.words, text.title)
        log.info("notify.sent", target=self.target.name, messages=len(batch), title=text.title, answer=answer.words)

    def _hold(self, batch: Sequence[Portion], answer: Answer) -> float:
        """Keep what was perhaps taken for long, and what is not critical behind it; return the seconds until more."""
        left = [one.promise for one in batch if one.promise.ended_at is None]
        if not left:
            return self._pause(1, answer)
        at = self._clock.read().monotonic + self._pause(max(one.unclear for one in left), answer)
        self._due |= dict.fromkeys((one.id for one in left), at)
        return _BETWEEN_SECONDS

    @staticmethod
    def _pause(failures: int, answer: Answer) -> float:
        return pause(failures, answer, random.random())  # noqa: S311 - not a secret

    async def _let_go(self, batch: Sequence[Portion], answer: Answer, title: str) -> None:
        """Give up what the target has perhaps taken too often; there are no last words of that, and they all stay."""
        often = [one for one in batch if one.promise.unclear >= UNCLEAR_MAX]
        taken = [one for one in often if not one.promise.has_last_words]
        if taken:
            await self._queue.let_go(taken, answer.words, title)
            log.error("notify.given_up", target=self.target.name, messages=len(taken), title=title, answer=answer.words)

    async def _give_up_overdue(self, answer: Answer) -> None:
        name, waiting = self.target.name, self._queue.waiting(self.target.name)
        late = overdue(waiting, self._clock.read().monotonic, self._give_up, self._failures)
        if late:
            title = self._writer.write([item for one in late for item in one.items], "").title
            last = last_words(waiting, late, self._queue.given_up(name) + len(late))
            await self._queue.give_up(late, last, answer.words, title)
            log.error("notify.given_up", target=name, messages=len(late), title=title, answer=answer.words)
