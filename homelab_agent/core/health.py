"""Checks become one picture of the agent's health, with cause and repair."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from enum import StrEnum

from homelab_agent.core.clock import Clock, about
from homelab_agent.core.errors import AgentError, describe
from homelab_agent.core.feed import Feed


class State(StrEnum):
    """How something stands. What the hardware does not have is `not_available`, never degraded."""

    OK = "ok"
    DEGRADED = "degraded"
    FAILED = "failed"
    DISABLED = "disabled"
    NOT_AVAILABLE = "not_available"


def in_trouble(state: str) -> bool:
    """Return whether what stands so does not work, or less well than it should."""
    return state in {State.FAILED, State.DEGRADED}


def needs_operator(state: str, expected: str) -> bool:
    """Return whether a person should look: it is in trouble, and that was not announced.

    PostgreSQL says so too: `needs_you` of the view `standing`.
    """
    return in_trouble(state) and not expected


@dataclass(frozen=True, slots=True)
class Finding:
    """What a check found: `detail` in words, `repair` a command or a configuration key where there is one.

    A check that stands for many says by `about` which of them are in trouble, by keys that stay: one more is news.
    """

    state: State
    detail: str
    repair: str = ""
    about: frozenset[str] = frozenset()

    @classmethod
    def ok(cls, detail: str) -> Finding:
        """Say that all is well."""
        return cls(State.OK, detail)

    @classmethod
    def degraded(cls, detail: str, repair: str = "", *, about: Iterable[str] = ()) -> Finding:
        """Say that it works, but less well than it should."""
        return cls(State.DEGRADED, detail, repair, frozenset(about))

    @classmethod
    def failed(cls, detail: str, repair: str = "", *, about: Iterable[str] = ()) -> Finding:
        """Say that it does not work."""
        return cls(State.FAILED, detail, repair, frozenset(about))

    @classmethod
    def of(cls, error: BaseException) -> Finding:
        """Return the failed finding that an exception amounts to."""
        return cls(State.FAILED, describe(error), error.repair if isinstance(error, AgentError) else "")


@dataclass(frozen=True, slots=True)
class Check:
    """A named question about the agent or a neighbour.

    `probe` is asked every `every` seconds or so and has `deadline` seconds to answer; without a probe the finding is
    only reported. `blocks` names what must not happen while the check is not ok or degraded ("gate").
    """

    name: str
    probe: Callable[[], Awaitable[Finding]] | None = None
    every: float = 30.0
    deadline: float = 5.0
    blocks: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class Standing:
    """A check's present finding, since when its state is so, and whether an outage was announced.

    `pushed` says that nobody had to ask: it was reported when it became so.
    """

    check: str
    finding: Finding
    since: datetime
    probed_at: datetime
    expected: str = ""
    pushed: bool = False

    @property
    def in_trouble(self) -> bool:
        """Whether it is failed or degraded, announced or not."""
        return in_trouble(self.finding.state)

    @property
    def needs_operator(self) -> bool:
        """Whether a person should look: in trouble, and that was not announced."""
        return needs_operator(self.finding.state, self.expected)

    def as_fields(self) -> dict[str, object]:
        """Return what a program is told: the standing's part of `GET /api/health`."""
        return {
            "check": self.check,
            "state": self.finding.state,
            "detail": self.finding.detail,
            "repair": self.finding.repair,
            "since": self.since,
            "expected": self.expected,
        }


@dataclass(frozen=True, slots=True)
class Change:
    """A check's finding changed its state or its words; `before` is None the first time."""

    before: Standing | None
    after: Standing


def pressing(picture: Sequence[Standing]) -> list[Standing]:
    """Return what needs the operator: failures before degradations, each in the picture's order."""
    found = [standing for standing in picture if standing.needs_operator]
    return sorted(found, key=lambda standing: standing.finding.state is not State.FAILED)


@dataclass(slots=True)
class _Outage:
    checks: frozenset[str]
    reason: str
    until: datetime


@dataclass(slots=True)
class Health:
    """The one picture: every check's standing; changes are published on `changes`."""

    clock: Clock
    changes: Feed[Change] = field(default_factory=Feed)
    _checks: dict[str, Check] = field(default_factory=dict)
    _standings: dict[str, Standing] = field(default_factory=dict)
    _outages: list[_Outage] = field(default_factory=list)

    def add(self, checks: Iterable[Check]) -> None:
        """Make `checks` known; one that was never answered stands as "not checked yet"."""
        for check in checks:
            if check.name in self._checks:
                message = f"two checks are called {check.name}"
                raise ValueError(message)
            self._checks[check.name] = check

    def report(self, check: str, finding: Finding) -> None:
        """Take a finding at once; `check` must have been added."""
        self._take(self._checks[check].name, finding, pushed=True)

    def expect(self, checks: Iterable[str], reason: str, until: datetime) -> Callable[[], None]:
        """Announce an outage of `checks`: until then it neither alarms nor blocks. Returns what ends it early."""
        outage = _Outage(frozenset(checks), reason, until)
        self._outages.append(outage)

        def end() -> None:
            if outage in self._outages:
                self._outages.remove(outage)

        return end

    def picture(self) -> list[Standing]:
        """Return every check's standing, in the order in which the checks were added."""
        now = self.clock.read().wall
        return [self._standing(name, now) for name in self._checks]

    def answered(self) -> list[Standing]:
        """Return the standing of every check that has been answered."""
        return [standing for standing in self.picture() if standing.check in self._standings]

    def state(self) -> State:
        """Return the worst of all states that were not announced: ok, degraded or failed."""
        states = {standing.finding.state for standing in self.picture() if not standing.expected}
        return next((worst for worst in (State.FAILED, State.DEGRADED) if worst in states), State.OK)

    def ready(self, what: str) -> bool:
        """Return whether every check that blocks `what` has been answered and is ok, degraded or announced."""
        return not self.blocking(what)

    def blocking(self, what: str, *, pushed: bool = False) -> list[Standing]:
        """Return what keeps `what` from being ready; with `pushed` only what is reported at once."""
        found = []
        for standing in self.picture():
            check = self._checks[standing.check]
            waits_for_a_probe = check.probe is not None and not standing.pushed
            if what not in check.blocks or standing.expected or (pushed and waits_for_a_probe):
                continue
            if standing.check not in self._standings or standing.finding.state not in {State.OK, State.DEGRADED}:
                found.append(standing)
        return found

    async def probe(self, name: str) -> Standing:
        """Ask one check now and return its standing; a probe that fails or is late is a failed finding."""
        check = self._checks[name]
        if check.probe is not None:
            try:
                async with asyncio.timeout(check.deadline):
                    finding = await check.probe()
            except TimeoutError:
                finding = Finding.failed(f"no answer within {check.deadline:g} s")
            except Exception as error:  # noqa: BLE001 - whatever a probe raises is what it found
                finding = Finding.of(error)
            self._take(name, finding, pushed=False)
        return self._standing(name, self.clock.read().wall)

    async def probe_all(self) -> list[Standing]:
        """Ask every check now, all at once; for `doctor`."""
        return list(await asyncio.gather(*(self.probe(name) for name in self._checks)))

    async def run(self) -> None:
        """Ask each check in its own rhythm, those of one rhythm together, until cancelled."""
        async with asyncio.TaskGroup() as group:
            for check in self._checks.values():
                if check.probe is not None:
                    group.create_task(self._repeat(check), name=f"check {check.name}")

    async def _repeat(self, check: Check) -> None:
        while True:
            await self.probe(check.name)
            await self.clock.sleep(about(self.clock.read(), check.every))

    def _take(self, name: str, finding: Finding, *, pushed: bool) -> None:
        now = self.clock.read().wall
        before = self._standings.get(name)
        unchanged = before is not None and before.finding.state is finding.state
        since = before.since if before is not None and unchanged else now
        pushed = pushed or (before is not None and unchanged and before.pushed)
        after = Standing(name, finding, since, now, self._expected(name, now), pushed)
        self._standings[name] = after
        if before is None or before.finding != finding or before.expected != after.expected:
            self.changes.publish(Change(before, after))

    def _standing(self, name: str, now: datetime) -> Standing:
        standing = self._standings.get(name) or Standing(name, Finding.ok("not checked yet"), now, now)
        expected = self._expected(name, now)
        return standing if standing.expected == expected else replace(standing, expected=expected)

    def _expected(self, check: str, now: datetime) -> str:
        self._outages = [outage for outage in self._outages if outage.until > now]
        return next((outage.reason for outage in self._outages if check in outage.checks), "")
