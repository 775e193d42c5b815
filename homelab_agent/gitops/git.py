"""git in a working copy, as its owner: the sync script, and the few questions that it does not answer.

What git reads is what it reads when the owner types it, so that both see the same remote and the same filters; but no
hook and no helper runs, nobody is asked for anything, and nothing of the half's own user or environment counts.
"""

from __future__ import annotations

import asyncio
import json
import os
import shlex
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Unpack

from homelab_agent.core import process
from homelab_agent.core.errors import AgentError
from homelab_agent.core.privilege import Answer, Call
from homelab_agent.core.process_output import Stream
from homelab_agent.gitops import access, owned
from homelab_agent.gitops.settings import Repository

SCRIPT = Path(__file__).with_name("gitops_sync.sh")
VERDICTS = frozenset({
    "ok", "up_to_date", "dirty", "dirty_overlap", "untracked_collision", "diverged", "ahead", "forced", "detached",
    "locked", "wrong_branch", "not_a_repository", "wrong_owner", "fetch_failed", "corrupt", "unsigned",
})  # fmt: skip
"""What the script's verdict may be, and a rollback's."""

PATHS_BYTES_MAX = 128 * 1024
"""Of the names of changed files. As JSON they are at most six times that, which still is one frame."""
GRACE_SECONDS = 20.0
"""How long what is told to stop may take to put back what it had half done; who called waits for longer."""
_CAUSE_MAX = 600
_FORGET = """
for one; do
    [ -f "./$one/.git" ] && [ ! -L "./$one/.git" ] || continue
    target=$(sed -n 's/^gitdir: //p' "./$one/.git")
    case $target in '') continue ;; /*) ;; *) target=./$one/$target ;; esac
    [ -e "$target" ] || rm -f "./$one/.git"
done
"""
_SETTINGS = {
    "core.hooksPath": "/dev/null",
    "core.fsmonitor": "false",
    "core.untrackedCache": "false",
    "credential.helper": "",
    "protocol.ext.allow": "never",
    "submodule.recurse": "false",
    "gc.auto": "0",
    "maintenance.auto": "false",
    "safe.directory": "",
}
"""Those that the script sets too: git sees to the rest as its owner has set it."""


class NoVerdict(AgentError):
    """gitops_sync.sh ended with {code}, and said nothing that can be understood."""

    repair = "{repair}"


class GitFailed(AgentError):
    """git could not do it in {directory}."""

    repair = "{repair}"


class Git:
    """git for one call of a verb on one repository; what it complains of is told to who called."""

    def __init__(
        self, repository: Repository, copy: owned.Owned, granted: access.Access, call: Call, *, deadline: float
    ) -> None:
        """`deadline` is how long one command may take, in seconds."""
        self.repository = repository
        self.words = granted.words
        self._copy = copy
        self._granted = granted
        self._call = call
        self._deadline = deadline

    async def run(self, *words: str, **given: Unpack[process.Given]) -> process.Completed:
        """Run git to its end, whatever that is. Raises `process.DeadlinePassed`, `process.ProgramMissing`."""
        settings = {**_SETTINGS, "protocol.file.allow": "always" if self.repository.allow_file else "never"}
        return await self._run(["git", *words], _environment(settings, self._copy.path.parent), **given)

    async def answer(self, *words: str, **given: Unpack[process.Given]) -> process.Completed:
        """Run git; raises `GitFailed` with what it complained of, and what `run` raises."""
        done = await self.run(*words, **given)
        if done.code != 0:
            raise self.failed(done)
        return done

    def failed(self, done: process.Completed) -> GitFailed:
        """Return the error with git's last words."""
        directory, cause = self.repository.directory, self.complaint(done)
        return GitFailed(directory=directory, repair=self._typed("git status"), cause=cause)

    def complaint(self, done: process.Completed) -> str:
        """Return what git complained of, in one line."""
        lines = self.words(done.stderr.decode(errors="replace")).splitlines()
        return "; ".join(dict.fromkeys(filter(None, map(str.strip, lines))))[-_CAUSE_MAX:]

    async def remove(self, names: bytes) -> None:
        """Remove files of the working copy, whose names end in NUL, and directories that are empty then."""
        script = 'for name; do rm -f "./$name"; case $name in */*) rmdir -p "./${name%/*}" 2>/dev/null ;; esac; done'
        await self._run(["xargs", "-0", "sh", "-c", script, "sh"], {}, stdin=names)

    async def forget_cut_short(self) -> None:
        """Remove what a submodule's clone that was cut short may have left: a `.git` that leads nowhere.

        With it git does not even say how the working copy stands.
        """
        if not self.repository.submodules:
            return
        words = ("config", "--file", ".gitmodules", "--null", "--get-regexp", r"^submodule\..*\.path$")
        told = (await self.run(*words)).stdout.split(b"\0")
        paths = [path for _, found, path in (one.partition(b"\n") for one in told) if found and _is_inside(path)]
        if paths:
            await self._run(
                ["xargs", "-0", "sh", "-c", _FORGET, "sh"], {}, stdin=b"".join(one + b"\0" for one in paths)
            )

    async def sync(self, sha: str, *, plan: bool) -> Answer:
        """Move forward to a commit, or to the tip, or with `plan` say what would happen: the script's JSON line.

        Raises `NoVerdict`.
        """
        await self.forget_cut_short()
        script = await asyncio.to_thread(os.open, SCRIPT, os.O_RDONLY | os.O_CLOEXEC)
        late = False
        try:  # by descriptor: the owner may be unable to read it where it is
            argv = ["sh", "-c", f". /dev/fd/{script}", str(SCRIPT), *self._options(plan=plan), ".", self._branch]
            descriptors = (*self._granted.descriptors, script)
            done = await self._run([*argv, *([sha] if sha else [])], {}, descriptors=descriptors)
        except process.DeadlinePassed as error:
            done, late = error.completed, True
        finally:
            os.close(script)
        if (told := understood(done.stdout)) is not None:
            repair = [self.words(command) for command in told["repair"]]
            return {**told, "detail": self.words(told["detail"]), "repair": repair}
        if late:
            return verdict("fetch_failed", f"git was not done after {self._deadline:g} s", ["git ls-remote --heads"])
        by_hand = self._typed(f"sh {SCRIPT} . {shlex.quote(self._branch)}")
        raise NoVerdict(code=done.code, repair=by_hand, cause=self.complaint(done))

    async def changed(self, old: str, new: str) -> Answer:
        """Say which files differ between two commits.

        From a commit that is not here any more it is more than can be told. Raises `GitFailed`.
        """
        words = ("diff-tree", "-r", "-z", "--name-only", "--no-renames", old, new)
        done = await self.run(*words, output_max=PATHS_BYTES_MAX)
        if done.code != 0 and (await self._has(old) or not await self._has(new)):
            raise self.failed(done)
        if done.code != 0 or done.truncated:
            return {"paths": [], "truncated": True}
        return {"paths": done.stdout.decode(errors="replace").split("\0")[:-1], "truncated": False}

    async def contained(self, head: str, shas: Sequence[str]) -> Answer:
        """Say which of these commits are part of `head`; those that are not here are not. Raises `GitFailed`."""
        here: set[str] = set()

        def keep(stream: Stream, line: str) -> None:
            sha, _, kind = line.partition(" ")
            if stream == "stdout" and kind == "commit":
                here.add(sha)

        def drop(stream: Stream, line: str) -> None:
            if stream == "stdout":
                here.discard(line)

        form = "--batch-check=%(objectname) %(objecttype)"
        await self.answer("cat-file", form, stdin=_lines(shas), on_line=keep, output_max=_CAUSE_MAX)
        if here:
            asked = _lines([f"^{head}", *here])
            await self.answer("rev-list", "--stdin", stdin=asked, on_line=drop, output_max=_CAUSE_MAX)
        return {"contained": sorted(here)}

    @property
    def as_user(self) -> str:
        """Whom git runs as here, where that is another user than ours."""
        return self._copy.user.name if self._copy.user.switch is not None else ""

    def _typed(self, command: str) -> str:
        return owned.typed([command], self.repository.directory, self.as_user)

    @property
    def _branch(self) -> str:
        return self.repository.branch

    async def _has(self, sha: str) -> bool:
        return (await self.run("rev-parse", "--quiet", "--verify", f"{sha}^{{commit}}")).code == 0

    def _options(self, *, plan: bool) -> list[str]:
        flags = {"--plan": plan, "--submodules": self.repository.submodules, "--allow-file": self.repository.allow_file}
        options = ["--json", *(flag for flag, is_on in flags.items() if is_on)]
        for glob in self.repository.ignore_dirty:
            options += ["--ignore-dirty", glob]
        return [*options, *(["--allowed-signers", self._granted.signers] if self._granted.signers else [])]

    async def _run(
        self, argv: Sequence[str], environment: Mapping[str, str], **given: Unpack[process.Given]
    ) -> process.Completed:
        whole: process.Given = {
            "on_line": self._tell,
            "descriptors": self._granted.descriptors,
            **self._copy.given({**self._granted.environment, **environment}),
            **given,
        }
        return await process.run(argv, deadline=self._deadline, grace=GRACE_SECONDS, **whole)

    def _tell(self, stream: Stream, line: str) -> None:
        if stream == "stderr":
            self._call.say(stream, self.words(line))


@asynccontextmanager
async def at_work(repository: Repository, call: Call, *, deadline: float) -> AsyncIterator[Git]:
    """Give git in a repository's working copy. Raises what `owned.opened` and `access.granted` raise."""
    async with (
        owned.opened(repository) as copy,
        access.granted(repository, copy.user, call.descriptors) as granted,
    ):
        yield Git(repository, copy, granted, call, deadline=deadline)


def understood(printed: bytes) -> Answer | None:
    """Return what the script has printed as an object; None where it is not exactly one such line."""
    try:
        told = json.loads(printed.decode())
    except (ValueError, RecursionError):
        return None
    match told:
        case {
            "verdict": str(word),
            "detail": str(),
            "repair": list(commands),
            "head_before": str(),
            "head": str(),
            "target": str(),
            "commits": int(),
        } if word in VERDICTS and all(isinstance(command, str) for command in commands):
            return dict(told)
    return None


def verdict(word: str, detail: str, repair: str | Sequence[str] = (), **more: str) -> Answer:
    """Return an answer as the script's; `repair` is one sentence, or commands to be run in the working copy."""
    assert word in VERDICTS, word  # noqa: S101 - a closed set
    return {"verdict": word, "detail": detail, "repair": repair, **more}


def _is_inside(path: bytes) -> bool:
    """Return whether a path, as somebody has pushed it, is one below the working copy."""
    return not path.startswith(b"/") and b".." not in path.split(b"/")


def _lines(words: Sequence[str]) -> bytes:
    return "".join(f"{word}\n" for word in words).encode()


def _environment(settings: Mapping[str, str], above: Path) -> dict[str, str]:
    """Return the variables with which git has these settings, talks to no terminal, and stays below a directory."""
    pins = {"GIT_CONFIG_COUNT": str(len(settings))}
    for number, (key, value) in enumerate(settings.items()):
        pins |= {f"GIT_CONFIG_KEY_{number}": key, f"GIT_CONFIG_VALUE_{number}": value}
    return {
        **pins,
        "LC_ALL": "C",
        "GIT_TERMINAL_PROMPT": "0",
        "GIT_OPTIONAL_LOCKS": "0",
        "GIT_CEILING_DIRECTORIES": str(above),
    }
