"""Which words of a drop-in loosen the agent's sandbox. Pure: texts and systemd's figures in, words out."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence

_TOGETHER = {"UserOrDynamicUser": {"User", "DynamicUser"}, "RootDirectoryOrRootImage": {"RootDirectory", "RootImage"}}
"""What systemd-analyze judges as one."""
_WIDENING = {"BindPaths", "DeviceAllow", "OpenFile", "PermissionsStartOnly", "ReadWritePaths"}
"""What it gives no figure for: each lets the service do more."""
_SETTLED = {"Group", "SystemCallFilter", "User"}
"""What it gives one for only in part: another value than the unit's is told, unless it takes away (~)."""
_AS_ROOT = ("+", "!")
"""Before a command they let it run with all rights (systemd.service(5))."""
_BEFORE_A_COMMAND = "-@:|+!"


def settings(text: str) -> Iterator[tuple[str, str]]:
    """Yield key and value of each line of section [Service] (systemd.syntax(7))."""
    section = ""
    for line in text.replace("\\\n", " ").splitlines():
        stripped = line.strip()
        if stripped.startswith("["):
            section = stripped
        elif section == "[Service]" and "=" in stripped and stripped[0] not in "#;":
            key, _, value = stripped.partition("=")
            yield key.strip(), value.strip()


def wider(released: Mapping[str, float], now: Mapping[str, float]) -> Collection[str]:
    """Return the directives that leave more open `now` than the release's unit does, as keys of a unit's file."""
    more = [field for field, left in now.items() if left > released.get(field, 0.0)]
    return {key for field in more for key in _TOGETHER.get(field, {field.partition("_")[0]})}


def loosened(unit: str, drop_in: str, wider: Collection[str]) -> Sequence[str]:
    """Return the lines of a drop-in by which the service may do more than the `unit` alone lets it.

    `wider` are the keys of which systemd says so; what it says nothing of is found by its words.
    """
    confined: dict[str, list[str]] = {}
    for key, value in settings(unit):
        confined.setdefault(key, []).append(value)
    return [
        f"{key}={value}" for key, value in settings(drop_in) if key in wider or _is_more(confined.get(key), key, value)
    ]


def _is_more(own: Sequence[str] | None, key: str, value: str) -> bool:
    if key.startswith("Exec"):
        before = value[: len(value) - len(value.lstrip(_BEFORE_A_COMMAND))]
        return any(mark in before for mark in _AS_ROOT)
    if key in _WIDENING:
        return bool(value)
    return key in _SETTLED and own is not None and not value.startswith("~") and value not in own
