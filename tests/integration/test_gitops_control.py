"""GitOps over HTTP, from a signed webhook to its verdict, and what a person asks: only the root half is thought of."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from homelab_agent.core.capability import Capability
from homelab_agent.core.foundation import Foundation
from homelab_agent.core.privilege import PrivilegedUnavailable
from homelab_agent.gitops import service
from homelab_agent.gitops.settings import GitopsSettings
from tests import hooks, payloads, website
from tests.gitops_house import action, half, repository
from tests.half_model import Brake, HalfModel, Tree
from tests.website import Site

LAST = action("last")


@dataclasses.dataclass(slots=True)
class Here:
    site: Site
    half: HalfModel

    @property
    def tree(self) -> Tree:
        return self.half.trees["homelab"]

    async def get(self, path: str, status: int = 200) -> Any:
        answer = await self.site.ask("GET", path)
        assert answer.status == status, answer.body
        return answer.json()

    async def post(self, path: str, status: int = 202) -> Any:
        answer = await self.site.ask("POST", path, unix=True)
        assert answer.status == status, answer.body
        return answer.json()

    async def ended(self, run: str) -> Any:
        """Wait until a run has ended, and return it."""
        async with asyncio.timeout(10):
            while (record := await self.get(f"/api/runs/{run}"))["state"] in {"waiting", "running"}:  # noqa: ASYNC110
                await asyncio.sleep(0.01)
        return record

    async def sync(self, query: str = "") -> Any:
        return await self.ended((await self.post(f"/api/gitops/homelab/sync{query}"))["run"])

    async def status(self) -> Any:
        [one] = (await self.get("/api/gitops"))["repositories"]
        return one


@contextlib.asynccontextmanager
async def serving(directory: Path, *, section: dict[str, Any] | None = None) -> AsyncIterator[Here]:
    root_half = half()
    known = section or repository("homelab", LAST)
    secret = hooks.secret_in(directory)
    settings = GitopsSettings(
        poll=0, repository=[{**known, "full_name": payloads.FULL_NAME, "id": payloads.NUMBER, "secret": [secret]}]
    )
    made: list[service.Service] = []

    def build(base: Foundation) -> Capability:
        made.append(service.Service(settings, dataclasses.replace(base, privileged=root_half)))
        return made[0].capability()

    async with website.serving(directory, [build]) as site:
        task = asyncio.ensure_future(made[0].run())
        try:
            yield Here(site, root_half)
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)


async def deliver(here: Here, sha: str, guid: str) -> Any:
    """Send a signed push, as the forge does."""
    body = payloads.encode(payloads.push(after=sha))
    answer = await here.site.ask(
        "POST", "/api/webhook/gitops", headers=payloads.headers("push", body, guid=guid), body=body
    )
    assert answer.status == 202, answer.body
    return answer.json()


async def verdict(here: Here, guid: str, number: int = 1) -> str:
    """Wait until an attempt has its verdict, as anyone can ask."""
    async with asyncio.timeout(10):
        while True:
            attempts = (await here.get(f"/api/gitops/deliveries/{guid}"))["attempts"]
            if len(attempts) >= number and attempts[number - 1]["verdict"]:
                return str(attempts[number - 1]["verdict"])
            await asyncio.sleep(0.01)


async def test_a_signed_push_is_deployed_and_anyone_can_ask_what_became_of_it(tmp_path: Path) -> None:
    async with serving(tmp_path) as here:
        sha = here.tree.push({"a": "1"})
        told = await deliver(here, sha, "guid-00000001")
        assert (told["status"], told["repository"]) == ("open", "homelab")
        assert await verdict(here, "guid-00000001") == "ok"
        assert here.tree.ran == [(sha, "last")]
        one = await here.status()
        assert (one["deployed"], one["state"], one["verdict"], one["branch"]) == (sha, "ok", "ok", "main")
        assert one["deployed_at"].endswith("Z")
        again = await deliver(here, sha, "guid-00000001")  # GitHub was told to send it again
        assert (again["attempt"], again["status"]) == (1, "ok")
        assert len(here.tree.ran) == 1


async def test_a_sync_and_a_rollback_are_runs_that_can_be_followed(tmp_path: Path) -> None:
    async with serving(tmp_path) as here:
        first = here.tree.head
        assert (await here.sync())["detail"] == "up_to_date: main has all that the remote has"
        second = here.tree.push({"a": "1"})
        run = await here.sync()
        assert (run["state"], run["job"], run["trigger"]) == ("ok", "gitops.sync.homelab", "command")
        assert (await here.status())["deployed"] == second
        back = await here.ended((await here.post("/api/gitops/homelab/rollback"))["run"])
        assert back["detail"] == f"rolled back to {first[:7]}: a person asked for it"
        one = await here.status()
        assert (one["deployed"], one["state"], one["verdict"]) == (first, "degraded", "rolled_back")
        assert (await here.sync())["detail"].startswith("bad_sha: ")
        assert (await here.sync("?again=true"))["state"] == "ok"
        assert (await here.status())["deployed"] == second


async def test_who_asks_once_more_while_a_sync_is_under_way_is_told_so_and_has_forgiven_nothing(tmp_path: Path) -> None:
    async with serving(tmp_path) as here:
        await here.sync()
        bad = here.tree.push({"a": "1"})
        await here.sync()
        await here.ended((await here.post("/api/gitops/homelab/rollback"))["run"])
        brake = here.half.gate = Brake(("git_plan", "before"))
        run = (await here.post("/api/gitops/homelab/sync"))["run"]
        await brake.held.wait()
        assert run in str(await here.post("/api/gitops/homelab/sync?again=true", 409))
        brake.release()
        assert (await here.ended(run))["detail"].startswith("bad_sha: ")
        assert [one["sha"] for one in (await here.status())["bad"]] == [bad]
        assert (await here.sync("?again=true"))["state"] == "ok"
        assert (await here.status())["bad"] == []


async def test_what_is_under_way_and_what_waits_is_told(tmp_path: Path) -> None:
    async with serving(tmp_path) as here:
        at_rest = {"busy": False, "run": None, "waits_for": "", "waiting": 0}
        assert {name: (await here.status())[name] for name in at_rest} == at_rest
        assert (await here.status())["behind"] is None
        brake = here.half.gate = Brake(("git_sync", "before"))
        run = (await here.post("/api/gitops/homelab/sync"))["run"]
        await brake.held.wait()
        await deliver(here, here.tree.push({"a": "1"}), "guid-00000001")
        one = await here.status()
        assert (one["busy"], one["run"], one["waiting"]) == (True, run, 1)
        brake.release()
        await here.ended(run)
        assert await verdict(here, "guid-00000001") in {"ok", "up_to_date"}
        until_ended = (await here.status())["run"]
        if until_ended is not None:
            await here.ended(until_ended)
        one = await here.status()
        assert {name: one[name] for name in at_rest} == at_rest
        assert (one["behind"], one["bad"]) == (0, [])


async def test_what_was_done_can_be_read_with_all_that_it_printed(tmp_path: Path) -> None:
    async with serving(tmp_path) as here:
        first = here.tree.head
        await here.sync()
        here.tree.broken = frozenset({"last"})
        second = here.tree.push({"a": "1"})
        run = await here.sync()
        newest, oldest = (await here.get("/api/gitops/homelab/moves"))["moves"]
        assert (oldest["from_sha"], oldest["to_sha"], oldest["state"]) == (first, first, "ok")
        assert (newest["from_sha"], newest["to_sha"], newest["state"]) == (first, second, "failed")
        assert (await here.get("/api/gitops/homelab/moves?limit=1"))["moves"] == [newest]
        for name in (newest["id"], run["id"]):
            [move] = (await here.get(f"/api/gitops/moves/{name}"))["moves"]
            [act] = move.pop("actions")
            assert move == newest
            assert (act["name"], act["state"]) == ("last", "failed")
            assert act["detail"] == "ended with 3 after 0.5 s\nfirst\nout of cheese"
        here.tree.broken = frozenset()
        again = await here.sync()
        [move] = (await here.get(f"/api/gitops/moves/{again['id']}"))["moves"]
        assert move["actions"][0]["detail"] == "took 0.5 s\nfine"
        assert "history" in (await here.get("/api/gitops/moves/never-was", 404))["repair"]
        await here.get("/api/gitops/nosuch/moves", 404)
        await here.get("/api/gitops/homelab/moves?limit=0", 400)


async def test_a_plan_names_what_would_happen(tmp_path: Path) -> None:
    async with serving(tmp_path) as here:
        await here.sync()
        sha = here.tree.push({"b": "1", "a": "1"})
        plan = await here.get("/api/gitops/homelab/plan")
        assert (plan["verdict"], plan["target"], plan["files"], plan["actions"]) == ("ok", sha, ["a", "b"], ["last"])
        assert here.tree.ran == []
        here.half.failure = PrivilegedUnavailable(cause="there is none", repair="sudo make install")
        plan = await here.get("/api/gitops/homelab/plan")
        assert (plan["verdict"], plan["repair"]) == ("not_available", "sudo make install")


async def test_a_delivery_is_replayed_whatever_became_of_it(tmp_path: Path) -> None:
    async with serving(tmp_path) as here:
        sha = here.tree.push({"a": "1"})
        await deliver(here, sha, "guid-00000001")
        assert await verdict(here, "guid-00000001") == "ok"
        told = await here.post("/api/gitops/deliveries/guid-00000001/replay")
        assert (told["attempt"], told["status"]) == (2, "open")
        assert await verdict(here, "guid-00000001", 2) == "up_to_date"
        await here.post("/api/gitops/deliveries/guid-unknown/replay", 404)
        listed = "/api/gitops/deliveries?verdict="
        assert len((await here.get(f"{listed}up_to_date"))["deliveries"]) == 1
        assert (await here.get(f"{listed}open"))["deliveries"] == (await here.get(f"{listed}dirty"))["deliveries"] == []
        assert "up_to_date" in (await here.get(f"{listed}okay", 400))["detail"]


async def test_one_sync_at_a_time_and_only_of_what_is_configured(tmp_path: Path) -> None:
    async with serving(tmp_path) as here:
        brake = here.half.gate = Brake(("git_sync", "before"))
        run = (await here.post("/api/gitops/homelab/sync"))["run"]
        await brake.held.wait()
        assert (await here.status())["busy"] is True
        busy = await here.post("/api/gitops/homelab/sync", 409)
        assert busy["repair"] == f"homelab-agent jobs follow {run}"
        brake.release()
        await here.ended(run)
        for method, path in (("POST", "/api/gitops/nosuch/sync"), ("POST", "/api/gitops/nosuch/rollback")):
            assert (await here.site.ask(method, path, unix=True)).status == 404
        await here.get("/api/gitops/nosuch/plan", 404)
        await here.post("/api/gitops/homelab/sync?again=perhaps", 400)


@pytest.mark.parametrize("path", ["homelab/sync", "homelab/rollback", "deliveries/guid-00000001/replay"])
async def test_what_changes_something_takes_a_login_and_never_comes_from_the_public(tmp_path: Path, path: str) -> None:
    async with serving(tmp_path) as here:
        for headers, status in (({}, 401), (website.TAILNET, 401), (website.FUNNEL, 503)):
            assert (await here.site.ask("POST", f"/api/gitops/{path}", headers=headers)).status == status
        assert here.half.calls == []
