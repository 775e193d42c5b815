"""A place of its own on this host: mount, network, process and control-group namespaces over the host's files.

Whatever is started in it ends at one stroke with it, as by a power cut, and takes its mounts, interfaces and control
groups along. So it goes too when the test process is killed. Needs root.
"""

from __future__ import annotations

import subprocess
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from tests.waiting import until

_SUPERVISE = r"""
for group in $GROUPS_MADE; do
    mkdir "$group"
    for share in cpuset.cpus cpuset.mems; do # a group of version 1 starts with none, and then takes no process
        [ ! -e "$group/$share" ] || [ ! -e "$group/tasks" ] || cat "${group%/*}/$share" >"$group/$share"
    done
done
/bin/sh -euc '
    for group in $GROUPS_MADE; do echo 0 >"$group/cgroup.procs"; done
    exec setpriv --pdeathsig KILL \
        unshare --mount --net --ipc --pid --cgroup --fork --kill-child=KILL /bin/sh -euc "$FIRST"' </dev/null &
outer=$!
read -r word || word=dead
first=$(cat "/proc/$outer/task/$outer/children")
kill -KILL ${first:-$outer}
wait $outer
for _ in $(seq 500); do
    left=
    for group in $GROUPS_MADE; do
        find "$group" -depth -type d -exec rmdir {} + 2>/dev/null || true
        [ ! -d "$group" ] || left=$group
    done
    [ -n "$left" ] || break
    sleep 0.02
done
[ "$word" = end ] || rm -rf "$DIRECTORY"
"""
"""Outside: makes the control groups, then the namespaces; tidies up when told so, or when the tests are dead."""

_MOUNTS = r"""
mount -t proc -o nosuid,nodev,noexec proc /proc
for area in kernel vm fs; do # settings of the whole host; those of the network are the namespace's own
    mount --bind "/proc/sys/$area" "/proc/sys/$area"
    mount -o remount,bind,ro "/proc/sys/$area"
done
mount -t sysfs -o nosuid,nodev,noexec sysfs /sys
ip link set lo up
mount -t tmpfs -o nosuid,nodev,mode=755 tmpfs /run
for place in /etc /opt; do # what is written there stays here
    mkdir -p "/run/.over$place/upper" "/run/.over$place/work"
    mount -t overlay -o "lowerdir=$place,upperdir=/run/.over$place/upper,workdir=/run/.over$place/work" overlay "$place"
done
"""
_WAIT = r"""
: >"$DIRECTORY/.up"
sleep infinity &
wait
"""
"""The last of the first process inside: a shell that waits also collects whoever has lost its parent."""


@dataclass(frozen=True, slots=True)
class Hierarchy:
    """One tree of control groups of the host, and the enclosure's group in it."""

    mount: Path
    kind: str
    options: str
    group: Path

    @property
    def entry(self) -> Path:
        """Where its processes go: in version 2 a group that shares something out has none itself."""
        return self.group / "processes" if self.kind == "cgroup2" else self.group

    def mounting(self) -> list[str]:
        """Return the shell lines that show the namespace its part of this tree in the usual place."""
        if self.kind == "cgroup":
            return [f"mkdir {self.mount}", f"mount -t cgroup -o {self.options} cgroup {self.mount}"]
        return [
            f"[ -d {self.mount} ] || mkdir {self.mount}",
            f"mount -t cgroup2 cgroup2 {self.mount}",
            f"mkdir {self.mount}/processes",
            f"echo 0 >{self.mount}/processes/cgroup.procs",
            f"for one in $(cat {self.mount}/cgroup.controllers); do",
            f"echo +$one >{self.mount}/cgroup.subtree_control; done",
        ]


class Enclosure:
    """Starts, ends and starts again. `inside` and `run` enter it; programs and files are those of the host."""

    def __init__(self, directory: Path, *, setup: Iterable[str] = ()) -> None:
        """`directory` is the caller's, and removed when the tests die; `setup` are more shell lines of the first
        process, which run once the mounts are private.
        """
        self.directory = directory
        self._hierarchies = _hierarchies(directory.name)
        tmpfs = ["mount -t tmpfs -o mode=755 tmpfs /sys/fs/cgroup"] if len(self._hierarchies) > 1 else []
        lines = [*tmpfs, *(line for each in self._hierarchies for line in each.mounting()), *setup]
        self._first_script = _MOUNTS + "\n".join(lines) + _WAIT
        self._supervisor: subprocess.Popen[bytes] | None = None

    @property
    def is_up(self) -> bool:
        """Whether it was started and not ended."""
        return self._supervisor is not None

    @property
    def first(self) -> int:
        """The host's number of its first process; raises AssertionError when that is not there."""
        assert self._supervisor is not None, "the enclosure was not started"
        found = [inner for outer in children(self._supervisor.pid) for inner in children(outer)]
        assert found, f"the enclosure has ended: {self._log.read_text()[-2000:]}"
        return found[0]

    def start(self) -> None:
        """Make it; what was mounted, running or listening in it before is gone, files are not."""
        marker = self.directory / ".up"
        marker.unlink(missing_ok=True)
        env = {
            "PATH": "/usr/sbin:/usr/bin:/sbin:/bin",
            "DIRECTORY": str(self.directory),
            "GROUPS_MADE": " ".join(str(each.group) for each in self._hierarchies),
            "FIRST": self._first_script,
        }
        with self._log.open("ab") as log:
            self._supervisor = subprocess.Popen(
                ["/bin/sh", "-uc", _SUPERVISE],
                stdin=subprocess.PIPE,
                stdout=log,
                stderr=log,
                env=env,
                cwd="/",
                start_new_session=True,
            )
        try:
            until(marker.exists, "the enclosure is there", seconds=10)
        except BaseException:
            self.end()
            print(f"--- {self._log}\n{self._log.read_text()[-2000:]}")
            raise

    def end(self) -> None:
        """End all that is in it, at once and unasked; return when it is gone."""
        if self._supervisor is not None:
            self._supervisor.communicate(b"end\n", timeout=30)
            self._supervisor = None

    def inside(self, *argv: str | Path) -> list[str]:
        """Return the command line that runs this one inside, as one of its processes."""
        entries = " ".join(str(each.entry / "cgroup.procs") for each in self._hierarchies)
        enter = f"nsenter --target {self.first} --mount --net --ipc --pid --cgroup"
        script = f'for entry in {entries}; do echo 0 >"$entry"; done; exec {enter} -- "$@"'
        return ["/bin/sh", "-euc", script, "enter", *map(str, argv)]

    def run(self, *argv: str | Path, seconds: int = 60) -> subprocess.CompletedProcess[str]:
        """Run a command inside to its end; one that takes longer is ended there, with exit code 124 or 137."""
        # Ended from outside, it would stay a zombie of nobody's and keep the namespace.
        return subprocess.run(
            self.inside("timeout", "--kill-after=1", str(seconds), *argv),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
        )

    @property
    def _log(self) -> Path:
        return self.directory / "enclosure.log"


def children(pid: int) -> list[int]:
    """Return the processes that this one has started and not lost."""
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def _hierarchies(name: str) -> list[Hierarchy]:
    """Return the trees of control groups, whichever versions this host has, with a group of that name in each.

    In version 1 it lies below the tests' own group, whose limits hold on; in version 2 below the root, for a group
    with processes in it can share nothing out.
    """
    own: dict[str, str] = {}
    for line in Path("/proc/self/cgroup").read_text().splitlines():
        _, controllers, path = line.split(":", 2)
        own[controllers] = path
    found = []
    for line in Path("/proc/self/mountinfo").read_text().splitlines():
        place, _, rest = line.partition(" - ")
        kind, _, options = rest.split(" ")
        mount = Path(place.split(" ")[4])
        if kind == "cgroup2":
            found.append(Hierarchy(mount, kind, "", mount / name))
        elif kind == "cgroup":
            named = next(names for names in own if names and set(names.split(",")) <= set(options.split(",")))
            found.append(Hierarchy(mount, kind, named, mount / own[named].lstrip("/") / name))
    return found
