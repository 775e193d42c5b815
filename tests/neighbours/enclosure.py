"""A place of its own on this host: mount, network, process and control-group namespaces over the host's files.

Whatever is started in it ends at one stroke with it, as by a power cut, and takes its mounts, interfaces and control
groups along. So it goes too when the test process is killed. Needs root.
"""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from tests.neighbours.leftovers import adopt_orphans
from tests.processes import children
from tests.waiting import until

_SUPERVISE = r"""
for group in $GROUPS_MADE; do
    mkdir "$group"
    for share in cpuset.cpus cpuset.mems; do # a group of version 1 starts with none, and then takes no process
        [ ! -e "$group/$share" ] || [ ! -e "$group/tasks" ] || cat "${group%/*}/$share" >"$group/$share"
    done
done
join='for group in $GROUPS_MADE; do echo 0 >"$group/cgroup.procs"; done; exec unshare --cgroup /bin/sh -euc "$FIRST"'
setpriv --pdeathsig KILL unshare $NAMESPACES --fork --kill-child=KILL /bin/sh -euc "$join" </dev/null &
outer=$!
read -r word || word=dead
read -r mine <"/proc/$$/task/$$/children" || : # a line without an end is read all the same
case " $mine " in *" $outer "*) # else it has ended by itself, and its number may be another's
    read -r first <"/proc/$outer/task/$outer/children" || :
    kill -KILL ${first:-$outer} ;;
esac
for group in $GROUPS_MADE; do # who has entered it may be frozen with it, and has to see its command end
    [ ! -e "$group/cgroup.freeze" ] || echo 0 >"$group/cgroup.freeze"
    # In version 1 what is frozen does not die of SIGKILL before it is thawed.
    find "$group" -name freezer.state 2>/dev/null | while read -r state; do echo THAWED >"$state" || :; done
done
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

    def entry(self, first: int) -> Path:
        """Return where more processes go: in version 2 to the first one, for a group that has groups takes none."""
        return self.mount / _groups_of(first)[""].lstrip("/") if self.kind == "cgroup2" else self.group

    def mounting(self, root: str) -> list[str]:
        """Return the shell lines that show the namespace its part of this tree in the usual place below `root`."""
        options = f"-o {self.options} " if self.options else ""
        place = f"{root}{self.mount}"
        return [f"[ -d {place} ] || mkdir {place}", f"mount -t {self.kind} {options}{self.kind} {place}"]

    def sharing_out(self) -> list[str]:
        """Return those that let groups be made in it: in version 2 one that shares something has no process itself."""
        if self.kind == "cgroup":
            return []
        return [
            f"mkdir {self.mount}/processes",
            f"echo 0 >{self.mount}/processes/cgroup.procs",
            f"for one in $(cat {self.mount}/cgroup.controllers); do",
            f"echo +$one >{self.mount}/cgroup.subtree_control; done",
        ]


class Enclosure:
    """Starts, ends and starts again. `inside` and `run` enter it; programs and files are those of the host."""

    namespaces: tuple[str, ...] = ("mount", "net", "ipc", "pid")
    """Beside that for control groups, which begins when the first process is in the group that is to be its root."""

    def __init__(self, directory: Path, *, setup: Iterable[str] = ()) -> None:
        """`directory` is the caller's, and removed when the tests die; `setup` are more shell lines of the first
        process, which run once the mounts are private.
        """
        self.directory = directory
        self.hierarchies = _hierarchies(directory.name)
        self._setup = setup
        self._supervisor: subprocess.Popen[bytes] | None = None

    @property
    def is_up(self) -> bool:
        """Whether it was started and not ended."""
        return self._supervisor is not None

    @property
    def first(self) -> int:
        """The host's number of its first process; raises AssertionError when that is not there."""
        assert self._supervisor is not None, "the enclosure was not started"
        found = self._firsts()
        assert found, f"the enclosure has ended: {self._log.read_text()[-2000:]}"
        return found[0]

    @property
    def runs(self) -> bool:
        """Whether its first process is there; that one may end by itself."""
        return self._supervisor is not None and bool(self._firsts())

    def start(self) -> None:
        """Make it; what was mounted, running or listening in it before is gone, files are not."""
        adopt_orphans()
        marker = self.directory / ".up"
        marker.unlink(missing_ok=True)
        env = {
            "PATH": "/usr/sbin:/usr/bin:/sbin:/bin",
            "DIRECTORY": str(self.directory),
            "GROUPS_MADE": " ".join(str(each.group) for each in self.hierarchies),
            "NAMESPACES": " ".join(f"--{kind}" for kind in self.namespaces),
            "FIRST": self.script(),
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
        supervisor, self._supervisor = self._supervisor, None
        if supervisor is not None:
            assert supervisor.stdin is not None
            with suppress(BrokenPipeError), supervisor.stdin as words:
                words.write(b"end\n")
            until(lambda: _collected() and supervisor.poll() is not None, "the enclosure has ended", seconds=30)

    def inside(self, *argv: str | Path) -> list[str]:
        """Return the command line that runs this one inside, as one of its processes."""
        first = self.first
        entries = " ".join(str(each.entry(first) / "cgroup.procs") for each in self.hierarchies)
        enter = f"nsenter --target {first} " + " ".join(f"--{kind}" for kind in ("cgroup", *self.namespaces))
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

    def script(self) -> str:
        """Return the shell's lines that the first process is; it makes `.up` in the directory when all is there."""
        lines = [*self.control_groups(), *(line for each in self.hierarchies for line in each.sharing_out())]
        return _MOUNTS + "\n".join([*lines, *self._setup]) + _WAIT

    def control_groups(self, root: str = "") -> list[str]:
        """Return the lines that mount them all, as the host has them."""
        tmpfs = [f"mount -t tmpfs -o mode=755 tmpfs {root}/sys/fs/cgroup"] if len(self.hierarchies) > 1 else []
        return [*tmpfs, *(line for each in self.hierarchies for line in each.mounting(root))]

    def _firsts(self) -> list[int]:
        assert self._supervisor is not None
        try:
            return [inner for outer in children(self._supervisor.pid) for inner in children(outer)]
        except (FileNotFoundError, ProcessLookupError):
            return []

    @property
    def _log(self) -> Path:
        return self.directory / "enclosure.log"


def _collected() -> bool:
    """Take the exit codes of those from inside that became this process's children, or their namespace never ends.

    So they do when a `run` is interrupted, by a test's time limit or Ctrl-C, for this process adopts orphans.
    """
    for child in children(os.getpid()):
        with suppress(FileNotFoundError, ProcessLookupError, ChildProcessError):
            status = Path(f"/proc/{child}/status").read_text()
            if len(status.partition("NSpid:")[2].split("\n")[0].split()) > 1:
                os.waitpid(child, os.WNOHANG)
    return True


def _hierarchies(name: str) -> list[Hierarchy]:
    """Return the trees of control groups, whichever versions this host has, with a group of that name in each.

    In version 1 it lies below the tests' own group, whose limits hold on; in version 2 below the root, for a group
    with processes in it can share nothing out.
    """
    own = _groups_of("self")
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


def _groups_of(process: int | str) -> dict[str, str]:
    """Return which group of each tree a process is in; a tree is known by its controllers, version 2's by none."""
    lines = Path(f"/proc/{process}/cgroup").read_text().splitlines()
    return {controllers: path for _, controllers, path in (line.split(":", 2) for line in lines)}
