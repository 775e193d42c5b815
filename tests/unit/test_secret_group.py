"""Secrets that change at one moment: an origin that keeps several values in one place."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence

import pytest

from homelab_agent.core import secret
from homelab_agent.core.errors import AgentError
from homelab_agent.core.journal.redaction import Redactor
from homelab_agent.core.secret import Change, Reading, Secret, Secrets
from tests.clock import MovableClock


class Gone(AgentError):
    """It is gone."""


class Chest:
    """An `Origin` of which all values have one version."""

    def __init__(self, clock: MovableClock) -> None:
        self.values: Mapping[str, str] = {"user": "ann-the-user", "password": "hunter22"}
        self.version = 1
        self.reads: list[Sequence[str]] = []
        self._clock = clock
        self._read_at: float | None = None

    def put(self, **values: str) -> None:
        self.values, self.version = {**self.values, **values}, self.version + 1

    def read(self, names: Sequence[str], since: float) -> Sequence[Reading]:
        assert since <= self._clock.read().monotonic
        self.reads.append(names)
        if not self.values:
            raise Gone
        self._read_at = self._clock.read().monotonic
        return [Reading(self.values[name], str(self.version)) for name in names]

    def group(self, name: str) -> str:
        del name
        return "the chest"

    def good_until(self, group: str) -> float | None:
        assert group == "the chest"
        return None if self._read_at is None else self._read_at + 60


class Here:
    def __init__(self) -> None:
        self.clock = MovableClock()
        self.chest = Chest(self.clock)
        self.changes: list[Change] = []
        self.secrets = Secrets(
            Redactor(),
            self.clock,
            origins={"chest": self.chest},
            uses={"chest:user": ["a.user"], "chest:password": ["a.password", "b.password"]},
        )
        self.secrets.on_change = self._tell
        self.user, self.password = self.secrets.find("chest:user"), self.secrets.find("chest:password")

    async def _tell(self, change: Change) -> None:
        self.changes.append(change)

    async def read(self) -> tuple[Secret, Secret]:
        await self.user.refresh()
        await self.password.refresh()
        self.chest.reads.clear()
        return self.user, self.password


@pytest.fixture
def here() -> Here:
    return Here()


async def passes(_: str) -> None:
    pass


async def refuses(_: str) -> None:
    raise OSError(13, "no")


async def test_who_asks_for_one_reference_gets_one_secret(here: Here) -> None:
    await here.read()
    again = here.secrets.find("chest:password")
    here.chest.put(password="changed-1")
    await again.refresh()
    assert here.password.get() == "changed-1"


async def test_all_of_a_group_are_read_at_one_moment_and_change_together(here: Here) -> None:
    user, password = await here.read()
    here.chest.put(user="bob-the-user", password="changed-1")
    assert await password.refresh()
    assert here.chest.reads == [["user", "password"]]
    assert (user.get(), password.get()) == ("bob-the-user", "changed-1")
    assert user.accepted() == ("bob-the-user", "ann-the-user")
    [change] = here.changes
    assert change == Change(("chest:user", "chest:password"), "2", secret.Outcome.ADOPTED)


async def test_none_of_a_group_changes_when_one_of_its_values_does_not_work(here: Here) -> None:
    user, password = await here.read()
    adopted: list[str] = []

    async def adopt(new: str) -> None:
        adopted.append(new)

    user.on_change(passes, adopt)
    end = password.on_change(refuses, adopt)
    here.chest.put(user="bob-the-user", password="changed-1")
    for _ in range(3):
        with pytest.raises(secret.SecretRefused):
            await user.refresh()
    assert (user.get(), password.get(), adopted) == ("ann-the-user", "hunter22", [])
    assert [change.outcome for change in here.changes] == [secret.Outcome.REFUSED], "told once, though tried thrice"
    end()
    assert await user.refresh()
    assert (user.get(), password.get(), adopted) == ("bob-the-user", "changed-1", ["bob-the-user"])


async def test_what_nobody_has_read_is_not_read_for_the_sake_of_another(here: Here) -> None:
    await here.user.refresh()
    here.chest.values = {"user": "bob-the-user"}
    assert await here.user.refresh()
    assert here.chest.reads == [["user"], ["user"]]


async def test_a_value_is_good_for_a_while_and_then_not_used_any_more(here: Here) -> None:
    user, _ = await here.read()
    await here.clock.advance(59)
    here.chest.values = {}
    with pytest.raises(Gone):
        await user.refresh()
    assert user.get() == "ann-the-user"
    await here.clock.advance(2)
    with pytest.raises(secret.SecretStale):
        user.get()
    here.chest.values = {"user": "ann-the-user", "password": "hunter22"}
    await user.refresh()
    assert user.get() == "ann-the-user"


async def test_all_of_a_scheme_are_read_again_each_group_once(here: Here) -> None:
    await here.read()
    here.chest.put(user="bob-the-user")
    assert not await here.secrets.refresh("chest")
    assert here.chest.reads == [["user", "password"]]
    here.chest.values = {}
    troubles = await here.secrets.refresh("chest")
    assert {reference: type(error) for reference, error in troubles.items()} == {
        "chest:user": Gone,
        "chest:password": Gone,
    }


async def test_what_could_not_be_read_at_first_is_read_when_it_can(here: Here) -> None:
    values, here.chest.values = here.chest.values, {}
    with pytest.raises(Gone):
        await here.user.refresh()
    here.chest.values = values
    assert not await here.secrets.refresh("chest")
    assert {one.reference: one.read_at is None for one in here.secrets.standings()} == {
        "chest:user": False,
        "chest:password": False,
    }


async def test_it_is_told_which_secrets_there_are_and_never_what_they_are(here: Here) -> None:
    found = here.secrets.standings()
    assert [(one.reference, one.version, one.read_at, one.used_by) for one in found] == [
        ("chest:user", "", None, ["a.user"]),
        ("chest:password", "", None, ["a.password", "b.password"]),
    ]
    await here.read()
    at = here.clock.read().wall
    assert [(one.version, one.read_at) for one in here.secrets.standings()] == [("1", at), ("1", at)]
    assert "hunter22" not in f"{here.secrets.standings()}{here.changes}"


async def test_many_who_ask_at_once_change_over_once(here: Here) -> None:
    await here.read()
    here.chest.put(password="changed-1")
    changed = await asyncio.gather(*(here.password.refresh() for _ in range(50)))
    assert sum(changed) == 1
    assert len(here.changes) == 1


async def test_the_latest_value_is_the_one_held_where_it_cannot_be_read_again(here: Here) -> None:
    user, _ = await here.read()
    here.chest.put(user="bob-the-user")
    assert await user.latest() == "bob-the-user"
    here.chest.values = {}
    assert await user.latest() == "bob-the-user"
    await here.clock.advance(61)
    with pytest.raises(secret.SecretStale):
        await user.latest()


async def test_a_trial_sees_all_that_is_on_trial(here: Here) -> None:
    user, password = await here.read()
    seen: list[tuple[str, str]] = []

    async def look(_: str) -> None:
        seen.append((user.proposed(), password.proposed()))

    user.on_change(look, passes)
    here.chest.put(user="bob-the-user", password="changed-1")
    await password.refresh()
    assert seen == [("bob-the-user", "changed-1")]
    assert (user.proposed(), password.proposed()) == ("bob-the-user", "changed-1")


async def test_an_adoption_that_failed_is_tried_again_at_the_next_look(here: Here) -> None:
    user, _ = await here.read()
    adopted: list[str] = []

    async def adopt(new: str) -> None:
        adopted.append(new)
        if len(adopted) == 1:
            raise OSError(5, "not now")

    user.on_change(passes, adopt)
    here.chest.put(user="bob-the-user")
    with pytest.raises(secret.AdoptionIncomplete):
        await user.refresh()
    await user.refresh()
    await user.refresh()
    assert adopted == ["bob-the-user", "bob-the-user"]


async def test_a_change_goes_on_to_its_end_when_who_asked_for_it_is_cancelled(here: Here) -> None:
    user, _ = await here.read()
    begun, go_on = asyncio.Event(), asyncio.Event()
    adopted: list[str] = []

    async def adopt(new: str) -> None:
        begun.set()
        await go_on.wait()
        adopted.append(new)

    user.on_change(passes, adopt)
    here.chest.put(user="bob-the-user")
    asking = asyncio.create_task(user.refresh())
    await begun.wait()
    asking.cancel()
    await asyncio.wait([asking])
    go_on.set()
    await user.refresh()
    assert adopted == ["bob-the-user"]
    assert [change.outcome for change in here.changes] == [secret.Outcome.ADOPTED]
