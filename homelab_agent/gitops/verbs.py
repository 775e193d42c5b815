"""What the root half does for GitOps: git, actions and probes in the working copies that its configuration names."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager

from homelab_agent.core.arguments import Argument, Flag, Name, Number, Sha, Shas
from homelab_agent.core.privilege import Answer, Call, NoSuchUser, NotThatUser, Verb, VerbRefused
from homelab_agent.core.whereabouts import Whereabouts
from homelab_agent.gitops import execution, git, rollback, section, turns
from homelab_agent.gitops.owned import NoWorkingCopy
from homelab_agent.gitops.settings import GitopsSettings, Repository
from homelab_agent.gitops.way import NotItsOwners


def build(settings: GitopsSettings, _where: Whereabouts) -> Sequence[Verb]:
    """Return the verbs; they know no repository, action or probe but those in `settings`."""
    verbs = _Verbs(settings)
    repository = Name({one.name for one in settings.repository})
    action = Name({action.name for one in settings.repository for action in one.action})
    probe = Number(0, max((len(one.probe) for one in settings.repository), default=0))
    of: dict[str, Argument] = {"repository": repository, "section": section.Digest()}
    target: dict[str, Argument] = {**of, "sha": Sha()}
    tip_unless_given = frozenset({"sha"})
    return (
        Verb("git_sync", verbs.sync, target, tip_unless_given),
        Verb("git_plan", verbs.plan, target, tip_unless_given),
        Verb("git_changed", verbs.changed, {**of, "old": Sha(), "new": Sha()}),
        Verb("git_contained", verbs.contained, {**of, "head": Sha(), "shas": Shas()}),
        Verb("git_rollback", verbs.rollback, {**target, "plan": Flag()}, frozenset({"plan"})),
        Verb("run_action", verbs.act, {**of, "action": action}),
        Verb("run_probe", verbs.ask, {**of, "probe": probe}),
        Verb("restart_agent", verbs.restart_agent),
    )


class _Verbs:
    def __init__(self, settings: GitopsSettings) -> None:
        self._repositories = {one.name: (one, section.digest(one)) for one in settings.repository}
        self._deadline = settings.sync_timeout

    async def sync(self, call: Call) -> Answer:
        async with turns.taken(self._repository(call).directory, "files"):
            return await self._judged(call, lambda here: here.sync(call.arguments.get("sha", ""), plan=False))

    async def plan(self, call: Call) -> Answer:
        return await self._judged(call, lambda here: here.sync(call.arguments.get("sha", ""), plan=True))

    async def rollback(self, call: Call) -> Answer:
        good = call.arguments["sha"]
        if call.arguments.get("plan", False):
            return await self._judged(call, lambda here: rollback.roll_back(here, good, plan=True))
        async with turns.taken(self._repository(call).directory, "files"):
            return await self._judged(call, lambda here: rollback.roll_back(here, good))

    async def changed(self, call: Call) -> Answer:
        async with self._at_work(call) as here:
            return await here.changed(call.arguments["old"], call.arguments["new"])

    async def contained(self, call: Call) -> Answer:
        async with self._at_work(call) as here:
            return await here.contained(call.arguments["head"], call.arguments["shas"])

    async def act(self, call: Call) -> Answer:
        repository, wanted = self._repository(call), call.arguments["action"]
        for action in repository.action:
            if action.name == wanted:
                async with turns.taken(repository.directory, "files"):
                    return await execution.act(repository, action, call.say)
        raise VerbRefused(reason=f"{repository.name} has no action {wanted}")

    async def ask(self, call: Call) -> Answer:
        repository, wanted = self._repository(call), call.arguments["probe"]
        if wanted >= len(repository.probe):
            raise VerbRefused(reason=f"{repository.name} has no probe {wanted}")
        return await execution.ask(repository, repository.probe[wanted])

    async def restart_agent(self, _: Call) -> Answer:
        return await execution.restart_agent()

    async def _judged(self, call: Call, work: Callable[[git.Git], Awaitable[Answer]]) -> Answer:
        """Return the verdict of what is done there, and as whom; or that there is no way to do it."""
        try:
            async with self._at_work(call) as here:
                return {**await work(here), "as_user": here.as_user}
        except NoWorkingCopy as error:
            return git.verdict("not_a_repository", str(error), error.repair)
        except (NoSuchUser, NotThatUser, NotItsOwners) as error:
            return git.verdict("wrong_owner", str(error), error.repair)

    @asynccontextmanager
    async def _at_work(self, call: Call) -> AsyncIterator[git.Git]:
        repository = self._repository(call)
        async with (
            turns.taken(repository.directory, "git"),
            git.at_work(repository, call, deadline=self._deadline) as here,
        ):
            yield here

    def _repository(self, call: Call) -> Repository:
        """Return what a call is about; raises `VerbRefused` where the agent means something else by its name."""
        repository, digest = self._repositories[call.arguments["repository"]]
        if call.arguments["section"] != digest:
            reason = f"the configuration of {repository.name} was changed since the agent was started"
            raise VerbRefused(reason=reason)
        return repository
