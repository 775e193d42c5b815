"""What became of deliveries and deployments arrives in PostgreSQL, once, on every edition."""

from __future__ import annotations

from pathlib import Path

from homelab_agent.core.clock import SystemClock
from homelab_agent.core.uuid7 import uuid7
from homelab_agent.gitops.delivery import Verdict
from homelab_agent.gitops.moves import Moves
from tests import hooks, payloads
from tests.clock import until
from tests.neighbours.postgres import Postgres
from tests.shipping import shipping


async def test_verdicts_moves_and_actions_arrive(any_postgres: Postgres, tmp_path: Path) -> None:
    clock = SystemClock()
    async with hooks.foundation(tmp_path / "state", clock) as base:
        hook = hooks.assemble(base, hooks.settings(hooks.repository(secrets=[hooks.secret_in(tmp_path)])))
        moves = Moves(base.state, base.spool, clock, host="attic")
        run_id, push = uuid7(), payloads.push()
        for _ in range(2):
            await hook.receiver.receive(hooks.sent("push", push, guid="first-guid"))
            attempts = await hook.inbox.open_attempts("homelab")
            verdict = Verdict("dirty", "a\0b", "git stash", sha_asked=push["after"], run_id=run_id)
            await hook.inbox.close([(attempt, verdict) for attempt in attempts])
        await hook.receiver.receive(hooks.sent("ping", payloads.ping(), guid="second-guid"))
        move = await moves.begin("homelab", "", push["after"], run_id)
        await moves.begin_action(move, 1, "web")
        await moves.end_action(move, 1, "ok", "done")
        await moves.end(move, "ok")

        async with shipping(any_postgres.url, tmp_path, base.spool, clock) as database:
            await until(lambda: not base.spool.status().rows_disk, "all rows have arrived")
            verdicts = await database.fetch("SELECT * FROM gitops_verdict ORDER BY guid, attempt")
            assert [(row["guid"], row["attempt"], row["verdict"]) for row in verdicts] == [
                ("first-guid", 1, "dirty"),
                ("first-guid", 2, "dirty"),
                ("second-guid", 1, "pong"),
            ]
            assert (str(verdicts[0]["run_id"]), verdicts[0]["detail"], verdicts[0]["host"]) == (run_id, "ab", "attic")
            assert verdicts[2]["run_id"] is None
            (moved,) = await database.fetch("SELECT * FROM gitops_move")
            assert (str(moved["id"]), moved["from_sha"], moved["to_sha"]) == (move.id, "", push["after"])
            (action,) = await database.fetch("SELECT * FROM gitops_action JOIN gitops_move ON move_id = id")
            assert (action["name"], action["position"]) == ("web", 1)
            assert base.spool.status().rejected == 0
