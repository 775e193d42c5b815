"""Services of one's own, asked now and then: each is a check at once, and a row of the family `probe` with a sample."""

from __future__ import annotations

import asyncio
import ssl
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import timedelta

from homelab_agent.core import asking, journal
from homelab_agent.core.asking import Answer
from homelab_agent.core.clock import Clock, about
from homelab_agent.core.errors import describe
from homelab_agent.core.health import Check, Finding
from homelab_agent.metrics.host import Host, NotAvailable
from homelab_agent.metrics.sample import Families, Reading, Values
from homelab_agent.metrics.settings import MetricsSettings, Probe

DOWN_AFTER = 2
"""So many bad answers in a row, and a service is down; one alone may be a restart."""

log = journal.logger("metrics")


@dataclass(frozen=True, slots=True)
class Asked:
    """One answer, how many seconds it took, and when (monotonic) it came.

    `bad` is how many bad ones in a row it is the last of.
    """

    answer: Answer
    seconds: float
    bad: int
    at: float


class Watch:
    """One service; the answers since its last row are kept for the next."""

    def __init__(self, probe: Probe, host: Host, clock: Clock) -> None:
        self.probe = probe
        self.last: Asked | None = None
        self._entity = host.entities.get("probe", probe.name)
        self._clock = clock
        self._tls: ssl.SSLContext | None = None
        self._untold: deque[Asked] = deque()  # the loop adds, the collectors' thread takes
        self._told: Reading | None = None

    @property
    def is_bad(self) -> bool:
        """Whether the last answer was no good one."""
        return self.last is not None and self.last.bad > 0

    async def ask(self) -> Finding:
        """Ask once, and return what that means."""
        began = self._clock.read().monotonic
        answer = await self._answer()
        bad = 0 if answer.ok else 1 + (self.last.bad if self.last else 0)
        now = self._clock.read().monotonic
        self.last = Asked(answer, now - began, bad, now)
        self._untold.append(self.last)
        return self._finding(self.last)

    def reading(self) -> Reading | None:
        """Return the row of the answers since the last one, or that again where there are none; None before any."""
        if asked := [self._untold.popleft() for _ in range(len(self._untold))]:
            self._told = Reading(self._entity, self._values(asked), read_at=asked[-1].at)
            return self._told
        return None if self._told is None else replace(self._told, news=False)

    def _values(self, asked: Sequence[Asked]) -> Values:
        last = asked[-1]
        until = last.answer.valid_until
        return {
            "up": last.answer.ok,
            "answer_s": round(last.seconds, 6) if last.answer.ok else None,
            "status": last.answer.status,
            "certificate_s": None if until is None else round((until - self._clock.read().wall).total_seconds()),
            "asked": len(asked),
            "failed": sum(not one.answer.ok for one in asked),
            "cause": None if last.answer.ok else last.answer.detail,
            "target": self.probe.target,
        }

    async def _answer(self) -> Answer:
        probe, target = self.probe, self.probe.target
        try:
            if target.startswith("http://"):
                return await asking.page(target, within=probe.within, text=probe.text)
            if "://" not in target:
                return await asking.port(target, within=probe.within)
            if self._tls is None:
                self._tls = await asyncio.to_thread(_trust, probe)
        except OSError as error:
            return Answer(ok=False, detail=f"{probe.ca} cannot be read: {describe(error)}")
        if target.startswith("https://"):
            answer = await asking.page(target, within=probe.within, tls=self._tls, text=probe.text)
        else:
            answer = await asking.port(target.removeprefix("tls://"), within=probe.within, tls=self._tls)
        if not answer.ok:
            self._tls = None  # the file may be another by the next time
        return answer

    def _finding(self, asked: Asked) -> Finding:
        answer, target = asked.answer, self.probe.target
        if not answer.ok:
            detail = f"{target}: {answer.detail}"
            return (Finding.failed if asked.bad >= DOWN_AFTER else Finding.degraded)(detail, _by_hand(target))
        detail = f"{answer.detail}, in {asked.seconds * 1000:.0f} ms"
        if answer.valid_until is not None:
            left = answer.valid_until - self._clock.read().wall
            detail = f"{detail}; its certificate is good until {answer.valid_until:%Y-%m-%d}"
            if left < timedelta(days=self.probe.certificate_days):
                return Finding.degraded(f"{target}: {detail}", "renew it: see the log of what does that by itself")
        return Finding.ok(detail)


class Probes:
    """All services; a `Collector`."""

    name = "probe"
    slow = True
    patience = 1.0

    def __init__(
        self, host: Host, settings: MetricsSettings, clock: Clock, report: Callable[[str, Finding], None]
    ) -> None:
        self._watches = [Watch(probe, host, clock) for probe in settings.probe]
        self._clock = clock
        self._report = report

    def checks(self) -> Sequence[Check]:
        """Return a check for each service, which hears of each answer at once."""
        return [Check(check_name(one.probe)) for one in self._watches]

    async def run(self) -> None:
        """Ask them all, until cancelled."""
        async with asyncio.TaskGroup() as group:
            for one in self._watches:
                group.create_task(self._watch(one), name=f"metrics.probe {one.probe.name}")

    def collect(self) -> Families:
        """Return how each stands, news where it was asked since the last time; raises `NotAvailable` without any."""
        if not self._watches:
            raise NotAvailable(what="[[metrics.probe]]")
        return {"probe": [reading for one in self._watches if (reading := one.reading()) is not None]}

    def adopt(self, settings: MetricsSettings) -> None:
        """Take new settings, none of which is for this."""

    async def _watch(self, one: Watch) -> None:
        while True:
            was_bad = one.is_bad
            finding = await one.ask()
            self._report(check_name(one.probe), finding)
            if one.is_bad and not was_bad:
                log.warning("metrics.probe_fails", of=one.probe.name, detail=finding.detail)
            elif was_bad and not one.is_bad:
                log.info("metrics.probe_answers", of=one.probe.name, detail=finding.detail)
            await self._clock.sleep(about(self._clock.read(), one.probe.every))


def check_name(probe: Probe) -> str:
    """Return what the check of a service is called."""
    return f"metrics.probe.{probe.name}"


def _trust(probe: Probe) -> ssl.SSLContext:
    """Return who is believed; blocking, raises OSError (also ssl.SSLError) for a file that holds no certificates."""
    context = ssl.create_default_context(cafile=probe.ca or None)
    if not probe.verify:
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    return context


def _by_hand(target: str) -> str:
    """Return the command that shows a person what the agent saw."""
    if "://" not in target:
        host, _, port = target.rpartition(":")
        return f"nc -vz {host.strip('[]')} {port}"
    if target.startswith("tls://"):
        return f"openssl s_client -connect {target.removeprefix('tls://')}"
    return f"curl -v {target}"
