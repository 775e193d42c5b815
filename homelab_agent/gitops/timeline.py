"""What the timeline tells of deployments: each attempt of a delivery, what was deployed for it, and what followed."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from homelab_agent.core.timeline import Entry, Facts, Fields, Part, Standing, Table, brief, runs, thing
from homelab_agent.gitops.delivery import GOOD

_VERDICTS = Table(
    "gitops_verdict",
    ("guid", "attempt"),
    began="opened_at",
    ended="closed_at",
    what="webhooks",
    kept="SELECT guid, number AS attempt, repository, event, ref, verdict, detail, run_id, opened_at, closed_at"
    " FROM gitops_attempt JOIN gitops_delivery ON gitops_delivery.id = delivery",
)
_MOVES = Table(
    "gitops_move",
    ("id",),
    began="started_at",
    ended="ended_at",
    what="deployments",
    kept="SELECT id, repository, from_sha, to_sha, state, detail, run_id, started_at, ended_at FROM gitops_move",
)
_ACTIONS = Table(
    "gitops_action",
    ("move_id", "position"),
    began="started_at",
    ended="ended_at",
    what="actions of deployments",
    kept="SELECT move_id, position, name, state, detail, started_at, ended_at FROM gitops_action",
)
_UNDER_WAY = {"", "running", "started"}


def _tell(facts: Facts) -> Iterator[Entry]:
    attempts, moves = facts["gitops_verdict"], facts["gitops_move"]
    triggers = {(run["host"], run["id"]): run["trigger"] for run in facts["job_run"]}
    by_run: dict[tuple[str, str], list[Fields]] = {}
    for one in sorted(attempts, key=lambda one: (one["opened_at"], one["guid"])):
        by_run.setdefault((one["host"], one["run_id"] or ""), []).append(one)
    for (host, run_id), together in by_run.items():
        for one in together:
            # Others may have come while a run that was asked for before them waited.
            began_it = bool(run_id) and one is together[0] and triggers.get((host, run_id)) == "webhook"
            yield _attempt(one, before=[runs.run(host, run_id)] if began_it else ())
    for move in moves:
        yield _move(move, by_run)
    names = {(move["host"], move["id"]): move["repository"] for move in moves}
    for action in facts["gitops_action"]:
        yield _action(action, names.get((action["host"], action["move_id"]), ""))


def _attempt(row: Fields, before: Sequence[str]) -> Entry:
    host, guid, number = row["host"], row["guid"], row["attempt"]
    what = " ".join(filter(None, (row["event"], row["ref"].removeprefix("refs/heads/"), row["repository"])))
    again = f" (attempt {number})" if number > 1 else ""
    verdict = row["verdict"]
    return Entry(
        thing(host, "delivery", guid, number),
        row["opened_at"],
        host,
        "delivery",
        brief(f"{what}{again}, {verdict.replace('_', ' ') or 'has no verdict yet'}", row["detail"]),
        id=guid,
        ask=f"homelab-agent deliveries show {guid}",
        standing=_standing(verdict, is_good=verdict in GOOD),
        until=row["closed_at"],
        after=[thing(host, "delivery", guid, number - 1)],
        before=before,
    )


def _move(row: Fields, by_run: dict[tuple[str, str], list[Fields]]) -> Entry:
    host, state, run_id = row["host"], row["state"], row["run_id"] or ""
    taken = by_run.get((host, run_id), []) if run_id else []
    if state == "running":  # what it is for has no run yet
        known = by_run.get((host, ""), [])
        taken = [one for one in known if one["repository"] == row["repository"] and not one["verdict"]]
    causes = [
        thing(host, "delivery", one["guid"], one["attempt"]) for one in taken if one["opened_at"] <= row["started_at"]
    ]
    return Entry(
        thing(host, "deployment", row["id"]),
        row["started_at"],
        host,
        "deployment",
        brief(f"{row['repository']} {_way(row)}, {_word(state)}", row["detail"]),
        id=row["id"],
        ask=f"homelab-agent gitops show {row['id']}",
        standing=_standing(state, is_good=state == "ok"),
        until=row["ended_at"],
        after=[*([runs.run(host, run_id)] if run_id else ()), *causes],
    )


def _action(row: Fields, repository: str) -> Entry:
    host, move_id, state = row["host"], row["move_id"], row["state"]
    return Entry(
        thing(host, "action", move_id, row["position"]),
        row["started_at"],
        host,
        "action",
        brief(f"{row['name']} of {repository}".removesuffix(" of ") + f", {_word(state)}", row["detail"]),
        id=move_id,
        ask=f"homelab-agent gitops show {move_id}",
        standing=_standing(state, is_good=state == "ok"),
        until=row["ended_at"],
        after=[thing(host, "deployment", move_id), thing(host, "action", move_id, row["position"] - 1)],
    )


def _way(row: Fields) -> str:
    start, end = row["from_sha"][:7], row["to_sha"][:7]
    if start == end:
        return f"at {end}" if end else "without a commit"
    return f"{start} to {end}" if start else f"to {end}"


def _word(state: str) -> str:
    return "under way" if state in _UNDER_WAY else state.replace("_", " ")


def _standing(state: str, *, is_good: bool) -> Standing:
    if state in _UNDER_WAY:
        return Standing.UNDER_WAY
    return Standing.DONE if is_good else Standing.FAILED


PART = Part([_VERDICTS, _MOVES, _ACTIONS], _tell)
