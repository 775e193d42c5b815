"""Which configured repository a delivery is for, and whether anything follows: a closed table, a pure function.

Repository and branch come from the configuration; what a body says only chooses among them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from typing import TypeAlias

from homelab_agent.gitops.event import Event, Origin, Other, Ping, PullRequest, Push
from homelab_agent.gitops.settings import Repository


@dataclass(frozen=True, slots=True)
class Accepted:
    """The repository is to be brought to what the event says, or further."""

    repository: str


@dataclass(frozen=True, slots=True)
class Pong:
    """A ping is answered; `hints` say what is missing in the hook's settings."""

    repository: str
    hints: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Ignored:
    """Nothing follows; `repository` is "" where none of the configured ones is meant."""

    repository: str
    why: str


Decision: TypeAlias = Accepted | Pong | Ignored


def select(
    event: Event, repositories: Sequence[Repository], *, signers: AbstractSet[str], ids: Mapping[str, int]
) -> Decision:
    """Return what follows from an event.

    `signers` are the repositories whose secret it was signed with: a valid signature authorises for these only. `ids`
    are the forge's numbers of repositories, by their configured names, where they are known.
    """
    meant = _meant(event, repositories, signers, ids)
    if isinstance(meant, Ignored):
        return meant
    match event:
        case Ping():
            return Pong(meant[0].name, _hints(event))
        case Push():
            return _follow_push(event, meant)
        case PullRequest():
            return _follow_pull_request(event, meant)
        case Other():
            return Ignored(meant[0].name, event.why)


def _meant(
    event: Event, repositories: Sequence[Repository], signers: AbstractSet[str], ids: Mapping[str, int]
) -> Sequence[Repository] | Ignored:
    """Return the repositories that an event may be for, at least one: two may follow two branches of one."""
    origin = event.origin
    if origin is None:
        return Ignored("", event.why if isinstance(event, Other) else "it names no repository")
    named = [one for one in repositories if one.full_name.lower() == origin.full_name.lower()]
    if not named:
        return Ignored("", f"the repository {origin.full_name} is not in the configuration")
    signed = [one for one in named if one.name in signers]
    if not signed:
        return Ignored("", f"it is about {origin.full_name} and signed with the secret of another repository")
    true = [one for one in signed if ids.get(one.name, origin.id) == origin.id]
    return true or Ignored(signed[0].name, _other_id(signed[0].name, origin, ids))


def _follow_push(event: Push, repositories: Sequence[Repository]) -> Decision:
    for one in repositories:
        if event.ref == _ref(one):
            if not event.after:
                return Ignored(one.name, f"{event.ref} was deleted")
            return Accepted(one.name)
    return Ignored(repositories[0].name, f"{event.ref} was pushed, not {_refs(repositories)}")


def _follow_pull_request(event: PullRequest, repositories: Sequence[Repository]) -> Decision:
    first = repositories[0].name
    if event.action != "closed":
        return Ignored(first, f"the action of a pull request is {event.action}, not closed")
    if not event.merged:
        return Ignored(first, "a pull request was closed without being merged")
    for one in repositories:
        if event.ref == _ref(one):
            return Accepted(one.name)
    return Ignored(first, f"a pull request was merged into {event.ref}, not {_refs(repositories)}")


def _ref(repository: Repository) -> str:
    return f"refs/heads/{repository.branch}"


def _refs(repositories: Sequence[Repository]) -> str:
    return " or ".join(_ref(one) for one in repositories)


def _other_id(name: str, origin: Origin, ids: Mapping[str, int]) -> str:
    return (
        f"{origin.full_name} has the id {origin.id} at the forge, and {name} is known by the id {ids[name]}: "
        f"if it was made anew there, set the key id of [[gitops.repository]] to {origin.id}"
    )


def _hints(ping: Ping) -> tuple[str, ...]:
    """Return what the hook's settings lack."""
    hints = []
    if "push" not in ping.events and "*" not in ping.events:
        hints.append("it does not send pushes: choose the event push")
    if not ping.active:
        hints.append("it is not active: tick Active")
    if not ping.verifies_tls:
        hints.append("it does not verify TLS: enable SSL verification")
    return tuple(hints)
