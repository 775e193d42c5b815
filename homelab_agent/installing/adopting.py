"""The data of `make run` become the service's: where they lie, or as a copy of a user's, who keeps their own."""

from __future__ import annotations

import os
import pwd
import shutil
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path

from homelab_agent import config
from homelab_agent.core import lock
from homelab_agent.core.errors import AgentError, Exit

STATE = Path("/var/lib/homelab-agent")
USER = "homelab-agent"
_NOT_COPIED = ("agent.lock", "agent.sock", "privileged.sock", "privileged")
_SPARE_BYTES = 256 * 1024 * 1024


class StillInUse(AgentError):
    """The agent of `make run` still uses {directory}: {holder}."""

    repair = "end it with Ctrl-C, then: make install"
    exit_code = Exit.BUSY


class NothingToAdopt(AgentError):
    """There is no state of an agent in {directory}."""

    repair = "make install ADOPT=no starts fresh"
    exit_code = Exit.USAGE


class IsALink(AgentError):
    """{directory} is a link, and whose it is may exchange it."""

    repair = "name the directory that it leads to: make install ADOPT={target}; make install ADOPT=no starts fresh"
    exit_code = Exit.USAGE


class StateInTheWay(AgentError):
    """{directory} holds something already, so nothing is put there."""

    repair = "look at it, and move it away or: make install ADOPT=no"


class NoRoom(AgentError):
    """There is no room for a copy of {directory}: {needed} MiB are needed, {free} MiB are free."""

    repair = "free some space on /var/lib, or: make install ADOPT=no"


class NotCopied(AgentError):
    """The data in {directory} could not be copied; nothing was changed there."""

    repair = "make install ADOPT=no starts fresh"


def is_state(directory: Path) -> bool:
    """Return whether an agent has begun its state there."""
    return (directory / "state.id").exists()


def candidates(checkout: Path, sudo_user: str) -> Iterator[Path]:
    """Yield where `make run` keeps its state, for this checkout and the people who may have run it."""
    with suppress(AgentError, OSError):
        if (named := config.load(checkout / "config.toml").settings.agent.state) is not None:
            yield named.expanduser().absolute()
    for name in (sudo_user, _owner(checkout)):
        with suppress(KeyError):
            person = pwd.getpwnam(name)
            if person.pw_uid != 0:
                yield Path(person.pw_dir) / ".local/state/homelab-agent"


def _owner(path: Path) -> str:
    try:
        return path.owner()
    except KeyError:
        return ""


def check_at_rest(directory: Path) -> None:
    """Raise `StillInUse` while an agent holds the directory, or its PostgreSQL has not ended."""
    if holder := lock.holder(directory):
        raise StillInUse(directory=directory, holder=holder)
    for file in directory.glob("postgres/*/data/postmaster.pid"):
        with suppress(OSError, ValueError):
            number = int(file.read_text().split()[0])
            if Path(f"/proc/{number}/comm").read_text() == "postgres\n":
                raise StillInUse(directory=directory, holder=f"its PostgreSQL, process {number}")


def size(directory: Path) -> int:
    """Return how many bytes are in the files below it."""
    total = 0
    for place, _, files in os.walk(directory):
        for name in files:
            with suppress(OSError):
                total += Path(place, name).lstat().st_size
    return total


def take_over(directory: Path = STATE) -> None:
    """Give what root's `make run` has left to the agent's user; the directory itself last. No link is followed."""
    check_at_rest(directory)
    person = pwd.getpwnam(USER)
    with lock.kept_free(directory):
        for place, directories, files in os.walk(directory, topdown=False):
            for name in (*directories, *files):
                os.chown(Path(place, name), person.pw_uid, person.pw_gid, follow_symlinks=False)
        directory.chmod(0o700)
        os.chown(directory, person.pw_uid, person.pw_gid)


def copy(source: Path, target: Path = STATE) -> None:
    """Have `target` be a copy of a user's state, whole or not at all: read by that user, written by the agent's.

    So whatever that user has put there, nobody reads more than they may, and nothing is written elsewhere; nor does it
    help to exchange the directory for another while it is copied. Raises `StillInUse`, `IsALink`, `StateInTheWay`,
    `NoRoom`, `NotCopied`.
    """
    if source.is_symlink():
        raise IsALink(directory=source, target=source.resolve())
    check_at_rest(source)
    if target.exists() and any(one.name not in _NOT_COPIED for one in target.iterdir()):
        raise StateInTheWay(directory=target)
    _check_room(source, target.parent)
    agent = pwd.getpwnam(USER)
    new = target.with_name(f"{target.name}.new")
    shutil.rmtree(new, ignore_errors=True)
    new.mkdir(mode=0o700)
    os.chown(new, agent.pw_uid, agent.pw_gid)
    with lock.kept_free(source, link=False) as opened:
        _pour(_as(os.fstat(opened).st_uid), opened, _as(agent.pw_uid), new, called=source)
    subprocess.run(["sync", "-f", new], check=True)
    if target.exists():
        shutil.rmtree(target)
    new.rename(target)


def _check_room(source: Path, parent: Path) -> None:
    needed, free = size(source) + _SPARE_BYTES, shutil.disk_usage(parent).free
    if needed > free:
        raise NoRoom(directory=source, needed=needed // 2**20, free=free // 2**20)


def _as(uid: int) -> Sequence[str]:
    person = pwd.getpwuid(uid)
    return ["setpriv", f"--reuid={uid}", f"--regid={person.pw_gid}", "--init-groups"]


def _pour(reader: Sequence[str], source: int, writer: Sequence[str], target: Path, *, called: Path) -> None:
    """Copy what is below an open directory; `called` is what errors call it."""
    left_out = [f"--exclude=./{name}" for name in _NOT_COPIED]
    give = [*reader, "tar", "--create", *left_out, "--exclude=./postgres/socket/*", "."]
    take = [*writer, "tar", f"--directory={target}", "--extract", "--preserve-permissions", "--no-same-owner"]
    with tempfile.TemporaryFile() as said:
        with (
            subprocess.Popen(give, cwd=f"/proc/self/fd/{source}", stdout=subprocess.PIPE, stderr=said) as giving,
            subprocess.Popen(take, stdin=giving.stdout, stdout=subprocess.DEVNULL, stderr=said) as taking,
        ):
            assert giving.stdout is not None  # noqa: S101 - a pipe was asked for
            giving.stdout.close()  # so that who gives ends when nobody takes any more
        if giving.returncode or taking.returncode:
            said.seek(0)
            raise NotCopied(directory=called, cause=said.read().decode(errors="replace").strip()[-500:])
