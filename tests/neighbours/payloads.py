"""What GitHub sends to webhooks: the examples of npm's `@octokit/webhooks-examples`, adapted to a repository.

They are what GitHub has sent, collected by https://github.com/octokit/webhooks, as parsed JSON. A push is made from
the real history of a git remote: among the examples is none that was forced, and none of several commits.
"""

from __future__ import annotations

import functools
import json
import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

from tests.neighbours import cache
from tests.neighbours.git_remote import GitRemote
from tests.neighbours.neighbour import Missing, Neighbour, program

Payload = dict[str, Any]

_NPM = Path(__file__).parent / "npm"
_PACKAGE = "@octokit/webhooks-examples"
_OF_A_BRANCH = 4
"""Which of the examples of a push is of a branch that is there."""
_NAMED = {"A": "added", "D": "removed", "M": "modified", "T": "modified"}


def _install(into: Path) -> None:
    """Let npm bring the package that the lock names, and keep of it what is used."""
    npm = program("npm", "apt install npm, or install Node.js (https://nodejs.org)", path=os.environ["PATH"])
    for name in ("package.json", "package-lock.json"):
        shutil.copy(_NPM / name, into)
    argv = [str(npm), "ci", "--ignore-scripts", "--no-audit", "--no-fund", "--no-update-notifier"]
    done = subprocess.run(argv, cwd=into, capture_output=True, text=True, check=False)
    if done.returncode:
        message = f"npm does not bring {_PACKAGE}: {' '.join(done.stderr.split())[:200]}"
        raise Missing(message)
    installed = into / "node_modules"
    (installed / _PACKAGE / "api.github.com/index.json").rename(into / "examples.json")
    (installed / _PACKAGE / "package.json").rename(into / "package.json")
    shutil.rmtree(installed)


def _directory() -> Path:
    return cache.kept("webhook-examples", sorted(_NPM.glob("*.json")), _install)


@functools.cache
def _text() -> dict[str, list[str]]:
    found = json.loads((_directory() / "examples.json").read_text())
    return {event["name"]: [json.dumps(example) for example in event["examples"]] for event in found}


def examples() -> dict[str, list[Payload]]:
    """Return all of them by the event's name, as copies; raises `Missing` where npm is, or has, none."""
    return {event: [json.loads(example) for example in found] for event, found in _text().items()}


def payload(event: str, *, action: str = "", nth: int = 0, of: GitRemote | None = None, **changes: Any) -> Payload:
    """Return a copy of one example: the nth of those with this action, where one is named.

    With `of`, names, addresses and id of the repository are those of that one; `changes` replace what is at the top.
    """
    found = [example for example in map(json.loads, _text()[event]) if not action or example["action"] == action]
    chosen: Payload = found[nth]
    if of is not None and "repository" in chosen:
        whole = json.dumps(chosen).replace(chosen["repository"]["full_name"], of.full_name)
        chosen = json.loads(whole)
        owner, _, name = of.full_name.partition("/")
        chosen["repository"] |= {"id": of.repository_id, "name": name, "default_branch": "main"}
        chosen["repository"]["owner"] |= {"login": owner}
    return chosen | changes


def push(remote: GitRemote, *, ref: str = "refs/heads/main", before: str = "", after: str = "") -> Payload:
    """Return what GitHub sends after a push that moved `ref` from one SHA to the other.

    `after` is where the ref is now, if not given: nowhere when it was deleted; `before` is the commit before that. All
    zeros stand for nowhere, and where they are in `before` the ref was created.
    https://docs.github.com/en/webhooks/webhook-events-and-payloads#push
    """
    zeros = "0" * len(before or after or remote.sha(ref))
    after = after or remote.find(ref) or zeros
    before = before or remote.find(f"{after}~1") or zeros
    known = [before] if before != zeros else [f"--exclude={ref}", "--branches"]
    new = [] if after == zeros else remote("rev-list", "--reverse", after, "--not", *known).split()
    lost = "" if zeros in {before, after} else remote("rev-list", "--max-count=1", before, "--not", after)
    return payload("push", nth=_OF_A_BRANCH, of=remote) | {
        "ref": ref,
        "before": before,
        "after": after,
        "created": before == zeros,
        "deleted": after == zeros,
        "forced": bool(lost),
        "compare": f"https://github.com/{remote.full_name}/compare/{before[:12]}...{after[:12]}",
        "commits": [_commit(remote, sha) for sha in new],
        "head_commit": None if after == zeros else _commit(remote, remote.sha(after)),
    }


def _commit(remote: GitRemote, sha: str) -> Payload:
    """Return one commit as a push tells of it."""
    form = "%T%x00%cI%x00%B%x00%an%x00%ae%x00%cn%x00%ce"
    tree, when, message, *people = remote("show", "-s", f"--format={form}", sha).split("\0")
    names = ("name", "email")
    files: dict[str, list[str]] = {"added": [], "removed": [], "modified": []}
    changed = remote("diff-tree", "--root", "--no-commit-id", "--no-renames", "--name-status", "-r", "-z", sha)
    words = changed.rstrip("\0").split("\0")
    for status, name in zip(words[::2], words[1::2], strict=False):
        files[_NAMED[status]].append(name)
    return {
        "id": sha,
        "tree_id": tree,
        "distinct": True,
        "message": message.strip(),
        "timestamp": when,
        "url": f"https://github.com/{remote.full_name}/commit/{sha}",
        "author": dict(zip(names, people[:2], strict=True)),
        "committer": dict(zip(names, people[2:], strict=True)),
        **files,
    }


def _version() -> str:
    return str(json.loads((_directory() / "package.json").read_text())["version"])


def obtain() -> None:
    """Bring them."""
    _directory()


NEIGHBOUR = Neighbour("GitHub's payloads", f"npm {_PACKAGE}", version=_version, obtain=obtain)
