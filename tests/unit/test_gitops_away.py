"""A root half that goes away in the middle: what was begun goes on by itself when it is back, and that is said once."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from homelab_agent.core.errors import AgentError
from homelab_agent.core.privilege import PrivilegedUnavailable, VerbCutShort
from homelab_agent.gitops.sync import AWAY_MAX
from tests.clock import until
from tests.gitops_house import House, action, eventually, half, house, repository
from tests.half_model import Brake

FIRST = action("first", "compose/**")
LAST = action("last")
GONE = PrivilegedUnavailable(cause="it was stopped", repair="systemctl start it")
DIED = VerbCutShort(message="The root half ended while it did something.")


async def begun(here: House, *places: tuple[str, str]) -> tuple[str, Brake]:
    """Push, and return the GUID with what holds the deployment there."""
    await here.ask()
    brake = here.half.gate = Brake(*places)
    guid = await here.push({"compose/a": "1"})
    await brake.held.wait()
    return guid, brake


async def passes(here: House, seconds: float) -> None:
    """Let time pass once the run has ended that is to be gone on with."""
    await until(lambda: here.service.worker.goes_on_later("homelab"), "it goes on later")
    await here.clock.advance(seconds)


async def is_over(here: House) -> None:
    """Wait until no move is left to be taken up."""

    async def over() -> bool:
        return not await here.service.moves.unfinished() and await here.is_quiet()

    await eventually(over, "no move is unfinished")


@pytest.mark.parametrize("place", [("git_sync", "after"), ("git_changed", "after"), ("run_action", "after")])
async def test_what_was_begun_goes_on_when_it_is_back_without_a_push_and_is_said_once(
    place: tuple[str, str], tmp_path: Path
) -> None:
    async with house(tmp_path, half(), repository("homelab", FIRST, LAST)) as here:
        with capture_logs() as logged:
            guid, brake = await begun(here, place)
            here.half.failure = GONE
            brake.release()
            verdict, detail = await here.closed(guid)
            assert (verdict, detail) == ("not_available", f"{GONE}; it goes on by itself when that is there again")
            await here.quiet()
            runs = len(await here.runs())
            await passes(here, 3600)  # it stays away: that is asked now and then, and no run is made of it
            assert 8 <= here.half.asked <= 16
            assert len(await here.runs()) == runs
            assert (await here.finding()).detail.startswith(f"not_available: {verdict and detail}")
            here.half.failure = None
            await here.clock.advance(310)
            await is_over(here)
        assert await here.deployed() == here.tree.tip
        assert here.tree.ran == [(here.tree.tip, "first"), (here.tree.tip, "last")]
        assert [state for _, _, state in await here.moves()] == ["ok", "ok"]
        assert (await here.finding()).state == "ok"
        assert [record.trigger for record in (await here.runs())[-2:]] == ["webhook", "catch-up"]
        verdicts = [one["verdict"] for one in logged if one["event"] == "gitops.verdict"]
        assert verdicts[-2:] == ["not_available", "ok"]
        assert verdicts.count("not_available") == 1


def once(verb: str, error: AgentError) -> Callable[[str], AgentError | None]:
    """Fail a verb once."""
    left = [error]
    return lambda asked: left.pop() if asked == verb and left else None


@pytest.mark.parametrize("repeat", [False, True])
async def test_an_action_that_it_died_in_runs_again_only_where_it_may(repeat: bool, tmp_path: Path) -> None:  # noqa: FBT001
    slow = action("slow", repeat=repeat)
    async with house(tmp_path, half(), repository("homelab", slow, rollback="automatic")) as here:
        await here.ask()
        here.half.failing = once("run_action", DIED)
        guid = await here.push()
        if repeat:
            assert (await here.closed(guid))[0] == "not_available"
            await passes(here, 40)
            await is_over(here)
            assert await here.deployed() == here.tree.tip
        else:
            detail = "action slow was cut short, and is not repeated by itself"
            assert await here.closed(guid) == ("interrupted", detail)
            [row] = await here.rows("gitops_action")
            assert (row["state"], row["detail"]) == ("interrupted", str(DIED))
        assert await here.service.moves.bad("homelab") == {}, "no commit is blamed for that"


@pytest.mark.parametrize("error", [GONE, DIED])
@pytest.mark.parametrize("verb", ["git_sync", "git_changed"])
async def test_git_is_asked_anew(error: AgentError, verb: str, tmp_path: Path) -> None:
    async with house(tmp_path, half(), repository("homelab", FIRST)) as here:
        await here.ask()
        here.half.failing = once(verb, error)
        assert (await here.closed(await here.push({"notes": "1"})))[0] == "not_available"
        await passes(here, 40)
        await is_over(here)
        assert await here.deployed() == here.tree.tip
        assert here.tree.ran == [], "what has changed is known all the same"


@pytest.mark.parametrize("verb", ["git_rollback", "run_action"])
async def test_a_rollback_by_itself_that_it_went_away_from_is_done_when_it_is_back(verb: str, tmp_path: Path) -> None:
    async with house(tmp_path, half(), repository("homelab", LAST, rollback="automatic")) as here:
        await here.ask()
        good = here.tree.head
        bad = here.tree.push({"a": "1"})
        here.tree.broken_at[bad] = frozenset({"last"})
        left = [GONE]

        def failing(asked: str) -> AgentError | None:
            is_back = asked == verb and bool(here.tree.ran) and left
            return left.pop() if is_back else None

        here.half.failing = failing
        assert (await here.closed((await here.deliver(bad)).guid))[0] == "not_available"
        assert [state for _, _, state in await here.moves()] == ["ok", "running", "running"]
        await passes(here, 40)
        await is_over(here)
        assert (here.tree.head, await here.deployed()) == (good, good)
        assert [state for _, _, state in await here.moves()] == ["ok", "rolled_back", "ok"]
        assert list(await here.service.moves.bad("homelab")) == [bad]
        assert here.tree.ran == [(bad, "last"), (good, "last")]


async def test_probes_that_nobody_could_ask_make_no_commit_unhealthy(tmp_path: Path) -> None:
    probe = {"kind": "unit", "target": "caddy.service", "within": 5.0}
    async with house(tmp_path, half(), repository("homelab", probe=[probe], rollback="automatic")) as here:
        await here.ask()
        here.half.failing = lambda verb: GONE if verb == "run_probe" else None
        guid = await here.push()
        await until(lambda: "run_probe" in here.half.calls, "the probe is asked")
        await here.clock.advance(10)
        assert (await here.closed(guid))[0] == "not_available"
        here.half.failing = lambda _: None
        await passes(here, 40)
        await is_over(here)
        assert (await here.deployed(), await here.service.moves.bad("homelab")) == (here.tree.tip, {})


async def test_a_push_meanwhile_takes_it_up_and_nothing_is_done_twice(tmp_path: Path) -> None:
    async with house(tmp_path, half(), repository("homelab", LAST)) as here:
        await here.ask()
        here.half.failing = once("git_changed", GONE)
        first = await here.push()
        assert (await here.closed(first))[0] == "not_available"
        second = await here.push()
        assert (await here.closed(second))[0] == "ok"
        await here.quiet()
        runs = len(await here.runs())
        await here.clock.advance(3600)
        assert len(await here.runs()) == runs
        assert [name for _, name in here.tree.ran] == ["last", "last"]


async def test_one_that_ends_each_time_is_left_alone_in_the_end_and_that_is_said(tmp_path: Path) -> None:
    async with house(tmp_path, half(), repository("homelab", LAST)) as here:
        await here.ask()
        here.half.failing = lambda verb: DIED if verb == "git_sync" else None
        await here.closed(await here.push())
        for _ in range(AWAY_MAX):
            await passes(here, 310)
            await here.quiet()
        await here.clock.advance(3600)
        await here.quiet()
        runs = await here.runs()
        assert len(runs) == 2 + AWAY_MAX
        assert runs[-1].detail.endswith(f"so it was {AWAY_MAX + 1} times in a row, and is tried again with the next "
                                        "push, or when asked")  # fmt: skip
        here.half.failing = lambda _: None
        assert (await here.closed(await here.push()))[0] == "ok"


async def test_what_was_left_is_gone_on_with_after_a_restart_too(tmp_path: Path) -> None:
    root_half = half()
    async with house(tmp_path, root_half, repository("homelab", LAST)) as here:
        await here.ask()
        root_half.failing = once("run_action", GONE)
        assert (await here.closed(await here.push()))[0] == "not_available"
    async with house(tmp_path, root_half, repository("homelab", LAST)) as here:
        await is_over(here)
        assert await here.deployed() == here.tree.tip
        assert here.tree.ran == [(here.tree.tip, "last")]
