"""Say what root installs of wheels that somebody else has made: what the locks name, by the hash of what is there.

    locked.py WHEELS LOCK...

Prints requirements with hashes for pip. A wheel that was downloaded has a hash that its lock has for it; any other is
refused, but for the two that are built here, of locked sources: our own, and systemd's journal library.
"""

from __future__ import annotations

import hashlib
import re
import sys
from pathlib import Path

OWN = "homelab-agent"
BUILT_HERE = "systemd-python"
"""There is no wheel of it anywhere."""
_PINNED = re.compile(r"^([a-z0-9-]+)==([^\s;]+)(.*)", re.MULTILINE)


def read(lock: str) -> dict[tuple[str, str], set[str]]:
    """Return of a lock's text the hashes by name and version."""
    return {
        (found[1], found[2]): set(re.findall(r"--hash=sha256:([0-9a-f]{64})", found[3]))
        for found in _PINNED.finditer(lock.replace("\\\n", " "))
    }


def named(wheel: str) -> tuple[str, str]:
    """Return name and version of a wheel's file name (PEP 427), the name as locks write it."""
    name, version, *_ = wheel.split("-")
    return re.sub(r"[-_.]+", "-", name).lower(), version


def refusal(name: str, version: str, digest: str, locked: dict[tuple[str, str], set[str]]) -> str:
    """Return why root does not install a wheel, "" where it does."""
    if name == OWN:
        return ""
    hashes = locked.get((name, version))
    if hashes is None:
        return "is in no lock: it is not installed"
    if digest in hashes or name == BUILT_HERE:
        return ""
    return "is not the file that the locks name, by its hash: it is not installed"


def main(directory: Path, locks: list[Path]) -> int:
    """Print the requirements; return the exit code."""
    locked: dict[tuple[str, str], set[str]] = {}
    for lock in locks:
        for pinned, hashes in read(lock.read_text()).items():
            locked.setdefault(pinned, set()).update(hashes)
    for wheel in sorted(directory.glob("*.whl")):
        name, version = named(wheel.name)
        digest = hashlib.sha256(wheel.read_bytes()).hexdigest()
        if why := refusal(name, version, digest, locked):
            print(f"{wheel.name} {why}", file=sys.stderr)
            return 1
        print(f"{name}=={version} --hash=sha256:{digest}")
    return 0


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]), [Path(lock) for lock in sys.argv[2:]]))
