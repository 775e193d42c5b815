"""What a repository's deployments stand on, looked at from outside: its working copy and what its actions need.

Everything that is not as it should be is a fault, a finding with what mends it; nothing is changed, and nothing of the
working copy is run.
"""

from __future__ import annotations

import asyncio
import grp
import os
import pwd
import shlex
import stat
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path

from homelab_agent.core import privilege, process
from homelab_agent.core.errors import AgentError
from homelab_agent.core.health import Finding, State
from homelab_agent.core.privilege import NotThatUser, User
from homelab_agent.gitops import adding, execution
from homelab_agent.gitops.git import Git
from homelab_agent.gitops.owned import NoWorkingCopy
from homelab_agent.gitops.settings import Action, Repository

ASK_SECONDS = 10.0
_DOCKER = "docker"
_MAKEFILES = ("GNUmakefile", "makefile", "Makefile")
_SHOWN_MAX = 3
_WORST_FIRST = (State.FAILED, State.DEGRADED, State.NOT_AVAILABLE)


def judged(faults: Sequence[Finding], good: str, also: Sequence[str] = ()) -> Finding:
    """Return one finding of all faults: the worst state, everything said, every repair; `good` if there are none.

    `also` is said in either case.
    """
    if not faults:
        return Finding.ok("; ".join((good, *also)))
    state = min((fault.state for fault in faults), key=_WORST_FIRST.index)
    said = "; ".join((*(fault.detail for fault in faults), *also))
    return Finding(state, said, "; ".join(dict.fromkeys(fault.repair for fault in faults if fault.repair)))


def whose(repository: Repository) -> User:
    """Return whom its working copy is worked in as; blocking. Raises `NoWorkingCopy`, `privilege.NoSuchUser`."""
    try:
        owner = repository.directory.stat().st_uid
    except OSError as error:
        raise NoWorkingCopy(directory=repository.directory, cause=error) from error
    return privilege.look_up(repository.run_as or owner)


# The working copy.


def of_owner(repository: Repository, user: User, agent: int) -> Iterator[Finding]:
    """Yield what is wrong with whose it is, where the agent runs as the user of that number; blocking."""
    owner = repository.directory.stat().st_uid
    where = shlex.quote(str(repository.directory))
    if owner != user.uid:
        said = f"{repository.directory} belongs to {_name(owner)}, and run_as is {user.name}"
        yield Finding.failed(said, f"sudo chown -R {user.name}: {where}, or correct run_as")
    if agent not in {0, user.uid} and not privilege.UNIT_SOCKET.exists():
        yield Finding.of(NotThatUser(name=user.name, cause=f"it runs as {_name(agent)}, and there is no root half"))


async def of_remote(repository: Repository, git: Git) -> tuple[Sequence[Finding], str]:
    """Return what is wrong with the remote that the working copy follows, and its address; asks nothing of it."""
    done = await git.run("ls-remote", "--get-url")
    url = git.words(done.stdout.decode(errors="replace").strip())
    as_owner = f"sudo -u {git.as_user} " if git.as_user else ""
    another = f"{as_owner}git -C {shlex.quote(str(repository.directory))} remote set-url origin URL"
    if done.code != 0 or url == "origin":  # which git says for want of one, or nothing at all
        return [Finding.failed("it has no remote", another.replace("set-url", "add"))], "nowhere"
    try:
        address = adding.address(url)
    except adding.UrlNotUnderstood:
        return [], url  # a path of this host, say: whether that may be, a sync tells
    except AgentError as error:
        return [Finding.degraded(str(error), f"{error.repair}, then: {another}")], "elsewhere"
    faults = []
    if not address.is_here and address.full_name.lower() != repository.full_name.lower():
        said = f"its remote is {address.full_name}, and what is deployed here are pushes to {repository.full_name}"
        faults.append(Finding.degraded(said, f"{another}, or correct full_name"))
    if repository.token and (address.is_ssh or address.is_here):
        faults.append(Finding.degraded(f"{url} is not reached with a token", f"{another}, or remove token"))
    if repository.deploy_key and not address.is_ssh:
        faults.append(Finding.degraded(f"{url} is not reached with a deploy key", f"{another}, or remove deploy_key"))
    return faults, url


async def of_files(git: Git, top: Path, user: User) -> Sequence[Finding]:
    """Return whom but its owner the working copy and its .git let write, or belong to."""
    done = await git.answer("rev-parse", "--path-format=absolute", "--git-common-dir")
    return await asyncio.to_thread(_open_to_others, top, Path(os.fsdecode(done.stdout.rstrip(b"\n"))), user)


def _open_to_others(top: Path, inside: Path, user: User) -> Sequence[Finding]:
    exposed, strange = [], []
    for place in (top, inside, *sorted(inside.iterdir())):
        with suppress(FileNotFoundError):  # git is at work
            status = place.lstat()
            if not stat.S_ISLNK(status.st_mode) and _others_may_write(status, user):
                exposed.append(place)
            if status.st_uid != user.uid:
                strange.append(place)
    faults = []
    if exposed:
        said = f"others than {user.name} may write to {_some(exposed)}, and so decide what is deployed"
        faults.append(Finding.degraded(said, f"sudo chmod -R go-w {' '.join(map(_word, _tops(exposed)))}"))
    if strange:
        said = f"not {user.name}'s: {_some(strange)}"
        faults.append(Finding.degraded(said, f"sudo chown -R {user.name}: {' '.join(map(_word, _tops(strange)))}"))
    return faults


def _others_may_write(status: os.stat_result, user: User) -> bool:
    if status.st_mode & stat.S_IWOTH:
        return True
    return bool(status.st_mode & stat.S_IWGRP) and not _is_private(status.st_gid, user)


def _is_private(group: int, user: User) -> bool:
    """Return whether nobody else is in a group: Debian gives each user such a one."""
    if group != user.gid:
        return False
    try:
        return not set(grp.getgrgid(group).gr_mem) - {user.name}
    except KeyError:
        return True


def _tops(places: Sequence[Path]) -> list[Path]:
    """Return those that lie in no other."""
    return [one for one in places if not any(parent in places for parent in one.parents)]


def _some(places: Sequence[Path]) -> str:
    more = len(places) - _SHOWN_MAX
    shown = ", ".join(map(str, places[:_SHOWN_MAX]))
    return f"{shown} and {more} more" if more > 0 else shown


# The actions.


async def of_actions(repository: Repository, user: User) -> Sequence[Finding]:
    """Return what the actions need and is not there, as far as that can be known before they run."""
    faults: list[Finding] = []
    for action in repository.action:
        found = await asyncio.to_thread(lambda one: list(_missing(repository, one)), action)
        if action.kind == "systemctl" and not found:
            found += await _unknown_units(action.units)
        if action.kind == "compose" and not found:
            found += await _no_compose(await asyncio.to_thread(_who, action, user))
        faults += [Finding(fault.state, f"action {action.name}: {fault.detail}", fault.repair) for fault in found]
    return faults


def powers(repository: Repository, user: User) -> list[str]:
    """Return in words which actions make root of who can push; blocking.

    That is what their user may do when logged in, and so as it was meant; but it should be known.
    """
    said: dict[str, list[str]] = {}
    for action in repository.action:
        if action.kind != "systemctl":  # which restarts what is named here, and runs nothing of the repository's
            with suppress(privilege.NoSuchUser):
                if power := _power(_who(action, user)):
                    said.setdefault(power, []).append(action.name)
    return [
        f"actions of {repository.name} run as {power} ({', '.join(names)}): "
        f"whoever can push to {repository.full_name} is root here"
        for power, names in said.items()
    ]


def _who(action: Action, owner: User) -> User:
    name = execution.runs_as(action)
    return privilege.look_up(name) if name else owner


def _power(user: User) -> str:
    if user.uid == 0:
        return user.name
    for group in user.groups:
        with suppress(KeyError):
            if grp.getgrgid(group).gr_name == _DOCKER:
                return f"{user.name}, who is in the group {_DOCKER}"
    return ""


def _missing(repository: Repository, action: Action) -> Iterator[Finding]:
    """Yield what is missing: its user, its directory, its program; blocking."""
    name = execution.runs_as(action)
    if name:
        try:
            privilege.look_up(name)
        except privilege.NoSuchUser as error:
            yield Finding.of(error)
    where = repository.directory / action.directory
    if not where.is_dir():
        yield _not_there(f"the directory {action.directory}", "directory")
        return
    program = execution.commands(action)[0][0] if action.kind != "command" else action.command[0]
    if "/" in program and not program.startswith("/"):
        if not (where / program).is_file():
            yield _not_there(program, "command")
        elif not (where / program).stat().st_mode & 0o111:
            yield Finding.degraded(f"{program} is not executable", f"git update-index --chmod=+x {program}, and push")
    elif process.find(program, action.environment.get("PATH", "")) is None:
        yield Finding.of(process.ProgramMissing(program=program, path="PATH"))
    if action.kind == "make" and not any((where / name).is_file() for name in _MAKEFILES):
        yield _not_there("a Makefile", "directory")


def _not_there(what: str, key: str) -> Finding:
    said = f"{what} is not in the working copy"
    return Finding.degraded(said, f"push it, or correct `{key}` of [[gitops.repository.action]]")


async def _unknown_units(units: Sequence[str]) -> Sequence[Finding]:
    faults = []
    for unit in units:
        argv = ["systemctl", "show", "--property=LoadState", "--value", "--", unit]
        done = await process.run(argv, deadline=ASK_SECONDS)
        if done.code != 0:
            cause = done.stderr.decode(errors="replace").strip().partition("\n")[0]
            return [Finding.failed(f"systemd cannot be asked: {cause}", "systemctl status")]
        if done.stdout.strip() == b"not-found":
            faults.append(Finding.failed(f"systemd knows no unit {unit}", f"systemctl list-unit-files {_word(unit)}"))
    return faults


async def _no_compose(user: User) -> Sequence[Finding]:
    if os.geteuid() not in {0, user.uid}:
        return []
    done = await process.run(  # as that user, who may have brought it along
        [_DOCKER, "compose", "version"],
        deadline=ASK_SECONDS,
        user=user.switch,
        groups=user.groups,
        env=user.environment,
    )
    return [] if done.code == 0 else [Finding.failed("docker has no compose", "install docker's compose plugin")]


def _word(text: str | Path) -> str:
    return shlex.quote(str(text))


def _name(uid: int) -> str:
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return f"user {uid}"
