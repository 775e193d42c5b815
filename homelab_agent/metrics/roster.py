"""What containers are called: asked of the root half, when one runs that is not known, and never more often."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Protocol

from homelab_agent.core import compose, journal
from homelab_agent.core.clock import Clock, about
from homelab_agent.core.errors import AgentError
from homelab_agent.core.privilege import Answer, Privileged

VERB = "metrics_containers"
DEADLINE_SECONDS = 30.0
BRIDGED = 3
"""So often it is tried before containers go by their ids: a start in the wrong order shall not break a series."""
_RAREST = 6
"""After failures it is asked after twice the time each, up to this often: 64 intervals."""

SHORT = 12
"""So many digits of the id of a container or an image are what Docker itself shows."""

log = journal.logger("metrics")


@dataclass(frozen=True, slots=True)
class Container:
    """One container.

    Three of its fields are Compose's, empty where it was not made by that, or by `compose run`; `image_id` is the
    beginning of the image's own name, by which one that was pulled anew is another one.
    """

    id: str
    name: str
    image: str
    project: str = ""
    service: str = ""
    number: str = ""
    image_id: str = ""

    @property
    def identity(self) -> str:
        """By what it is known, also when it is made anew; Compose renames the old one meanwhile."""
        return f"{self.project}/{self.service}/{self.number}" if self.service else self.name


class Learner(Protocol):
    """Who wants to know it (`collectors/containers.py`)."""

    @property
    def unknown(self) -> frozenset[str]:
        """The ids of those that run and are not known."""

    def learn(self, named: Mapping[str, Container], nameless: frozenset[str]) -> None:
        """Take what containers are called, by id, and which have no name to be had."""


class Roster:
    """Keeps what containers are called. `cause` says why they go by their ids, where they do."""

    def __init__(
        self,
        learner: Learner,
        unnamed: asyncio.Event,
        privileged: Privileged,
        clock: Clock,
        interval: Callable[[], float],
    ) -> None:
        """`unnamed` is set when the learner has looked and seen some that it does not know; `interval` in seconds."""
        self._learner = learner
        self._unnamed = unnamed
        self._privileged = privileged
        self._clock = clock
        self._interval = interval
        self._known: dict[str, Container] = {}
        self._disowned: frozenset[str] = frozenset()
        self._failures = 0
        self.cause = ""

    async def watch(self) -> None:
        """Ask when there is something to ask, at most once per interval, until cancelled."""
        while True:
            await self._unnamed.wait()
            self._unnamed.clear()
            if self._learner.unknown - self._disowned:
                await self._ask()
                pause = self._interval() * 2 ** min(self._failures, _RAREST)
                await self._clock.sleep(about(self._clock.read(), pause))

    async def _ask(self) -> None:
        unknown = self._learner.unknown
        try:
            answer = await self._privileged.call(VERB, deadline=DEADLINE_SECONDS)
        except AgentError as error:
            self._failures += 1
            if self._failures >= BRIDGED:
                self.cause = str(error)
                self._learner.learn(self._known, unknown | self._disowned)
            if self._failures == BRIDGED:
                log.info("metrics.containers_without_names", cause=self.cause)
        else:
            self._failures, self.cause = 0, ""
            self._known = of_answer(answer)
            self._disowned = unknown - self._known.keys()  # another engine's, whose groups are called like Docker's
            self._learner.learn(self._known, self._disowned)


def of_docker(listed: Mapping[str, Any]) -> Container:
    """Return a container of what Docker lists (ContainerSummary of its API)."""
    container_id, labels = str(listed["Id"]), listed.get("Labels") or {}
    names = [str(one).removeprefix("/") for one in listed.get("Names") or ()]
    name = next((one for one in names if "/" not in one), container_id[:SHORT])  # with one it is another's alias for it
    own = labels if labels.get(compose.ONE_OFF) != "True" else {}
    project, service, number = (str(own.get(label, "")) for label in (compose.PROJECT, compose.SERVICE, compose.NUMBER))
    image_id = str(listed.get("ImageID") or "").removeprefix("sha256:")[:SHORT]
    return Container(container_id, name, str(listed["Image"]), project, service, number, image_id)


def to_answer(containers: Sequence[Container]) -> Answer:
    """Return what the verb answers."""
    return {"containers": [asdict(one) for one in containers]}


def of_answer(answer: Answer) -> dict[str, Container]:
    """Return what the verb has answered, by id."""
    return {one["id"]: Container(**one) for one in answer["containers"]}
