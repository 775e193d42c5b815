"""Key-value stores, of both kinds: where a secret lies in one, and what an answer says.

KV version 2 keeps versions of each secret: https://openbao.org/api-docs/secret/kv/kv-v2/. Version 1 keeps the last
value alone: https://openbao.org/api-docs/secret/kv/kv-v1/.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from homelab_agent.secrets.errors import (
    KeyAbsent,
    NotKeyValue,
    PathAbsent,
    VersionDeleted,
    VersionDestroyed,
    VersionGone,
)


@dataclass(frozen=True, slots=True)
class Version:
    """A secret as it was read: the number of its version (0 where its store keeps none), values by key, its age."""

    path: str
    number: int
    values: Mapping[str, str] = field(repr=False)
    created: datetime | None

    def value(self, key: str) -> str:
        """Return what stands under `key`; raises `KeyAbsent`, which names the keys that there are."""
        if key not in self.values:
            raise KeyAbsent(path=self.path, key=key, keys=", ".join(sorted(self.values)) or "none")
        return self.values[key]


@dataclass(frozen=True, slots=True)
class Mount:
    """A key-value store: where it is mounted, without a slash at its ends, and whether it keeps versions."""

    path: str
    versioned: bool

    def inside(self, path: str) -> str:
        """Return the name within the store of the secret at `path`."""
        return path.removeprefix(f"{self.path}/")

    def holds(self, path: str) -> bool:
        """Return whether a secret at `path` is one of this store's."""
        return path.startswith(f"{self.path}/")

    def data(self, path: str) -> str:
        """Return the path by which the API, and so a policy, knows the values of the secret at `path`."""
        return f"{self.path}/data/{self.inside(path)}" if self.versioned else path

    def metadata(self, path: str) -> str:
        """Return the path by which the API knows the versions of the secret at `path`, where there are any."""
        return f"{self.path}/metadata/{self.inside(path)}" if self.versioned else path


def usual(path: str) -> Mount:
    """Return where a secret lies on most servers: the first element is the mount, and it keeps versions."""
    return Mount(path.split("/", 1)[0], versioned=True)


def mount(told: Mapping[str, Any]) -> Mount:
    """Return the mount that `sys/internal/ui/mounts/PATH` told of; raises `NotKeyValue`."""
    path, kind = str(told["path"]).strip("/"), str(told["type"])
    if kind not in {"kv", "generic"}:  # `generic` is what version 1 was called once
        raise NotKeyValue(mount=path, kind=kind)
    return Mount(path, versioned=(told.get("options") or {}).get("version") == "2")


def version_2(path: str, data: Mapping[str, Any]) -> Version:
    """Return what the `data` of an answer for `MOUNT/data/PATH` holds."""
    metadata = data["metadata"]
    return Version(path, int(metadata["version"]), _texts(data["data"]), _moment(metadata["created_time"]))


def version_1(path: str, data: Mapping[str, Any]) -> Version:
    """Return what the `data` of an answer for `MOUNT/PATH` holds."""
    return Version(path, 0, _texts(data), None)


def current(path: str, data: Mapping[str, Any], now: datetime) -> int:
    """Return which version is the current one by the `data` of an answer for `MOUNT/metadata/PATH`.

    Raises `VersionDeleted` or `VersionDestroyed` when it is, `PathAbsent` when there is none.
    """
    number = int(data["current_version"])
    if number == 0:
        raise PathAbsent(path=path, cause="it has metadata, but no version")
    about = (data.get("versions") or {}).get(str(number)) or {}
    if about.get("destroyed"):
        raise VersionDestroyed(path=path, version=number)
    deleted = _moment(about.get("deletion_time") or "")
    if deleted is not None and deleted <= now:  # to come where the store deletes by age
        raise VersionDeleted(path=path, version=number)
    return number


def is_of_a_version(data: Mapping[str, Any] | None) -> bool:
    """Return whether what came with a 404 is about a version that there was once: then the path is right."""
    return bool(data and data.get("metadata"))


def absence(path: str, data: Mapping[str, Any] | None, *, cause: str) -> PathAbsent | VersionGone:
    """Return what a 404 for `MOUNT/data/PATH` means; `data` is what came with it, `cause` what the server said."""
    if data is None or not is_of_a_version(data):
        return PathAbsent(path=path, cause=cause)
    gone = VersionDestroyed if data["metadata"].get("destroyed") else VersionDeleted
    return gone(path=path, version=data["metadata"].get("version"))


def _moment(text: str) -> datetime | None:
    return datetime.fromisoformat(text) if text else None


def _texts(values: Mapping[str, Any]) -> dict[str, str]:
    return {
        key: value if isinstance(value, str) else json.dumps(value, ensure_ascii=False) for key, value in values.items()
    }
