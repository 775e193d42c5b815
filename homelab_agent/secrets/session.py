"""What is asked of OpenBao, in one thread: secrets, their versions, how it stands, a snapshot of its storage."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from http import HTTPStatus
from pathlib import Path
from typing import Any, Protocol, TypeVar
from urllib.parse import quote

import hvac

from homelab_agent.core.clock import Clock
from homelab_agent.core.secret import Secret
from homelab_agent.secrets import health, kv, login, snapshot, transport
from homelab_agent.secrets.errors import (
    CannotAsk,
    Denied,
    NoSnapshots,
    NotOpenBao,
    PathAbsent,
    Refused,
    Unexpected,
    VersionGone,
)
from homelab_agent.secrets.kv import Mount, Version
from homelab_agent.secrets.role import Role
from homelab_agent.secrets.settings import SecretsSettings
from homelab_agent.secrets.transport import Answered, Transport
from homelab_agent.secrets.wrapping import Wrapping

T = TypeVar("T")

_ELSEWHERE = (HTTPStatus.FORBIDDEN, HTTPStatus.NOT_FOUND)
"""What a path that is taken for one of the wrong mount is answered."""
_ASK_AGAIN_SECONDS = 600.0
"""Where a path is mounted is asked for no more often: where a policy denies the path, the question is no help."""


class Look(Protocol):
    """One request for a secret, at the mount where it lies."""

    def __call__(self, client: hvac.Client, *, mount: Mount) -> Mapping[str, Any]:
        """Return the data of the answer."""


class Session:
    """Asks one server for what `settings` and the two secrets let us see. For one thread; nothing here is shared.

    Everything raises `CannotAsk`, `CannotLogIn` or `Refused` errors, and what a reference to the log-in's secret
    raises.
    """

    def __init__(
        self,
        settings: SecretsSettings,
        *,
        directory: Path,
        secret_id: Secret | None,
        token: Secret | None,
        clock: Clock,
        hide: Callable[[str], None],
    ) -> None:
        self._settings = settings
        self._directory = directory
        self._secret_id = secret_id
        self._token = token
        self._clock = clock
        self._hide = hide
        self._transport = Transport(settings)
        self._plain: hvac.Client | None = None
        self._way: login.Way | None = None
        self._mounts: dict[str, Mount] = {}
        self._ask_where_from: dict[str, float] = {}
        self._failure: tuple[float, CannotAsk] | None = None

    @property
    def standing(self) -> str:
        """Say in words how the log-in stands."""
        return self._way.standing if self._way is not None else "not logged in yet"

    def answer(self, request: Callable[[], T], *, since: float) -> T:
        """Return what `request` returns; fails at once where the server could not be asked since then, monotonic.

        So all that waited behind one request that a frozen server left without an answer learn of it together. An
        answer that is none of OpenBao's raises `NotOpenBao`.
        """
        if self._failure is not None and self._failure[0] > since:
            raise self._failure[1].again()
        try:
            found = request()
        except CannotAsk as error:
            self._failure = (self._clock.read().monotonic, error)
            raise
        except (LookupError, TypeError, ValueError, AttributeError) as error:
            said = f"what it says is not what OpenBao would say ({type(error).__name__})"
            raise NotOpenBao(url=self._transport.url, cause=said) from error
        self._failure = None
        return found

    def read(self, path: str, version: int | None = None) -> Version:
        """Return a secret, in its current version unless one is named."""
        try:
            mount, data = self._data(path, partial(_values, path=path, version=version), Mount.data)
        except PathAbsent:
            if version is not None and self._is_there(path):
                raise VersionGone(path=path, version=version) from None
            raise
        if mount.versioned:
            return kv.version_2(path, data)
        if version is not None:
            raise VersionGone(path=path, version=version, cause=f"{mount.path} keeps no versions")
        return kv.version_1(path, data)

    def current(self, path: str) -> int:
        """Return the number of a secret's current version, by one request; 0, without any, where none are kept."""
        mount, data = self._data(path, partial(_versions, path=path), Mount.metadata)
        return kv.current(path, data, self._clock.read().wall) if mount.versioned else 0

    def status(self) -> health.Server:
        """Return how the server stands; needs no log-in."""
        return transport.ask_health(self._plainly(), self._transport.url)

    def snapshot(self, to: Path) -> int:
        """Write a snapshot of the server's storage to a file, whole or not at all; return its bytes.

        Raises `SnapshotBroken`, `Denied`, `NoSnapshots`, and OSError for the file.
        """
        way = self._logged_in()
        try:
            return way.ask(lambda client: snapshot.take(client, to))
        except Answered as refusal:
            if refusal.status == HTTPStatus.NOT_FOUND:
                raise NoSnapshots(cause=refusal.errors) from None
            raise self._explained(refusal, snapshot.PATH, snapshot.PATH) from None

    def tend(self) -> float | None:
        """Keep the log-in alive; return in how many seconds there is something to do again, None for never.

        A log-in that is made anew by who asks meanwhile may have to be tended earlier.
        """
        return self._logged_in().tend()

    def close(self) -> None:
        """Leave the server."""
        if self._way is not None:
            self._way.close()
        if self._plain is not None:
            self._plain.adapter.close()

    def _plainly(self) -> hvac.Client:
        if self._plain is None:
            self._plain = self._transport.client(in_namespace=False)
        return self._plain

    def _logged_in(self) -> login.Way:
        if self._way is None:
            self._way = self._choose()
        return self._way

    def _choose(self) -> login.Way:
        """Return the way to log in; `auto` is inline where the server, once it can be asked, is one that has it."""
        settings, way = self._settings, self._settings.way
        if way == "token":
            assert self._token is not None  # noqa: S101 - the section demands it
            return login.ByToken(self._transport, self._clock, self._token)
        assert self._secret_id is not None  # noqa: S101 - as above
        wrapping = None
        if settings.wrapped:
            wrapping = Wrapping(self._transport, self._secret_id, self._directory, approle=settings.approle)
        role = Role(
            self._transport,
            self._clock,
            approle=settings.approle,
            role_id=settings.role_id,
            secret=self._secret_id,
            wrapping=wrapping,
            hide=self._hide,
        )
        if way == "inline" or (way == "auto" and self.status().takes_inline):
            return login.Inline(self._transport, role)
        return login.ByRole(self._transport, self._clock, role)

    def _mount_of(self, path: str) -> Mount:
        """Return where a secret lies as far as is known, else where it would on most servers."""
        return next((mount for mount in self._mounts.values() if mount.holds(path)), kv.usual(path))

    def _data(self, path: str, look: Look, name: Callable[[Mount, str], str]) -> tuple[Mount, Mapping[str, Any]]:
        """Return where a secret lies, and what `look` finds there; the API, and a policy, calls it by `name`.

        A mount that is not known is taken for a usual one, and asked for where it is not. No mount lies within
        another, so one that holds the path is it.
        """
        way, mount = self._logged_in(), self._mount_of(path)
        while True:
            try:
                data = way.ask(partial(look, mount=mount))
            except Answered as refusal:
                other = self._where(path, mount, refusal)
                if other is None or other == mount:
                    raise self._explained(refusal, path, name(mount, path)) from None
                mount = other
            else:
                self._mounts[mount.path] = mount
                return mount, data

    def _is_there(self, path: str) -> bool:
        try:
            self.current(path)
        except Refused:
            return False
        return True

    def _where(self, path: str, tried: Mount, refusal: Answered) -> Mount | None:
        """Return where the server says that a secret lies, None where that is known or cannot be learnt."""
        now = self._clock.read().monotonic
        is_known = tried.path in self._mounts or kv.is_of_a_version(refusal.data)
        if is_known or refusal.status not in _ELSEWHERE or now < self._ask_where_from.get(path, now):
            return None
        self._ask_where_from[path] = now + _ASK_AGAIN_SECONDS
        try:
            answer = self._logged_in().ask_with_token(
                lambda client: client.adapter.get(f"/v1/sys/internal/ui/mounts/{quote(path)}")
            )
        except Answered:
            return None
        mount = kv.mount(answer["data"])
        self._mounts[mount.path] = mount
        return mount

    def _explained(self, refusal: Answered, path: str, name: str) -> Refused:
        match refusal.status:
            case HTTPStatus.NOT_FOUND:
                return kv.absence(path, refusal.data, cause=refusal.errors)
            case HTTPStatus.FORBIDDEN:
                return Denied(who=self._logged_in().who, path=name)
        return Unexpected(path=name, status=refusal.status, cause=refusal.errors)


def _values(client: hvac.Client, *, mount: Mount, path: str, version: int | None) -> Mapping[str, Any]:
    inside = mount.inside(path)
    if not mount.versioned:
        return _body(client.secrets.kv.v1.read_secret(inside, mount_point=mount.path))
    return _body(
        client.secrets.kv.v2.read_secret_version(
            inside, version=version, mount_point=mount.path, raise_on_deleted_version=True
        )
    )


def _versions(client: hvac.Client, *, mount: Mount, path: str) -> Mapping[str, Any]:
    if not mount.versioned:
        return {}
    return _body(client.secrets.kv.v2.read_secret_metadata(mount.inside(path), mount_point=mount.path))


def _body(answer: Mapping[str, Any]) -> Mapping[str, Any]:
    data: Mapping[str, Any] = answer["data"]
    return data
