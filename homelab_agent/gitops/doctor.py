"""What `homelab-agent doctor gitops` asks without a running agent, repository by repository.

It asks as who calls it: root can tell everything, another user what is that user's. The agent is taken to run as who
owns its state directory.
"""

from __future__ import annotations

import asyncio
import os
import re
import stat
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path

from homelab_agent.core import privilege, process
from homelab_agent.core.clock import SystemClock
from homelab_agent.core.errors import AgentError
from homelab_agent.core.health import Check, Finding, State
from homelab_agent.core.privilege import Answer, User
from homelab_agent.core.process_output import Stream
from homelab_agent.core.secret import SecretMissing, Secrets
from homelab_agent.gitops import access, git, keyring, owned, premises, status, working_copy
from homelab_agent.gitops.settings import GitopsSettings, Repository
from homelab_agent.gitops.signature import Key

GIT_OLDEST = (2, 39)
"""What `gitops_sync.sh` is written for."""
REMOTE_SECONDS = 20.0
"""How long a remote may take to answer here, however long a sync may take."""
SECRET_CHARACTERS = 22
"""So many characters of base64 are 128 bits; less can be found by trying, from one delivery that was overheard."""

_AGAIN = "sudo homelab-agent doctor gitops"
_LOCAL_SECONDS = 30.0
_REMOTE_LATE = REMOTE_SECONDS + git.GRACE_SECONDS + 10.0


def checks(settings: GitopsSettings, directory: Path, secrets: Secrets) -> Sequence[Check]:
    """Return the checks that need no agent; `directory` is its state directory, `secrets` reads as the agent does."""
    asking = _Asking(settings, directory, secrets)
    remotes = [
        Check(f"gitops.{one.name}.remote", partial(asking.remote, one), deadline=asking.within(_REMOTE_LATE))
        for one in settings.repository
    ]
    return [*beside(settings, directory, secrets), *remotes]


def beside(settings: GitopsSettings, directory: Path, secrets: Secrets) -> Sequence[Check]:
    """Return those that a running agent does not ask itself, and that do not get into its way."""
    asking = _Asking(settings, directory, secrets)
    found = [Check("gitops.git", _git, deadline=_LOCAL_SECONDS)]
    if settings.status_token:
        found.append(Check("gitops.status_token", asking.status_token))
    late = asking.within(_LOCAL_SECONDS)
    for one in settings.repository:
        found.append(Check(f"gitops.{one.name}.copy", partial(asking.copy, one), deadline=late))
        found.append(Check(f"gitops.{one.name}.secrets", partial(asking.secrets, one)))
        if one.action:
            found.append(Check(f"gitops.{one.name}.actions", partial(asking.actions, one), deadline=late))
    return found


class _Asking:
    """Asks about repositories, as many at a time as are synced at a time."""

    def __init__(self, settings: GitopsSettings, directory: Path, secrets: Secrets) -> None:
        self._settings = settings
        self._directory = directory
        self._secrets = secrets
        self._places = asyncio.Semaphore(settings.syncs_at_once)
        self._clock = SystemClock()

    def within(self, seconds: float) -> float:
        """Return how long a check may take of which each takes so long: it may have to wait for all others."""
        return seconds * (1 + len(self._settings.repository) // self._settings.syncs_at_once)

    async def copy(self, repository: Repository) -> Finding:
        """Say whether the working copy is there, whose it is, what it follows, and who else may write to it."""
        user = await asyncio.to_thread(premises.whose, repository)
        if not _may_act(user):
            return _cannot_tell(user)
        agent = await self._agent()
        async with self._places, owned.opened(repository) as copy:
            faults = await asyncio.to_thread(lambda: list(premises.of_owner(repository, user, agent)))
            url = "a remote that is not known"
            try:
                async with git.at_work(repository, _Alone(), deadline=premises.ASK_SECONDS) as at_work:
                    faults += await premises.of_files(at_work, copy.path, user)
                    wrong, url = await premises.of_remote(repository, at_work)
                    faults += wrong
            except AgentError as error:
                faults.append(Finding.of(error))
        return premises.judged(faults, f"{repository.directory} is {user.name}'s, and follows {url}")

    async def remote(self, repository: Repository) -> Finding:
        """Ask the remote, and say what a sync would do now: it is the same question that the agent asks."""
        user = await asyncio.to_thread(premises.whose, repository)
        if not _may_act(user):
            return _cannot_tell(user)
        token = ""
        if repository.token:
            if wrong := await self._wrong("token", repository.token):
                return premises.judged(wrong, "")
            token = await self._value(repository.token)
        seconds = min(REMOTE_SECONDS, self._settings.sync_timeout)
        async with self._places:
            with working_copy.handed(token) as descriptors:
                async with git.at_work(repository, _Alone(descriptors), deadline=seconds) as at_work:
                    answer = {**await at_work.sync("", plan=True), "as_user": at_work.as_user}
        planned = working_copy.read(answer, repository)
        if planned.is_good:
            return Finding.ok(planned.detail)
        return status.trouble(planned.word, planned.detail, planned.repair)

    async def secrets(self, repository: Repository) -> Finding:
        """Say whether the secrets are there, long enough, still accepted, and nobody else's."""
        if not await self._may_read():
            return _only_the_agent()
        faults: list[Finding] = []
        for one in repository.secret:
            faults += await self._wrong(f"webhook secret {one.name}", one.secret, SECRET_CHARACTERS)
        if repository.token:
            faults += await self._wrong("token", repository.token)
        agent = await self._agent()
        faults += await asyncio.to_thread(lambda: list(_of_key_files(repository, agent)))
        today = self._clock.read().wall.date()
        keys = [Key(repository.name, one.name, one.expires) for one in repository.secret]
        if (ends := keyring.expiry(keys, today)) is not None:
            faults.append(ends)
        if not keys and not self._settings.poll:
            said = "there is neither a webhook secret nor a poll: nothing is deployed by itself"
            faults.append(Finding.degraded(said, "[[gitops.repository.secret]], or [gitops] poll = 900"))
        expired = [f"{key.name} expired on {key.expires}" for key in keys if key.has_expired(today)]
        good = f"webhook secrets: {len(keys)}" if keys else "no webhook secret: it is polled"
        return premises.judged(faults, good, expired)

    async def actions(self, repository: Repository) -> Finding:
        """Say whether what the actions need is there, and what who can push may do by them."""
        user = await asyncio.to_thread(premises.whose, repository)
        said = await asyncio.to_thread(premises.powers, repository, user)
        if not _may_act(user):
            return premises.judged([_cannot_tell(user)], "", said)
        async with self._places:
            faults = await premises.of_actions(repository, user)
        return premises.judged(faults, f"actions: {len(repository.action)}", said)

    async def status_token(self) -> Finding:
        """Say whether the token for commit statuses is there."""
        if not await self._may_read():
            return _only_the_agent()
        return premises.judged(await self._wrong("token", self._settings.status_token), "it is there")

    async def _wrong(self, what: str, reference: str, least: int = 0) -> Sequence[Finding]:
        """Return what is wrong with a secret that the agent is to read."""
        try:
            value = await self._value(reference)
        except SecretMissing as error:
            if reference.startswith("file:"):
                return [Finding.of(error)]
            said = f"whether the {what} is there only the agent can tell: {reference} is for its process alone"
            return [Finding(State.NOT_AVAILABLE, said, "start the agent, then: homelab-agent doctor")]
        except AgentError as error:
            return [Finding.of(error)]
        if len(value) < least:
            said = f"the {what} is shorter than {least} characters: it can be found by trying"
            return [
                Finding.degraded(said, "put a longer one there, and into the hook's settings: openssl rand -hex 32")
            ]
        return []

    async def _value(self, reference: str) -> str:
        """Return a secret's value; raises what `Secret.get` raises."""
        found = self._secrets.find(reference)
        await found.refresh()
        return found.get()

    async def _may_read(self) -> bool:
        return os.geteuid() in {0, await self._agent()}

    async def _agent(self) -> int:
        """Return the number of the user whom the agent runs as: whose its state directory is, else our own."""
        return await asyncio.to_thread(privilege.owner, self._directory)


class _Alone:
    """Implements `core.privilege.Call`, with nobody at the other end: what the root half would do is done here."""

    def __init__(self, descriptors: Sequence[int] = ()) -> None:
        self.arguments: Answer = {}
        self.descriptors = descriptors

    def say(self, stream: Stream, line: str) -> None:
        """Tell nobody."""

    async def hold(self, answer: Answer) -> None:
        """Hold nothing."""


async def _git() -> Finding:
    done = await process.run(["git", "--version"], deadline=premises.ASK_SECONDS)
    said = done.stdout.decode(errors="replace").strip()
    found = re.search(r"(\d+)\.(\d+)", said)
    if found is None:
        return Finding.failed(f"git does not say which version it is: {said}", "git --version")
    if (int(found[1]), int(found[2])) < GIT_OLDEST:
        oldest = ".".join(map(str, GIT_OLDEST))
        return Finding.failed(f"{said} is too old", f"install git {oldest} or later")
    return Finding.ok(said)


def _may_act(user: User) -> bool:
    return os.geteuid() in {0, user.uid}


def _cannot_tell(user: User) -> Finding:
    return Finding(State.NOT_AVAILABLE, f"only {user.name}, whose working copy it is, and root can tell", _AGAIN)


def _only_the_agent() -> Finding:
    return Finding(State.NOT_AVAILABLE, "only the agent's user and root can tell", _AGAIN)


def _of_key_files(repository: Repository, agent: int) -> Iterator[Finding]:
    """Yield what is wrong with the files that let git in, or say whom to believe; blocking."""
    forbidden = {"deploy_key": stat.S_IRWXG | stat.S_IRWXO, "known_hosts": 0o022, "allowed_signers": 0o022}
    for key, bits in forbidden.items():
        path = str(getattr(repository, key))
        if not path:
            continue
        try:
            found = Path(path).stat()
        except OSError as error:
            yield Finding.of(access.Unreadable(path=path, key=key, cause=error))
            continue
        if found.st_mode & bits:
            what = "read" if found.st_mode & bits & 0o044 else "write"
            yield Finding.degraded(
                f"others may {what} {path}", f"chmod {'600' if key == 'deploy_key' else 'go-w'} {path}"
            )
        if found.st_uid not in {0, agent, premises.whose(repository).uid}:
            yield Finding.degraded(f"{path} belongs to somebody else (uid {found.st_uid})", f"sudo chown root: {path}")
