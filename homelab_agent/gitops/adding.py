"""One more repository: its working copy, the hook's secret, a deploy key where it takes one, and its configuration.

What is there already is taken as it is, so that the same command may be given again once what was missing is there.
"""

from __future__ import annotations

import os
import re
import secrets
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from pydantic import ValidationError

from homelab_agent.core import privilege, process
from homelab_agent.core.errors import AgentError
from homelab_agent.core.privilege import User
from homelab_agent.gitops import access
from homelab_agent.gitops.settings import FULL_NAME, Repository

CLONE_SECONDS = 3600.0
_ASK_SECONDS = 60.0
_SECRET_BYTES = 32
_NOT_IN_NAMES = re.compile(r"[^a-z0-9_.-]+")
_ENVIRONMENT = {"LC_ALL": "C", "GIT_TERMINAL_PROMPT": "0"}
_PINS = ("-c", "core.hooksPath=/dev/null", "-c", "credential.helper=", "-c", "safe.directory=")


class UrlNotUnderstood(AgentError):
    """{url} is not the address of a repository of which owner and name can be told."""

    repair = "give it as https://HOST/OWNER/NAME.git or git@HOST:OWNER/NAME.git, or name it: --full-name OWNER/NAME"


class UrlHoldsPassword(AgentError):
    """The address holds a password, which would stay in the working copy for everybody to read."""

    repair = 'write it into a file, chmod 600, and set `token = "file:PATH"` in [[gitops.repository]]'


class EntryFaulty(AgentError):
    """That cannot be the settings of a repository."""

    repair = "homelab-agent gitops add --help"


class NoPlace(AgentError):
    """The directory {directory} is not there, and cannot be made."""

    repair = "mkdir -p {parent}"


class NotEmpty(AgentError):
    """{directory} has files in it, and is no working copy."""

    repair = "choose another directory, or move the files away"


class AnotherRemote(AgentError):
    """{directory} is a working copy of {found}, not of {url}."""

    repair = "choose another directory, or: git -C {directory} remote set-url origin {url}"


class AnotherBranch(AgentError):
    """{directory} has {found} checked out, not {branch}."""

    repair = "git -C {directory} switch {branch}"


class RemoteRefuses(AgentError):
    """git cannot read {url} as {user}."""

    repair = "{repair}"


class NoPlaceForSecret(AgentError):
    """Neither {directories} can be written by this user."""

    repair = "run it again with sudo"


@dataclass(frozen=True, slots=True)
class Address:
    """A remote's address: `host` is "" for a path of this host."""

    url: str
    host: str
    full_name: str
    is_ssh: bool

    @property
    def is_here(self) -> bool:
        """Whether it is a path of this host."""
        return not self.host


@dataclass(frozen=True, slots=True)
class Wish:
    """What a person asks for; what is "" is found."""

    address: Address
    directory: Path
    name: str
    branch: str = ""
    user: str = ""
    known_hosts: str = ""


@dataclass(frozen=True, slots=True)
class Added:
    """What there is now: `entry` is for the configuration, `said` what was done, in words."""

    entry: Mapping[str, Any]
    user: str
    secret_file: Path
    said: Sequence[str]


def address(url: str, full_name: str = "") -> Address:
    """Read a remote's address; raises `UrlNotUnderstood`, `UrlHoldsPassword`."""
    scp = re.fullmatch(r"(?:[^@/:\s]+@)?([^@/:\s]+):(?!//)([^\s]+)", url)
    parts = urlsplit(f"ssh://{scp[1]}/{scp[2]}" if scp else url)
    if parts.password:
        raise UrlHoldsPassword
    found = full_name or "/".join(parts.path.removesuffix("/").removesuffix(".git").split("/")[-2:])
    is_known = parts.scheme in {"https", "http", "ssh", "file"} and url.isprintable() and not url.startswith("-")
    if not is_known or not re.fullmatch(FULL_NAME, found):
        raise UrlNotUnderstood(url=url)
    return Address(url, "" if parts.scheme == "file" else parts.hostname or "", found, is_ssh=parts.scheme == "ssh")


def short_name(full_name: str) -> str:
    """Return what commands call a repository unless a person knows better."""
    return _NOT_IN_NAMES.sub("-", full_name.partition("/")[2].lower()).strip("-._")[:63] or "repository"


def place_for_secrets(configuration: Path, state: Path) -> Path:
    """Return where a secret's file goes: beside the configuration, else into the state directory.

    Raises `NoPlaceForSecret`.
    """
    beside = configuration.absolute().parent
    for directory in (beside, state):
        if os.access(directory, os.W_OK | os.X_OK):
            return directory
    raise NoPlaceForSecret(directories=f"{beside} nor {state}")


def secret_file(directory: Path, name: str, *, reader: int) -> tuple[Path, bool]:
    """Return the file of a hook's secret, and whether it is new; it belongs to `reader`, whom the agent runs as."""
    path = directory / f"hook-secret-{name}"
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    except FileExistsError:
        return path, False
    with os.fdopen(descriptor, "w") as file:
        file.write(f"{secrets.token_hex(_SECRET_BYTES)}\n")
        if os.geteuid() == 0:
            os.fchown(descriptor, reader, -1)
    return path, True


async def add(wish: Wish, place: Path, *, reader: int) -> Added:
    """Make the working copy or take the one that is there, and what the webhook needs, in the directory `place`."""
    user = _user(wish)
    try:
        is_new = not wish.directory.exists() or not any(wish.directory.iterdir())
    except OSError as error:
        raise NoPlace(directory=wish.directory, parent=wish.directory.parent, cause=error) from error
    said = []
    entry: dict[str, Any] = {
        "name": wish.name,
        "full_name": wish.address.full_name,
        "directory": str(wish.directory),
        **({"branch": wish.branch} if wish.branch else {}),
        **({"run_as": user.name} if wish.user else {}),
        **({"allow_file": True} if wish.address.is_here else {}),
        **({"known_hosts": wish.known_hosts} if wish.known_hosts else {}),
    }
    try:
        Repository(**entry)
    except ValidationError as error:
        cause = "; ".join(f"{'.'.join(map(str, one['loc']))}: {one['msg']}" for one in error.errors())
        raise EntryFaulty(cause=cause) from error
    work = _Work(wish, user)
    entry |= await work.reach(entry, place)
    if is_new:
        await work.clone(entry)
        said.append(f"cloned {wish.address.url} to {wish.directory} as {user.name}")
    else:
        await work.adopt(entry)
        said.append(f"took the working copy {wish.directory} of {user.name} as it is")
    entry["branch"] = await work.branch(entry)
    if "deploy_key" in entry:
        said.append(f"the deploy key is {entry['deploy_key']}")
    path, made = secret_file(place, wish.name, reader=reader)
    said.append(f"{'made' if made else 'kept'} the hook's secret in {path}")
    entry["secret"] = [{"name": "main", "secret": f"file:{path}"}]
    return Added(entry, user.name, path, said)


class _Work:
    """git, as the working copy's owner."""

    def __init__(self, wish: Wish, user: User) -> None:
        self._wish = wish
        self._user = user

    async def reach(self, entry: Mapping[str, Any], place: Path) -> dict[str, str]:
        """See that git can read the remote; return the deploy key that it takes, if it takes one.

        Raises `RemoteRefuses`, which says where the key belongs.
        """
        asked = ["ls-remote", "--quiet", "--", self._wish.address.url, "HEAD"]
        done = await self._git(asked, entry, Path("/"), _ASK_SECONDS)
        if done.code == 0:
            return {}
        if not self._wish.address.is_ssh or "Host key verification failed" in _complaint(done):
            raise self._refusal(done)
        key = await self._deploy_key(place)
        with_key = {"deploy_key": str(key)}
        done = await self._git(asked, {**entry, **with_key}, Path("/"), _ASK_SECONDS)
        if done.code != 0:
            raise self._refusal(done, key)
        return with_key

    async def clone(self, entry: Mapping[str, Any]) -> None:
        """Clone into the directory, which is made where it is not there; raises `NoPlace`, `RemoteRefuses`."""
        directory, made = self._wish.directory, False
        try:
            if not directory.exists():
                directory.mkdir()
                made = True
                if self._user.switch is not None:
                    os.chown(directory, *self._user.switch, follow_symlinks=False)
        except OSError as error:
            raise NoPlace(directory=directory, parent=directory.parent, cause=error) from error
        branch = ["--branch", self._wish.branch] if self._wish.branch else []
        words = ["clone", "--quiet", "--no-progress", *branch, "--", self._wish.address.url, "."]
        done = await self._git(words, entry, directory, CLONE_SECONDS)
        if done.code != 0:
            if made and not any(directory.iterdir()):
                directory.rmdir()
            raise self._refusal(done)

    async def adopt(self, entry: Mapping[str, Any]) -> None:
        """See that the working copy is one of this remote; raises `NotEmpty`, `AnotherRemote`."""
        url, directory = self._wish.address.url, self._wish.directory
        top = await self._git(["rev-parse", "--show-prefix"], entry, directory, _ASK_SECONDS)
        if top.code != 0 or top.stdout.strip():
            raise NotEmpty(directory=directory, cause=_complaint(top))
        done = await self._git(["config", "--get", "remote.origin.url"], entry, directory, _ASK_SECONDS)
        found = done.stdout.decode(errors="replace").strip()
        if _bare(found) != _bare(url):
            raise AnotherRemote(directory=directory, found=found or "no remote called origin", url=url)

    async def branch(self, entry: Mapping[str, Any]) -> str:
        """Return the branch that is checked out; raises `AnotherBranch` where another is asked for."""
        words = ["symbolic-ref", "--quiet", "--short", "HEAD"]
        done = await self._git(words, entry, self._wish.directory, _ASK_SECONDS)
        found, wanted = done.stdout.decode(errors="replace").strip(), self._wish.branch
        if not found or (wanted and wanted != found):
            wanted = wanted or "main"
            raise AnotherBranch(directory=self._wish.directory, found=found or "no branch", branch=wanted)
        return found

    async def _git(
        self, words: Sequence[str], entry: Mapping[str, Any], directory: Path, seconds: float
    ) -> process.Completed:
        """Run git as the root half will: with the same key, and the same host keys."""
        repository = Repository(**entry)
        pins = [*_PINS, "-c", f"protocol.file.allow={'always' if repository.allow_file else 'never'}"]
        async with access.granted(repository, self._user, ()) as granted:
            return await process.run(
                ["git", *pins, *words],
                deadline=seconds,
                user=self._user.switch,
                groups=self._user.groups,
                env={**self._user.environment, **_ENVIRONMENT, **granted.environment},
                cwd=directory,
                descriptors=granted.descriptors,
            )

    async def _deploy_key(self, place: Path) -> Path:
        """Return the repository's deploy key, which is made where it is not there."""
        key = place / f"deploy-key-{self._wish.name}"
        if not key.exists():
            words: list[str | Path] = [
                "ssh-keygen",
                "-q",
                "-t",
                "ed25519",
                "-N",
                "",
                "-C",
                f"homelab-agent {self._wish.name}",
                "-f",
                key,
            ]
            done = await process.run(words, deadline=_ASK_SECONDS)
            if done.code != 0:
                raise RemoteRefuses(
                    url=self._wish.address.url, user=self._user.name, repair="see the cause", cause=_complaint(done)
                )
            if self._user.switch is not None:
                os.chown(key, *self._user.switch)
        return key

    def _refusal(self, done: process.Completed, key: Path | None = None) -> RemoteRefuses:
        where, again = self._wish.address, "then give the same command again"
        if key is not None:
            public = key.with_suffix(".pub").read_text().strip()
            form = f"https://{where.host}/{where.full_name}/settings/keys"
            repair = f"add this deploy key to the repository ({form}), without write access, {again}: {public}"
        elif where.is_ssh:
            hosts = self._wish.known_hosts or f"{self._user.home}/.ssh/known_hosts"
            compare = "compare it with what the forge publishes"
            repair = f"ssh-keyscan {shlex.quote(where.host)} >> {shlex.quote(hosts)}; {compare}, {again}"
        else:
            repair = f"git ls-remote {shlex.quote(where.url)}; a private repository is reached by its ssh address"
        return RemoteRefuses(url=where.url, user=self._user.name, repair=repair, cause=_complaint(done))


def _user(wish: Wish) -> User:
    """Return whose working copy it is or is to be; raises what `privilege.user` raises, and `NoPlace`."""
    if wish.user:
        return privilege.user(wish.user)
    at = wish.directory if wish.directory.exists() else wish.directory.parent
    try:
        owner = at.stat().st_uid
    except OSError as error:
        raise NoPlace(directory=wish.directory, parent=wish.directory.parent, cause=error) from error
    return privilege.user(owner if os.geteuid() == 0 else os.geteuid())


def _complaint(done: process.Completed) -> str:
    lines = done.stderr.decode(errors="replace").splitlines()
    return "; ".join(dict.fromkeys(filter(None, map(str.strip, lines))))[-600:]


def _bare(url: str) -> str:
    return url.removesuffix("/").removesuffix(".git")
