"""A directory of the host's that goes away with all that works or is mounted in it, also when the tests are killed."""

from __future__ import annotations

import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_TIDY_UP = r"""
working_there() {
    find /proc -mindepth 2 -maxdepth 2 -name cwd -lname "$1/*" 2>/dev/null | cut -d / -f 3
}
if ! read -r _; then
    for number in $(seq 100); do # a server may need a moment, to end its children and give shared memory back
        pids=$(working_there "$1")
        [ -n "$pids" ] || break
        [ "$number" -lt 100 ] || kill -KILL $pids 2>/dev/null || :
        kill -QUIT $pids 2>/dev/null || :
        kill -CONT $pids 2>/dev/null || : # frozen it does not hear the other
        sleep 0.1
    done
fi
mounted=
while read -r _ _ _ _ point rest; do
    case $point in
    "$1"/*) mounted="$point $mounted" ;; # what is mounted on another first
    *) continue ;;
    esac
    case $rest in
    *" - ext4 "*) fsfreeze --unfreeze "$point" 2>/dev/null || : ;; # frozen it would never be let go
    esac
done </proc/self/mountinfo
for point in $mounted; do
    umount --force --lazy "$point" # without a question to a server that does not answer
done
rm -rf --one-file-system "$1" # its going also ends what other mount namespaces have copied of the mounts
"""
"""Waits until it is told, or whoever should tell it is dead."""


@contextmanager
def guarded(kind: str) -> Iterator[Path]:
    """Give a new directory; all below it is unmounted and removed when the context ends, or its process does.

    Other users may pass through it. What still has files open there keeps them, and nobody finds them any more; but
    when the tests are dead, whatever has its working directory there is ended first.
    """
    directory = Path(tempfile.mkdtemp(prefix=f"homelab-agent-{kind}-"))
    directory.chmod(0o755)
    guard = subprocess.Popen(
        ["/bin/sh", "-euc", _TIDY_UP, "guard", directory],
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        env={"PATH": "/usr/sbin:/usr/bin:/sbin:/bin"},
        cwd="/",
        start_new_session=True,
    )
    try:
        yield directory
    finally:
        guard.communicate(b"\n", timeout=30)
        assert guard.returncode == 0, f"{directory} could not be tidied up"
