"""The capability `notify`: a courier for each target, one who decides what is news, and the heartbeat."""

from __future__ import annotations

from functools import partial

from homelab_agent.core.capability import Capability, Listing, Mark, Task
from homelab_agent.core.foundation import Foundation
from homelab_agent.core.health import Check
from homelab_agent.notify import heartbeat
from homelab_agent.notify.courier import Courier
from homelab_agent.notify.decision import Timing
from homelab_agent.notify.heartbeat import Caller, Heartbeat, JobBeats
from homelab_agent.notify.message import Writer
from homelab_agent.notify.mute import Mute
from homelab_agent.notify.queue import Queue
from homelab_agent.notify.routes import Api
from homelab_agent.notify.sender import Sender
from homelab_agent.notify.settings import NotifySettings
from homelab_agent.notify.target import Target
from homelab_agent.notify.teller import Teller
from homelab_agent.notify.trial import Trials


def build(settings: NotifySettings, base: Foundation) -> Capability:
    """Return what the capability contributes."""
    return Service(settings, base).capability()


class Service:
    """Holds the capability's parts together."""

    def __init__(self, settings: NotifySettings, base: Foundation) -> None:
        self._settings = settings
        self._base = base
        self._queue = Queue(base.state, base.spool, base.clock, host=base.host)
        self._mute = Mute(base.state, base.clock)
        self._trials = Trials(base.state)
        writer = Writer(base.host, settings.digest)
        self._couriers = [
            Courier(
                Target.of(one),
                Sender(one.name, base.secrets.find(one.url), base.redactor, public=(base.host,)),
                self._queue,
                writer,
                base.clock,
                page=self.page,
                give_up=settings.give_up,
            )
            for one in settings.target
        ]
        for courier in self._couriers:
            courier.report = partial(base.health.report, courier.target.check)
        timing = Timing(settings.grace, settings.grace_degraded, settings.group)
        self._teller = Teller(base, self._couriers, self._queue, self._mute, self._trials, timing, settings.critical)
        self._heartbeat: Heartbeat | None = None
        self._job_beats: JobBeats | None = None
        if settings.heartbeat is not None:
            caller = Caller(settings.heartbeat, base.redactor, public=(base.host,))
            if settings.heartbeat.url:
                secret = base.secrets.find(settings.heartbeat.url)
                self._heartbeat = Heartbeat(settings.heartbeat, secret, base, caller)
            jobs = {one.job: base.secrets.find(one.url) for one in settings.heartbeat.job}
            self._job_beats = JobBeats(jobs, base, caller, base.clock) if jobs else None

    def capability(self) -> Capability:
        """Return what all this contributes."""
        tasks = [Task("notify", self._teller.run)]
        tasks += [Task(one.target.check, one.run) for one in self._couriers]
        checks = [Check(one.target.check) for one in self._couriers]
        if self._heartbeat is not None:
            report = partial(self._base.health.report, heartbeat.CHECK)
            tasks.append(Task(heartbeat.CHECK, partial(self._heartbeat.run, report)))
            checks.append(Check(heartbeat.CHECK))
        if self._job_beats is not None:
            tasks.append(Task("notify.jobs", self._job_beats.run))
        api = Api(self._base, self._couriers, self._queue, self._mute, self._trials, self._heartbeat)
        return Capability(
            name="notify", tasks=tasks, routes=api.routes(), checks=checks, summary=self.summary, listings=self.listings
        )

    def page(self) -> str:
        """Return where the status page is, as a message says it; "" where only this host itself reaches it."""
        if self._settings.page:
            return self._settings.page
        if self._base.door.names:
            return f"https://{min(self._base.door.names)}/"
        return ""

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
