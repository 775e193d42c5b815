"""The dead man's switch: calls that somebody else misses, for the agent while it does its work and for runs of jobs.

Healthchecks: the check's address, with /start or /fail behind it, `rid` for what belongs together, and what is to be
read there as the body (https://healthchecks.io/docs/http_api/). Uptime Kuma: a monitor's push address with `status`
(up, down) and `msg`; it knows no start.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from enum import StrEnum
from functools import partial
from urllib.parse import parse_qsl, urlencode, urlsplit, urlunsplit

import aiohttp

from homelab_agent.core import duty, journal
from homelab_agent.core.clock import Clock, about
from homelab_agent.core.errors import AgentError, describe
from homelab_agent.core.foundation import Foundation
from homelab_agent.core.health import Finding
from homelab_agent.core.jobs import RunRecord
from homelab_agent.core.journal.redaction import Redactor
from homelab_agent.core.secret import Secret
from homelab_agent.notify import message
from homelab_agent.notify.address import heartbeat_parts
from homelab_agent.notify.answer import Answer
from homelab_agent.notify.settings import HeartbeatSettings

CHECK, JOBS_CHECK = "notify.heartbeat", "notify.heartbeat.jobs"
LOOK_SECONDS = 5.0
"""While it is silent it looks this often whether it may call again."""
TRIES = 3
LINES_MAX = 50
BODY_BYTES_MAX = 10_000
"""What self-hosted and hosted Healthchecks keep of a body, at least."""
_MSG_MAX = 250
_READ_BYTES = 4096
_SAID_MAX = 200
_AGENT = "homelab-agent"

log = journal.logger("notify")


class Beat(StrEnum):
    """What is said."""

    START = "start"
    SUCCESS = "success"
    FAIL = "fail"


@dataclass(frozen=True, slots=True)
class Call:
    """One call as it is made: the whole address, and what is posted there; "" is a GET."""

    url: str
    body: str = ""


def call(kind: str, url: str, beat: Beat, *, run: str = "", text: str = "") -> Call | None:
    """Return the call that says it, None where the other side has no word for it."""
    address = urlsplit(url.strip())
    query = dict(parse_qsl(address.query, keep_blank_values=True))
    if kind == "uptime-kuma":
        if beat is Beat.START:
            return None
        status = "down" if beat is Beat.FAIL else "up"
        query |= {"status": status, "msg": message.one_line(text, _MSG_MAX) or "OK"}
        return Call(urlunsplit(address._replace(query=urlencode(query))))
    end = "" if beat is Beat.SUCCESS else f"/{beat}"
    if run:
        query["rid"] = run
    said = text.encode("utf-8", "replace")[-BODY_BYTES_MAX:].decode("utf-8", "ignore")
    return Call(urlunsplit(address._replace(path=address.path.rstrip("/") + end, query=urlencode(query))), said)


def beat_of(record: RunRecord) -> Beat | None:
    """Return what a run's record says, None where it is nothing new or nobody's fault."""
    match record.state:
        case "running":
            return Beat.START
        case "ok":
            return Beat.SUCCESS
        case "failed" | "timed_out" | "interrupted":
            return Beat.FAIL
        case "cancelled":  # who was told of a start waits for an end
            return Beat.FAIL if record.started_at is not None else None
        case "waiting":
            return None


class Caller:
    """Makes calls over HTTP."""

    def __init__(self, settings: HeartbeatSettings, redactor: Redactor, *, public: Collection[str] = ()) -> None:
        """Nothing of `public` counts as a secret of an address."""
        self._settings = settings
        self._redactor = redactor
        self._public = public

    async def say(self, secret: Secret, beat: Beat, *, run: str = "", text: str = "") -> Answer:
        """Say it once, and return what is answered; nothing is followed."""
        try:
            url = await secret.latest()
        except AgentError as error:
            return Answer(ok=False, words=str(error))
        for part in heartbeat_parts(url, self._public):
            self._redactor.add(part)
        try:
            made = call(self._settings.kind, url, beat, run=run, text=self._redactor.mask(text))
        except ValueError as error:
            return Answer(ok=False, words=f"its address is none: {self._redactor.mask(str(error))}")
        if made is None:
            return Answer(ok=True, words="it knows no start")
        timeout = aiohttp.ClientTimeout(total=self._settings.timeout)
        try:
            async with (
                aiohttp.ClientSession(timeout=timeout, headers={"User-Agent": _AGENT}) as session,
                session.request(
                    "POST" if made.body else "GET",
                    made.url,
                    data=made.body.encode() if made.body else None,
                    allow_redirects=False,
                ) as answer,
            ):
                body = (await answer.content.read(_READ_BYTES)).decode("utf-8", "replace")
                said = message.one_line(self._redactor.mask(body), _SAID_MAX)
                words = self._redactor.mask(f"it answers {answer.status} {answer.reason or ''}: {said}".rstrip(": "))
                # Healthchecks answers 200 for a check that it does not have, and says so.
                return Answer(200 <= answer.status < 300 and "(not found)" not in said, words)
        except TimeoutError:
            return Answer(ok=False, words=f"no answer within {self._settings.timeout:g} s")
        except (aiohttp.ClientError, OSError, ValueError) as error:
            return Answer(ok=False, words=message.one_line(self._redactor.mask(describe(error)), 300))


class Heartbeat:
    """Calls for the agent, as often as is configured, while what the watchdog asks for holds."""

    def __init__(self, settings: HeartbeatSettings, secret: Secret, base: Foundation, caller: Caller) -> None:
        self._every = settings.every
        self._secret = secret
        self._base = base
        self._caller = caller
        self.check = CHECK
        self.last: Answer | None = None

    async def run(self) -> None:
        """Call until cancelled, from when it is known whether the agent does its work."""
        report = partial(self._base.health.report, self.check)
        await duty.asked(self._base.health)
        while True:
            why = self.silence()
            if why:
                if self.last is None or self.last.words != why:
                    log.warning("notify.heartbeat_withheld", cause=why)
                self.last = Answer(ok=False, words=why)
                report(Finding.degraded(why, "homelab-agent doctor metrics"))
            else:
                before, self.last = self.last, await self._caller.say(self._secret, Beat.SUCCESS)
                if not self.last.ok and (before is None or before.ok):
                    log.warning("notify.heartbeat_not_taken", answer=self.last.words)
                report(self.finding())
            pause = min(self._every, LOOK_SECONDS) if why else self._every
            await self._base.clock.sleep(about(self._base.clock.read(), pause))

    def silence(self) -> str:
        """Return why nothing is said, so that it is missed: as for the watchdog, the agent does not do its work."""
        neglected = duty.neglected(self._base.health, [self._base.jobs.pulse])
        return neglected and f"{neglected}: nothing is said, so that it is missed"

    def finding(self) -> Finding:
        """Say whether the last call was taken."""
        if self.last is None or self.last.ok:
            return Finding.ok("its calls are taken" if self.last else "it has not called yet")
        return Finding.degraded(
            f"nobody hears that the agent is alive: {self.last.words}", "homelab-agent notify status"
        )


class JobBeats:
    """Tells each run of some jobs: its start, that it went well, or how it failed with its last lines."""

    def __init__(self, secrets: Mapping[str, Secret], base: Foundation, caller: Caller, clock: Clock) -> None:
        self._secrets = secrets
        self._base = base
        self._caller = caller
        self._clock = clock
        self.check = JOBS_CHECK

    def finding(self) -> Finding:
        """Say whose runs are told; that a call is missed, the other side says."""
        return Finding.ok(f"runs are told of: {', '.join(self._secrets)}")

    async def run(self) -> None:
        """Tell until cancelled, of each job in order; one monitor that does not answer delays no other."""
        queues: dict[str, asyncio.Queue[RunRecord]] = {job: asyncio.Queue(64) for job in self._secrets}
        with self._base.jobs.changes.subscribe() as changes:
            async with asyncio.TaskGroup() as group:
                for job, queue in queues.items():
                    group.create_task(self._tell_all(job, queue), name=f"heartbeat {job}")
                told: dict[str, str] = {}
                while True:
                    record = await changes.get()
                    queue_of = queues.get(record.job)
                    news = f"{record.id} {record.state}"
                    if queue_of is None or told.get(record.job) == news or beat_of(record) is None:
                        continue
                    told[record.job] = news
                    if queue_of.full():
                        queue_of.get_nowait()
                    queue_of.put_nowait(record)

    async def _tell_all(self, job: str, queue: asyncio.Queue[RunRecord]) -> None:
        while True:
            record = await queue.get()
            beat = beat_of(record)
            if beat is not None:
                await self._tell(job, record, beat)

    async def _tell(self, job: str, record: RunRecord, beat: Beat) -> None:
        text = "" if beat is Beat.START else await self._text(record)
        answer = Answer(ok=False, words="")
        for number in range(TRIES):
            answer = await self._caller.say(self._secrets[job], beat, run=record.id, text=text)
            if answer.ok:
                return
            if number + 1 < TRIES:
                await self._clock.sleep(2 ** (2 * number) * (1 + random.random()))  # noqa: S311 - not a secret
        log.warning("notify.heartbeat_not_taken", job=job, run_id=record.id, beat=beat, answer=answer.words)

    async def _text(self, record: RunRecord) -> str:
        """Return how it ended, and its last lines."""
        said = f"{record.state.replace('_', ' ')}: {record.detail}" if record.detail else record.state
        watched = await self._base.jobs.watch(record.id)
        if watched is None:
            return said
        lines: list[str] = []
        seen = max(0, watched.output.printed - LINES_MAX)
        while (part := watched.output.after(seen)).lines:
            lines += part.lines
            seen = part.upto
        return "\n".join([said, *lines[-LINES_MAX:]])
