"""Say what root installs of wheels that somebody else has made: what the locks name, by the hash of what is there.

    locked.py WHEELS LOCK...

Prints requirements with hashes for pip. A wheel that was downloaded has a hash that its lock has; one that was built
here has not, and is named on standard error; one that no lock names, in that version, is refused.
"""

from __future__ import annotations

import hashlib
import re
import sys
from pathlib import Path

OWN = "homelab-agent"
_PINNED = re.compile(r"^([a-z0-9-]+)==([^\s;]+)")


def read(lock: str) -> tuple[dict[str, str], set[str]]:
    """Return of a lock's text the versions by name, and all hashes."""
    versions = {found[1]: found[2] for line in lock.splitlines() if (found := _PINNED.match(line))}
    return versions, set(re.findall(r"--hash=sha256:([0-9a-f]{64})", lock))


def named(wheel: str) -> tuple[str, str]:
    """Return name and version of a wheel's file name (PEP 427), the name as locks write it."""
    name, version, *_ = wheel.split("-")
    return re.sub(r"[-_.]+", "-", name).lower(), version


def main(directory: Path, locks: list[Path]) -> int:
    """Print the requirements; return the exit code."""
    versions: dict[str, str] = {}
    hashes: set[str] = set()
    for lock in locks:
        more, theirs = read(lock.read_text())
        versions |= more
        hashes |= theirs
    for wheel in sorted(directory.glob("*.whl")):
        name, version = named(wheel.name)
        digest = hashlib.sha256(wheel.read_bytes()).hexdigest()
        if name != OWN and versions.get(name) != version:
            print(f"{wheel.name} is in no lock: it is not installed", file=sys.stderr)
            return 1
        if name != OWN and digest not in hashes:
            print(f"  {name} {version} was built here, as there is no wheel of it for this system", file=sys.stderr)
        print(f"{name}=={version} --hash=sha256:{digest}")
    return 0


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]), [Path(lock) for lock in sys.argv[2:]]))
