"""The capability `gitops`: from a signed push to a proven deployment."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from functools import partial

from homelab_agent.core.capability import Capability, Task
from homelab_agent.core.foundation import Foundation
from homelab_agent.core.health import Check
from homelab_agent.core.jobs import Job, Jobs
from homelab_agent.core.state import StateUnavailable
from homelab_agent.gitops import github, recall, routes
from homelab_agent.gitops.counters import Counters
from homelab_agent.gitops.deployment import Deployment
from homelab_agent.gitops.github import CommitStatuses
from homelab_agent.gitops.identity import Identities
from homelab_agent.gitops.inbox import Inbox
from homelab_agent.gitops.keyring import Keyring
from homelab_agent.gitops.moves import Moves
from homelab_agent.gitops.ping import Pings
from homelab_agent.gitops.poll import Poll
from homelab_agent.gitops.probes import Gate
from homelab_agent.gitops.receiver import Receiver
from homelab_agent.gitops.rollout import Rollout
from homelab_agent.gitops.settings import GitopsSettings, Repository
from homelab_agent.gitops.status import Status
from homelab_agent.gitops.sync import Ended, Sync
from homelab_agent.gitops.verifier import Verifier
from homelab_agent.gitops.worker import JOB, ROLLBACK_JOB, Worker
from homelab_agent.gitops.working_copy import WorkingCopy

_CHECK_SECONDS = 60.0
_RUN_SLACK_SECONDS = 600.0


def build(settings: GitopsSettings, base: Foundation) -> Capability:
    """Return what the capability contributes."""
    return Service(settings, base).capability()


class Service:
    """Holds the capability's parts together, and tells each what becomes of a repository."""

    def __init__(self, settings: GitopsSettings, base: Foundation) -> None:
        self._settings = settings
        self._clock = base.clock
        self._places = asyncio.Semaphore(settings.syncs_at_once)
        self._counters = Counters(base.registry)
        repositories, clock = settings.repository, base.clock
        self.inbox = Inbox(base.state, base.spool, clock, host=base.host, max_bytes=settings.inbox_max_bytes)
        self.moves = Moves(base.state, base.spool, clock, host=base.host)
        self.status = Status(repositories, clock, lambda name, found: base.health.report(f"gitops.{name}", found))
        self.commit_statuses = _commit_statuses(settings, base)
        copies = {
            one.name: WorkingCopy(
                one, base.privileged, base.secrets.find, base.redactor.mask, sync_timeout=settings.sync_timeout
            )
            for one in repositories
        }
        self.deployments = {one.name: self._deployment(one, copies[one.name], base) for one in repositories}
        self.syncs = {name: Sync(deployment, self.inbox, self, clock) for name, deployment in self.deployments.items()}
        self.worker = Worker(self.syncs, copies, self.inbox, self.moves, base.privileged, base.jobs, clock)
        self.poll = Poll(
            self.deployments,
            self.status,
            clock,
            interval=settings.poll,
            at_once=settings.syncs_at_once,
            is_busy=self.worker.is_busy,
            wake=self.worker.wake,
        )
        self.verifier = _verifier(settings, base)
        identities = Identities(repositories, base.state, clock)
        self.receiver = Receiver(
            repositories,
            self.verifier,
            self.inbox,
            identities,
            clock,
            wake=self.worker.wake,
            registry=base.registry,
        )
        self.apis = self._apis(Pings(identities, base.secrets.find, clock), base.jobs)

    def capability(self) -> Capability:
        """Return what all this contributes."""
        tasks = [Task("gitops.worker", self.run)]
        checks = [
            Check("webhook", self.verifier.probe, blocks=frozenset({"gate"})),
            *(
                Check(f"gitops.{name}", partial(self.status.probe, name), every=_CHECK_SECONDS)
                for name in self.deployments
            ),
        ]
        if self._settings.poll:
            tasks.append(Task("gitops.poll", self.poll.run))
        if self.commit_statuses is not None:
            tasks.append(Task("gitops.commit_status", self.commit_statuses.run))
            checks.append(Check("commit_status", self.commit_statuses.probe))
        return Capability(
            name="gitops",
            tasks=tasks,
            jobs=self.jobs(),
            routes=[route for api in self.apis for route in api.routes()],
            checks=checks,
            summary=self.status.summary,
        )

    async def run(self) -> None:
        """Work until cancelled; the web server has stopped before that, so nothing more comes in."""
        try:
            for name in self.deployments:
                await self._recall(name)
            await self.worker.run()
        finally:
            await self.receiver.rest()

    def jobs(self) -> list[Job]:
        """Return a sync and a rollback for each repository; the two of one never overlap.

        What others must not use meanwhile (`Rollout.uses`) they use only while they do what follows, not for git.
        """
        deadline = sum(map(self._longest, self._settings.repository))  # its git may have to wait for that of all others
        jobs = []
        for name in self.syncs:
            uses = frozenset({f"gitops {name}"})
            job = partial(Job, deadline=deadline, uses=uses, has_check=False)  # `status` says what is wrong
            said = f"Bring {name} to what was pushed, and do what follows."
            jobs.append(job(JOB + name, partial(self.worker.sync, name), description=said))
            said = f"Bring {name} back to the last good commit before the present one."
            jobs.append(job(ROLLBACK_JOB + name, partial(self.worker.roll_back, name), description=said))
        return jobs

    # A `sync.Listener`.

    def began(self, repository: Repository, sha: str) -> None:
        """Tell the forge that a commit is being deployed."""
        if self.commit_statuses is not None:
            self.commit_statuses.tell(repository.full_name, repository.name, sha, "pending", "is being deployed")

    async def ended(self, ended: Ended) -> None:
        """Count, and tell the forge and who asks how it stands now."""
        name, verdict = ended.repository.name, ended.verdict
        self._counters.ended(name, verdict.word, ended.seconds)
        self.status.ended(name, verdict, self._clock.read().wall)
        await self._learn(name)
        if self.commit_statuses is not None:
            fates = dict(ended.fates)
            if verdict.word == "ok":
                fates.setdefault(verdict.sha_reached, verdict)
            for sha, fate in fates.items():
                self.commit_statuses.tell(ended.repository.full_name, name, sha, *github.said(fate))

    async def _recall(self, name: str) -> None:
        with suppress(StateUnavailable):
            if (past := await recall.recalled(name, self.moves, self.deployments[name].rollout)) is not None:
                self.status.ended(name, *past)
        await self._learn(name)

    async def _learn(self, name: str) -> None:
        with suppress(StateUnavailable):
            self.status.learn(name, await self.moves.deployed(name), await self.moves.bad(name))
        if (at := self.status.deployed_at(name)) is not None:
            self._counters.deployed(name, at)

    def _apis(self, pings: Pings, jobs: Jobs) -> tuple[routes.Repositories, routes.Deliveries]:
        late = self._settings.sync_timeout
        return (
            routes.Repositories(self.deployments, self.status, self.inbox, self.moves, jobs, pings, sync_timeout=late),
            routes.Deliveries(self.receiver, self.inbox),
        )

    def _deployment(self, repository: Repository, copy: WorkingCopy, base: Foundation) -> Deployment:
        gate = Gate(repository.probe, copy.probe, base.clock)
        return Deployment(repository, copy, self.moves, Rollout(repository, copy, self.moves, gate), self._places)

    def _longest(self, repository: Repository) -> float:
        """Return how long a run may take at most, with a rollback: in seconds."""
        follows = sum(action.timeout for action in repository.action)
        follows += max((probe.within for probe in repository.probe), default=0.0)
        return 3 * self._settings.sync_timeout + 2 * follows + _RUN_SLACK_SECONDS


def _verifier(settings: GitopsSettings, base: Foundation) -> Verifier:
    return Verifier(
        Keyring(settings.repository, base.secrets.find, base.clock),
        base.clock,
        networks=settings.networks,
        refusals_per_minute=settings.failures_per_minute,
    )


def _commit_statuses(settings: GitopsSettings, base: Foundation) -> CommitStatuses | None:
    if not settings.status_token:
        return None
    return CommitStatuses(
        partial(base.secrets.find, settings.status_token),
        base.clock,
        api_url=settings.api_url,
        context=f"homelab-agent/{base.host}",
    )
