"""Which words of a drop-in loosen the agent's sandbox. Pure: texts in, words out."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

_OFF = {"no", "false", "off", "0", ""}
_WIDENING = {
    "AmbientCapabilities",
    "BindPaths",
    "DeviceAllow",
    "ReadWritePaths",
    "SupplementaryGroups",
}
"""What the unit has none of, or few: one more is more."""
_SETTLED = {
    "DevicePolicy",
    "Group",
    "ProcSubset",
    "ProtectHome",
    "ProtectProc",
    "ProtectSystem",
    "SystemCallFilter",
    "UMask",
    "User",
}
"""What has more values than on and off: another one than the unit's is told, unless it takes away (~)."""

_SWITCHES = (
    "Lock",
    "MemoryDeny",
    "NoNewPrivileges",
    "Private",
    "Protect",
    "RemoveIPC",
    "Restrict",
    "SystemCallArchitectures",
)
"""How those are called that are on or off."""


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


def loosened(unit: str, drop_in: str) -> Sequence[str]:
    """Return the lines of a drop-in by which the service may do more than the `unit` alone lets it."""
    confined: dict[str, list[str]] = {}
    for key, value in settings(unit):
        confined.setdefault(key, []).append(value)
    return [f"{key}={value}" for key, value in settings(drop_in) if _loosens(confined.get(key), key, value)]


def _loosens(own: Sequence[str] | None, key: str, value: str) -> bool:
    known = set(" ".join(own or ()).split())
    match key:
        case _ if key in _WIDENING:
            return bool(set(value.split()) - known)
        case _ if own is None:
            return False
        case "CapabilityBoundingSet":
            return bool(value)
        case "RestrictAddressFamilies":
            return not value or bool(set(value.split()) - known)
        case _ if key in _SETTLED:
            return not value.startswith("~") and value not in own
        case _:
            return key.startswith(_SWITCHES) and not _is_off(" ".join(own)) and _is_off(value)


def _is_off(value: str) -> bool:
    return value.lower() in _OFF
