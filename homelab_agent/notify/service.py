"""The capability `notify`: a courier for each target, one who decides what is news, and the heartbeat."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial

from homelab_agent.core.capability import Capability, Listing, Mark, Task
from homelab_agent.core.foundation import Foundation
from homelab_agent.core.health import Check, Finding, State
from homelab_agent.notify import settings
from homelab_agent.notify.answer import Answer
from homelab_agent.notify.courier import Courier
from homelab_agent.notify.decision import Timing
from homelab_agent.notify.heartbeat import Caller, Heartbeat, JobBeats
from homelab_agent.notify.message import Writer
from homelab_agent.notify.mute import Mute
from homelab_agent.notify.queue import Queue
from homelab_agent.notify.routes import Api
from homelab_agent.notify.sender import Sender
from homelab_agent.notify.settings import HeartbeatSettings, NotifySettings
from homelab_agent.notify.severity import Scale
from homelab_agent.notify.staff import Staff, Worker
from homelab_agent.notify.target import Target
from homelab_agent.notify.teller import Teller
from homelab_agent.notify.trial import Trials

_GONE = Finding(State.DISABLED, "it is not configured any more")


def build(settings: NotifySettings, base: Foundation) -> Capability:
    """Return what the capability contributes."""
    return Service(settings, base).capability()


class Service:
    """Holds the capability's parts together; who is at work changes with the configuration."""

    def __init__(self, settings: NotifySettings, base: Foundation) -> None:
        self._settings = settings
        self._base = base
        self._queue = Queue(base.state, base.spool, base.clock, host=base.host)
        self._mute = Mute(base.state, base.clock)
        self._trials = Trials(base.state)
        self._couriers = [self._courier(one) for one in settings.target]
        self._heartbeat, self._job_beats = self._beats(settings.heartbeat)
        timing, scale = _timing(settings), _scale(settings)
        self._teller = Teller(base, self._couriers, self._queue, self._mute, self._trials, timing, scale)
        self._staff = Staff(base.clock, base.health.report)
        self._checks: list[str] = []

    def capability(self) -> Capability:
        """Return what all this contributes."""
        workers = self._workers()
        self._checks = [one.check for one in workers]
        self._staff.employ(workers)
        api = Api(self._base, self._couriers, self._queue, self._mute, self._trials, self._last_call)
        return Capability(
            name="notify",
            tasks=[Task("notify", self._teller.run), Task("notify.senders", self._staff.run)],
            routes=api.routes(),
            checks=[Check(name) for name in self._checks],
            summary=self.summary,
            listings=self.listings,
            reload=self.reload,
        )

    def reload(self, settings: NotifySettings) -> None:
        """Take new settings; raises `ReferenceFaulty`, and then nothing is changed."""
        for reference in _references(settings):
            self._base.secrets.find(reference)
        before, self._settings = self._settings, settings
        self._teller.adopt(_timing(settings), _scale(settings))
        self._take_on(before)
        if settings.heartbeat != before.heartbeat:
            self._heartbeat, self._job_beats = self._beats(settings.heartbeat)
        self._employ(self._workers())

    def _employ(self, workers: Sequence[Worker]) -> None:
        """Have these at work in place of others, whose checks stay, and say so until the next start."""
        health, findings = self._base.health, {one.check: one.finding() for one in workers}
        new = [name for name in findings if name not in self._checks]
        health.add(Check(name) for name in new)
        self._checks += new
        for name in self._checks:
            health.report(name, findings.get(name, _GONE))
        self._staff.employ(workers)

    def _take_on(self, before: NotifySettings) -> None:
        """Have a courier for each target: who has a target of that name keeps it, and what waits."""
        urls = {one.name: one.url for one in before.target}
        present = {one.target.name: one for one in self._couriers}
        self._couriers.clear()
        for section in self._settings.target:
            courier = present.get(section.name)
            if courier is None:
                courier = self._courier(section)
            else:
                sender = self._sender(section) if section.url != urls[section.name] else None
                courier.adopt(Target.of(section), sender, self._writer(), give_up=self._settings.give_up)
            self._couriers.append(courier)

    def _courier(self, section: settings.Target) -> Courier:
        target, base = Target.of(section), self._base
        courier = Courier(
            target,
            self._sender(section),
            self._queue,
            self._writer(),
            base.clock,
            page=self.page,
            give_up=self._settings.give_up,
        )
        courier.report = partial(base.health.report, target.check)
        courier.is_muted = lambda: self._mute.current() is not None
        return courier

    def _sender(self, section: settings.Target) -> Sender:
        return Sender(section.name, self._base.secrets.find(section.url), self._base.redactor)

    def _writer(self) -> Writer:
        return Writer(self._base.host, self._settings.digest)

    def _beats(self, section: HeartbeatSettings | None) -> tuple[Heartbeat | None, JobBeats | None]:
        """Return who calls for the agent, and who for runs of jobs."""
        if section is None:
            return None, None
        base, caller = self._base, Caller(section, self._base.redactor)
        agent = Heartbeat(section, base.secrets.find(section.url), base, caller) if section.url else None
        jobs = {one.job: base.secrets.find(one.url) for one in section.job}
        return agent, JobBeats(jobs, base, caller, base.clock) if jobs else None

    def _workers(self) -> Sequence[Worker]:
        beats = [one for one in (self._heartbeat, self._job_beats) if one is not None]
        return [*self._couriers, *beats]

    def _last_call(self) -> Answer | None:
        return self._heartbeat.last if self._heartbeat is not None else None

    def page(self) -> str:
        """Return where the status page is, as a message says it."""
        if self._settings.page:
            return self._settings.page
        if self._base.door.names:
            return f"https://{min(self._base.door.names)}/"
        return f"http://127.0.0.1:{self._base.port}/" if self._base.port is not None else ""

    def summary(self) -> str:
        """Return how many are told, what waits, and a mute, in words."""
        said = f"targets: {len(self._couriers)}"
        waiting = sum(len(self._queue.waiting(one.target.name)) for one in self._couriers)
        if waiting:
            said += f", messages that wait: {waiting}"
        if (word := self._mute.current()) is not None:
            said += f", muted until {word.until.astimezone():%Y-%m-%d %H:%M}: {word.reason}"
        return said

    def listings(self) -> list[Listing]:
        """Return what the status page shows: a mute, the last messages, the last test of each target."""
        marks = []
        if (word := self._mute.current()) is not None:
            marks.append(Mark(f"muted by {word.who} until", "degraded", word.until, word.reason))
        for one in self._queue.recent:
            detail = f"{one.answer}, after {one.tries} tries" if one.tries > 1 else one.answer
            marks.append(Mark(f"{one.target}: {one.checks}", _STATES[one.outcome], one.made_at, detail))
        tests = [test for one in self._couriers if (test := self._trials.last(one.target.name)) is not None]
        marks += [Mark(f"test of {one.target}", "ok" if one.ok else "failed", one.at, one.answer) for one in tests]
        return [Listing("Told", marks)]


_STATES = {"": "running", "sent": "ok", "given up": "failed"}


def _timing(settings: NotifySettings) -> Timing:
    return Timing(settings.grace, settings.grace_degraded, settings.group)


def _scale(settings: NotifySettings) -> Scale:
    return Scale(settings.critical, settings.serious)


def _references(settings: NotifySettings) -> Iterator[str]:
    """Yield the references to secrets that are read."""
    yield from (one.url for one in settings.target)
    if settings.heartbeat is not None:
        yield from (url for url in (settings.heartbeat.url, *(one.url for one in settings.heartbeat.job)) if url)
