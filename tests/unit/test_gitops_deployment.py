"""A deployment: what git did, and what follows, in order and once; what fails is said, what was cut short taken up."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from pathlib import Path

import pytest

from homelab_agent.core.jobs import RunRecord
from homelab_agent.core.privilege import PrivilegedUnavailable, VerbFailed
from homelab_agent.gitops.deployment import earlier, is_news
from homelab_agent.gitops.moves import Move, MoveState
from homelab_agent.gitops.working_copy import Synced
from tests.clock import until
from tests.gitops_house import House, action, die, half, house, repository
from tests.half_model import Brake, HalfModel

STACKS = action("stacks", "compose/**")
DOCS = action("docs", "docs/", "*.md")
LAST = action("last")


async def test_a_push_moves_the_working_copy_and_what_it_touches_runs_in_the_order_of_the_file(tmp_path: Path) -> None:
    async with house(tmp_path, half(), repository("homelab", STACKS, DOCS, LAST)) as here:
        await here.ask()  # what is there is taken as it is
        before = here.tree.head
        guid = await here.push({"docs/a": "1", "compose/loki/compose.yml": "1"})
        verdict, detail = await here.closed(guid)
        assert verdict == "ok"
        assert detail.endswith("actions: stacks, docs, last")
        assert here.tree.head == here.tree.tip
        assert here.tree.ran == [(here.tree.tip, name) for name in ("stacks", "docs", "last")]
        assert await here.moves() == [(before, before, "ok"), (before, here.tree.tip, "ok")]


async def test_a_commit_that_touches_nothing_listed_runs_nothing(tmp_path: Path) -> None:
    async with house(tmp_path, half(), repository("homelab", STACKS)) as here:
        guid = await here.push({"notes.txt": "1"})
        assert await here.closed(guid) == (
            "ok",
            f"{here.tree.reached[0][:7]} to {here.tree.tip[:7]}; nothing had to follow",
        )
        assert here.tree.ran == []
        assert await here.deployed() == here.tree.tip


async def test_a_working_copy_of_before_is_adopted_and_nothing_runs(tmp_path: Path) -> None:
    async with house(tmp_path, half(), repository("homelab", LAST)) as here:
        record = await here.ask()
        assert (record.state, record.detail) == ("ok", "up_to_date: main has all that the remote has")
        assert await here.deployed() == here.tree.head
        assert here.tree.ran == []


async def test_a_first_checkout_runs_everything(tmp_path: Path) -> None:
    root_half = half()
    root_half.trees["homelab"].head = ""
    async with house(tmp_path, root_half, repository("homelab", STACKS, DOCS)) as here:
        assert (await here.ask()).state == "ok"
        assert [name for _, name in here.tree.ran] == ["stacks", "docs"]


async def test_what_somebody_pulled_by_hand_is_made_up_for(tmp_path: Path) -> None:
    async with house(tmp_path, half(), repository("homelab", LAST)) as here:
        await here.ask()
        here.tree.push({"a": "1"})
        here.tree.adopt()
        assert (await here.ask("schedule")).detail.startswith("ok: ")
        assert here.tree.ran == [(here.tree.tip, "last")]
        await here.ask("schedule")
        assert len(here.tree.ran) == 1


async def test_what_is_deployed_may_be_gone_from_git_and_then_everything_follows(tmp_path: Path) -> None:
    async with house(tmp_path, half(), repository("homelab", STACKS)) as here:
        await here.ask()
        guid = await here.push({"notes.txt": "1"})
        here.half.failing = lambda verb: (
            VerbFailed(message="git knows no such commit") if verb == "git_changed" else None
        )
        assert (await here.closed(guid))[0] == "ok"
        assert [name for _, name in here.tree.ran] == ["stacks"]


@pytest.mark.parametrize("word", ["dirty", "forced"])
async def test_a_refusal_of_git_is_the_verdict_with_its_words_and_its_commands(word: str, tmp_path: Path) -> None:
    async with house(tmp_path, half(), repository("homelab", LAST, directory="/srv/home lab")) as here:
        await here.ask()
        if word == "dirty":
            here.tree.dirty = True
            guid = await here.push()
        else:
            await here.push()
            await here.quiet()
            guid = (await here.deliver(here.tree.push({"b": "1"}, parent=here.tree.parents[here.tree.tip]))).guid
        assert (await here.closed(guid))[0] == word
        [attempt] = [one for (known, _), one in (await here.attempts()).items() if known == guid]
        assert attempt["repair"] == ("cd '/srv/home lab'; git stash push" if word == "dirty" else "")
        finding = await here.finding()
        assert (finding.state, finding.detail.split(":")[0]) == ("degraded", word)


async def test_who_follows_a_run_is_told_what_begins_what_it_prints_and_how_it_went(tmp_path: Path) -> None:
    probe = {"kind": "unit", "target": "caddy.service"}
    async with house(tmp_path, half(), repository("homelab", STACKS, LAST, probe=[probe])) as here:
        await here.ask()
        before, tip = here.tree.head, here.tree.push({"compose/a": "1"})
        assert await said(here, await here.ask()) == [
            "git is asked what is new",
            f"{before[:7]} to {tip[:7]}",
            "stacks begins",
            f"stacks: stacks at {tip}",
            "stacks took 0.5 s",
            "last begins",
            f"last: last at {tip}",
            "last took 0.5 s",
            "is everything well?",
        ]
        here.tree.broken = frozenset({"last"})
        await here.run("gitops.rollback.homelab")
        back = await said(here, (await here.base.jobs.history(limit=1))[0])
        assert back[0] == f"back to {before[:7]}"
        assert back[-1] == "last ended with 3 after 0.5 s"


async def said(here: House, run: RunRecord) -> list[str]:
    """Return what a run has printed."""
    watched = await here.base.jobs.watch(run.id)
    assert watched is not None
    return list(watched.output.after(0).lines)


async def test_what_the_root_half_says_is_told_without_the_secrets_that_the_agent_knows(tmp_path: Path) -> None:
    async with house(tmp_path, half(), repository("homelab", LAST)) as here:
        await here.ask()
        here.base.redactor.add("out of cheese")
        here.base.redactor.add("last at")
        here.tree.broken = frozenset({"last"})
        verdict = await here.closed(await here.push())
        assert verdict == ("action_failed", "action last ended with 3 after 0.5 s: ***")
        [run] = [run for run in await here.runs() if run.trigger == "webhook"]
        assert f"last: *** {here.tree.tip}" in await said(here, run)
        here.half.failing = lambda verb: VerbFailed(message=f"{verb}: out of cheese") if verb == "run_action" else None
        assert "failed: run_action: ***" in (await here.ask()).detail
        here.half.failing = lambda _: None
        here.base.redactor.add("main has all")
        here.tree.broken = frozenset()
        assert (await here.ask()).state == "ok"
        assert "*** that the remote has" in (await here.ask()).detail


async def test_an_action_that_fails_ends_it_and_names_what_was_printed_last(tmp_path: Path) -> None:
    async with house(tmp_path, half(), repository("homelab", STACKS, LAST)) as here:
        await here.ask()
        before = here.tree.head
        here.tree.broken = frozenset({"stacks"})
        guid = await here.push({"compose/a": "1"})
        verdict, detail = await here.closed(guid)
        assert (verdict, detail) == ("action_failed", "action stacks ended with 3 after 0.5 s: out of cheese")
        assert [name for _, name in here.tree.ran] == ["stacks"]  # what comes after it did not run
        assert await here.deployed() == before
        [attempt] = (await here.attempts()).values()
        assert attempt["repair"] == "homelab-agent gitops rollback homelab"
        assert (await here.finding()).state == "degraded"
        [row] = await here.rows("gitops_action")
        assert (row["state"], row["detail"]) == ("failed", "ended with 3 after 0.5 s\nfirst\nout of cheese")


async def test_a_failed_commit_is_not_tried_again_by_itself_but_when_asked(tmp_path: Path) -> None:
    async with house(tmp_path, half(), repository("homelab", LAST)) as here:
        await here.ask()
        here.tree.broken = frozenset({"last"})
        guid = await here.push()
        assert (await here.closed(guid))[0] == "action_failed"
        assert (await here.closed((await here.deliver(here.tree.tip)).guid))[0] == "action_failed"  # its pull request
        assert (await here.ask("schedule")).state == "failed"
        assert len(here.tree.ran) == 1
        here.tree.broken = frozenset()
        await here.deliver(here.tree.tip, guid=guid)  # redelivered
        assert (await here.closed(guid, 2))[0] == "ok"
        assert len(here.tree.ran) == 2


async def test_a_person_who_asks_wants_what_failed_tried_again(tmp_path: Path) -> None:
    async with house(tmp_path, half(), repository("homelab", LAST)) as here:
        await here.ask()
        here.tree.broken = frozenset({"last"})
        await here.closed(await here.push())
        here.tree.broken = frozenset()
        assert (await here.ask()).state == "ok"
        assert await here.deployed() == here.tree.tip


async def test_a_probe_that_does_not_hold_in_time_makes_it_unhealthy(tmp_path: Path) -> None:
    probe = {"kind": "unit", "target": "caddy.service", "within": 5.0}
    async with house(tmp_path, half(), repository("homelab", LAST, probe=[probe])) as here:
        await here.ask()
        here.tree.holds = False
        guid = await here.push()
        await until(lambda: "run_probe" in here.half.calls, "the probe is asked")
        await here.clock.advance(10)
        verdict, detail = await here.closed(guid)
        assert verdict == "unhealthy"
        assert detail == "unit caddy.service does not hold after 5 s: probe 0"


async def test_an_automatic_rollback_goes_back_runs_what_that_changes_and_remembers(tmp_path: Path) -> None:
    async with house(tmp_path, half(), repository("homelab", STACKS, DOCS, rollback="automatic")) as here:
        await here.ask()
        good = here.tree.head
        bad = here.tree.push({"compose/a": "1"})
        here.tree.broken_at[bad] = frozenset({"stacks"})
        guid = (await here.deliver(bad)).guid
        verdict, detail = await here.closed(guid)
        assert verdict == "rolled_back"
        assert detail == f"rolled back to {good[:7]}: action stacks ended with 3 after 0.5 s: out of cheese"
        assert here.tree.head == good
        assert here.tree.ran == [(bad, "stacks"), (good, "stacks")]
        assert await here.moves() == [(good, good, "ok"), (good, bad, "rolled_back"), (bad, good, "ok")]
        assert await here.service.moves.bad("homelab") == {bad: "action stacks ended with 3 after 0.5 s: out of cheese"}
        # It does not come again by itself, nor by being sent again, until a person says so or another commit comes.
        await here.deliver(bad, guid=guid)
        assert (await here.closed(guid, 2))[0] == "bad_sha"
        assert (await here.ask()).detail.startswith(f"bad_sha: {bad[:7]} was rolled back from: action stacks")
        assert here.tree.head == good
        mended = await here.push({"compose/a": "2"})
        assert (await here.closed(mended))[0] == "ok"
        await here.deliver(bad, guid=guid)
        assert await here.closed(guid, 3) == ("included", f"included in {here.tree.tip}")


async def test_a_bad_commit_is_deployed_again_once_a_person_forgives_it(tmp_path: Path) -> None:
    async with house(tmp_path, half(), repository("homelab", LAST, rollback="automatic")) as here:
        await here.ask()
        bad = here.tree.push({"a": "1"})
        here.tree.broken_at[bad] = frozenset({"last"})
        await here.closed((await here.deliver(bad)).guid)
        here.tree.broken_at.clear()
        await here.service.deployments["homelab"].forgive()
        assert (await here.ask()).state == "ok"
        assert await here.deployed() == bad


async def test_a_rollback_that_git_refuses_is_said_and_the_commit_stays_bad(tmp_path: Path) -> None:
    async with house(tmp_path, half(), repository("homelab", LAST, rollback="automatic")) as here:
        await here.ask()
        here.tree.broken = frozenset({"last"})
        brake = Brake(("run_action", "after"))
        here.half.gate = brake
        guid = await here.push()
        await brake.held.wait()
        here.tree.dirty = True
        brake.release()
        verdict, detail = await here.closed(guid)
        assert verdict == "action_failed"
        assert detail.endswith("it could not be rolled back: 1 file edited here")
        assert here.tree.head == here.tree.tip
        here.tree.dirty, here.tree.broken = False, frozenset()
        assert (await here.ask()).detail.startswith("bad_sha: ")
        assert (await here.run("gitops.rollback.homelab")).state == "ok"
        assert here.tree.head != here.tree.tip


async def test_a_person_rolls_back_step_by_step_and_never_to_what_was_bad(tmp_path: Path) -> None:
    async with house(tmp_path, half(), repository("homelab", LAST)) as here:
        await here.ask()
        shas = [here.tree.head]
        for _ in range(2):
            await here.closed(await here.push())
            shas.append(here.tree.head)
        first, second, third = shas
        record = await here.run("gitops.rollback.homelab")
        assert (record.state, record.detail) == ("ok", f"rolled back to {second[:7]}: a person asked for it")
        assert (here.tree.head, await here.deployed()) == (second, second)
        assert (await here.run("gitops.rollback.homelab")).state == "ok"
        assert (here.tree.head, await here.deployed()) == (first, first)
        record = await here.run("gitops.rollback.homelab")
        assert (record.state, record.detail) == ("failed", "no earlier deployment is known here")
        assert (await here.ask()).detail.startswith(f"bad_sha: {third[:7]} was rolled back from: ")
        mended = await here.push()
        assert (await here.closed(mended))[0] == "ok"


@pytest.mark.parametrize("repeat", [False, True])
async def test_an_action_that_was_cut_short_runs_again_only_where_it_may(repeat: bool, tmp_path: Path) -> None:  # noqa: FBT001
    root_half = half()
    section = repository("homelab", STACKS, action("slow", repeat=repeat), LAST)
    async with house(tmp_path, root_half, section) as here:
        await here.ask()
        guid = await held_in(here, root_half, "slow")
        await die()
    root_half.gate = None
    async with house(tmp_path, root_half, section) as here:
        verdict, detail = await here.closed(guid)
        ran = [name for _, name in here.tree.ran]
        if repeat:
            assert (verdict, ran) == ("ok", ["stacks", "slow", "slow", "last"])
        else:
            assert (verdict, ran) == ("interrupted", ["stacks", "slow"])
            assert detail == "action slow was cut short, and is not repeated by itself"
            assert (await here.finding()).repair == "homelab-agent gitops sync homelab"
            assert (await here.ask()).state == "ok"  # asked for, it all runs anew


async def held_in(here: House, root_half: HalfModel, name: str) -> str:
    """Push what touches everything, and return when the action of that name has begun."""
    begun = asyncio.Event()

    async def gate(_: str, verb: str, when: str) -> None:
        if verb == "run_action" and when == "after" and here.tree.ran[-1][1] == name:
            begun.set()
            await asyncio.Event().wait()

    root_half.gate = gate
    guid = await here.push({"compose/a": "1"})
    await begun.wait()
    return guid


async def test_without_a_root_half_nothing_happens_and_it_is_said(tmp_path: Path) -> None:
    async with house(tmp_path, half(), repository("homelab", LAST)) as here:
        await here.ask()
        here.half.failure = PrivilegedUnavailable(cause="there is none", repair="sudo make install")
        guid = await here.push()
        verdict, detail = await here.closed(guid)
        goes_on = "it goes on by itself when that is there again"
        assert (verdict, detail) == ("not_available", f"The root half is not available. (there is none); {goes_on}")
        finding = await here.finding()
        assert (finding.state, finding.repair) == ("degraded", "sudo make install")
        here.half.failure = None
        await here.deliver(here.tree.tip, guid=guid)
        assert (await here.closed(guid, 2))[0] == "ok"


async def test_what_the_root_half_says_goes_wrong_is_said_in_its_words(tmp_path: Path) -> None:
    error = VerbFailed(message="The program git is not installed.", repair="install git, in one of /usr/bin")
    async with house(tmp_path, half(), repository("homelab", LAST)) as here:
        here.half.failing = lambda verb: error if verb == "git_sync" else None
        guid = await here.push()
        assert await here.closed(guid) == ("not_available", "The program git is not installed.")
        [attempt] = (await here.attempts()).values()
        assert attempt["repair"] == "install git, in one of /usr/bin"


async def test_a_preview_names_files_and_actions_and_changes_nothing(tmp_path: Path) -> None:
    async with house(tmp_path, half(), repository("homelab", STACKS, LAST)) as here:
        await here.ask()
        before = here.tree.head
        here.tree.push({"compose/a": "1", "b": "2"})
        preview = await here.service.deployments["homelab"].preview()
        assert preview["verdict"] == "ok"
        assert preview["files"] == ("b", "compose/a")
        assert preview["actions"] == ["stacks", "last"]
        assert (preview["deployed"], preview["target"]) == (before, here.tree.tip)
        assert here.tree.head == before
        assert here.tree.ran == []


async def test_a_preview_of_a_rollback_says_where_it_would_go_and_changes_nothing(tmp_path: Path) -> None:
    async with house(tmp_path, half(), repository("homelab", STACKS, LAST)) as here:
        deployment = here.service.deployments["homelab"]
        await here.ask()
        nowhere = await deployment.preview_back()
        assert (nowhere["verdict"], nowhere["target"], nowhere["actions"]) == ("not_available", "", [])
        before = here.tree.head
        await here.closed(await here.push({"compose/a": "1", "b": "2"}))
        preview = await deployment.preview_back()
        assert (preview["verdict"], preview["target"], preview["head"]) == ("ok", before, here.tree.tip)
        assert (preview["files"], preview["actions"]) == (("b", "compose/a"), ["stacks", "last"])
        here.tree.dirty = True
        dirty = await deployment.preview_back()
        assert (dirty["verdict"], dirty["target"]) == ("dirty", before)
        assert dirty["repair"] == "cd /srv/homelab; git stash push"
        here.tree.dirty = False
        ran = list(here.tree.ran)
        assert here.tree.head == here.tree.tip
        back = await here.run("gitops.rollback.homelab")
        assert here.tree.head == preview["target"]
        assert [name for _, name in here.tree.ran[len(ran) :]] == preview["actions"]
        assert any("refs/homelab/rolled-back/" in line for line in await said(here, back)), "where the old tip is"


def move(from_sha: str, to_sha: str, state: MoveState = "ok") -> Move:
    now = datetime(2026, 11, 24, tzinfo=UTC)
    return Move("id", "homelab", from_sha, to_sha, state, "", None, now, now)


@pytest.mark.parametrize(
    ("history", "current", "bad", "found"),
    [
        ([], "a", {}, ""),
        ([move("a", "a")], "a", {}, ""),
        ([move("a", "b"), move("a", "a")], "b", {}, "a"),
        ([move("b", "c", "failed"), move("a", "b")], "c", {}, "b"),
        ([move("b", "c", "interrupted"), move("a", "b")], "b", {}, "a"),
        ([move("c", "b"), move("b", "c", "rolled_back"), move("a", "b")], "b", {"c": ""}, "a"),
        ([move("b", "a"), move("a", "b")], "a", {"b": ""}, ""),
        ([move("a", "b")], "x", {}, "b"),
    ],
)
def test_back_is_the_last_good_commit_before_this_one(
    history: list[Move], current: str, bad: dict[str, str], found: str
) -> None:
    assert earlier(history, current, bad) == found


def planned(word: str, head: str, target: str) -> Synced:
    return Synced(word, "", head_before=head, head=head, target=target)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("found", "deployed", "newest", "bad", "news"),
    [
        (planned("ok", "a", "b"), move("a", "a"), move("a", "a"), {}, True),
        (planned("up_to_date", "a", "a"), move("a", "a"), move("a", "a"), {}, False),
        (planned("up_to_date", "a", "a"), None, None, {}, True),
        (planned("up_to_date", "b", "b"), move("a", "a"), move("a", "a"), {}, True),
        (planned("up_to_date", "b", "b"), move("a", "a"), move("a", "b", "failed"), {}, False),
        (planned("ok", "a", "b"), move("a", "a"), move("a", "b", "failed"), {}, False),
        (planned("ok", "a", "b"), move("a", "a"), move("b", "a"), {"b": ""}, False),
        (planned("ok", "a", "b"), move("a", "b"), move("a", "b"), {}, True),
        (planned("dirty", "a", "b"), move("a", "a"), move("a", "a"), {}, False),
        (planned("fetch_failed", "a", ""), move("a", "a"), move("a", "b", "running"), {}, True),
    ],
)
def test_news_is_what_was_neither_deployed_nor_tried(
    found: Synced,
    deployed: Move | None,
    newest: Move | None,
    bad: dict[str, str],
    news: bool,  # noqa: FBT001
) -> None:
    assert is_news(found, deployed, newest, bad) is news
