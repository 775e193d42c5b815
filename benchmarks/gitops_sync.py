"""From a push to a moved working copy: deploy/gitops_sync.sh beside git commands on the same remote, in turn.

The bare commands are those that a person types, and those that the script runs, one after the other with its options.
"""

from __future__ import annotations

import statistics
import subprocess
import tempfile
import time
from pathlib import Path

from benchmarks import process
from tests.working_copy import FETCHED, WorkingCopy

ROUNDS = 20
TYPED = "git fetch --quiet && git merge --quiet --ff-only origin/main"
TAKEN = f"""
git rev-parse --git-dir HEAD '@{{upstream}}' &&
git fetch --quiet --refmap= --no-tags --no-auto-maintenance origin +refs/heads/main:{FETCHED} &&
git rev-list --left-right HEAD...{FETCHED} &&
git status --porcelain=v2 --branch --untracked-files=no &&
git -c maintenance.auto=false merge --quiet --ff-only {FETCHED} &&
git update-ref refs/remotes/origin/main {FETCHED}
"""


def run(*, minutes: float) -> None:
    """Push and move again and again, each way in a clone of its own; print medians and their ratios."""
    del minutes
    with tempfile.TemporaryDirectory(prefix="homelab-agent-bench-") as name:
        copy = WorkingCopy(Path(name), {f"service{number}/compose.yml": "services:\n" * 40 for number in range(50)})
        clones = {way: copy.path.with_name(way) for way in ("typed", "taken", "script")}
        for clone in clones.values():
            copy.git("clone", "--quiet", str(copy.remote), str(clone))
        command = {"typed": ["dash", "-c", TYPED], "taken": ["dash", "-c", TAKEN], "script": copy.command()}
        command["script"][command["script"].index(str(copy.path))] = "."
        took: dict[str, list[float]] = {way: [] for way in clones}
        for number in range(ROUNDS):
            copy.push({"service7/compose.yml": f"services: # {number}\n"})
            for way, clone in clones.items():
                began = time.perf_counter()
                subprocess.run(command[way], cwd=clone, env=copy.env, check=True, capture_output=True)
                took[way].append((time.perf_counter() - began) * 1000)
    median = {way: statistics.median(times) for way, times in took.items()}
    process.figure("gitops_sync.sh (median)", median["script"], "ms")
    process.figure("peer: git fetch and merge, as typed (median)", median["typed"], "ms")
    process.figure("peer: the git commands that it takes (median)", median["taken"], "ms")
    process.figure("gitops_sync.sh: to git as typed", median["script"] / median["typed"], "x")
    process.figure(
        "gitops_sync.sh: to the git commands that it takes", median["script"] / median["taken"], "x", bound=1.15
    )
