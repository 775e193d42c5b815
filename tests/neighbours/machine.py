"""A real systemd as PID 1 of a machine of its own, with its own journal, over this host's files or a bare Debian's.

It is a container: it has its own processes, mounts, names, control groups, disk and, unless told otherwise, network,
where there is nothing but the loopback interface. The kernel and the clock are the host's. Its root is an overlay on
its disk, so nothing it writes reaches the base; what is mounted below the base's root is not in it. What somebody has
set or enabled in the base's /etc/systemd is not the machine's; a unit that does not stop is killed after 10 s.

Docker, credentials, dynamic users, limits of memory and tasks, IPAddressDeny, devices and system calls behave as on a
host. Known not to:

- Units with ConditionVirtualization=!container are skipped. There are no udev, no terminals, no sessions of logind, no
  /dev/kmsg and /dev/fuse, no AppArmor. The clock, modules and the settings in /proc/sys cannot be changed, those of
  the network excepted.
- SocketBindDeny, RestrictNetworkInterfaces and RestrictFileSystems have no effect, as on any Debian 12: its systemd is
  built without them.
- Where the host has control groups of version 1: MemoryHigh, MemoryLow and MemorySwapMax have no effect, `systemctl
  freeze` is refused, and who was killed for want of memory has the result `signal` instead of `oom-kill`.
- Where the tests lack CAP_SYS_RESOURCE, as in a container: an OOMScoreAdjust below 0 and a LimitNOFILE above the
  tests' own have no effect.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tests.neighbours.boot import JOURNAL, Boot
from tests.neighbours.loop import LoopDisk, cut_off, filling
from tests.neighbours.neighbour import Missing, Neighbour, need_root, program, version_of
from tests.waiting import until

HOST = Path("/")
"""The base that has all that is installed here."""

UNITS = "/etc/systemd/system"
_FULL = "/var/full"
_ENVIRONMENT = ("env", "-i", "HOME=/root", "LANG=C.UTF-8", "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin")


class Machine:
    """One machine on its disk. Off, it keeps its files, its journal and who it is; `boot` goes on with them."""

    def __init__(
        self,
        directory: Path,
        *,
        base: Path = HOST,
        shared: Iterable[Path] = (),
        disk_megabytes: int = 2048,
        own_network: bool = True,
    ) -> None:
        """`shared` are directories of the host's that it has at the same path, and writes to."""
        self._disk = LoopDisk(directory / "disk.ext4", disk_megabytes)
        setup = [self._disk.mounting(directory / "disk")]
        self._boot = Boot(directory, base=base, setup=setup, shared=shared, own_network=own_network)
        self.directory = directory
        self.hostname = self._boot.hostname
        self.machine_id = self._boot.machine_id

    @property
    def pid(self) -> int:
        """The host's number of its PID 1; raises AssertionError when it is off."""
        return self._boot.first

    @property
    def is_up(self) -> bool:
        """Whether it was booted and has not ended; a frozen one has not."""
        return self._boot.runs

    def boot(self, *, state: str = "running") -> None:
        """Switch it on; return when all that is enabled has started.

        With `state="degraded"` some of that is to fail. Raises AssertionError, with what failed, for any other end.
        """
        assert not self.is_up, "it is on"
        self.close()
        self._boot.start()
        until(self._can_be_asked, "systemd can be asked", seconds=60)
        came_to = self.run("systemctl", "is-system-running", "--wait").stdout.strip()
        assert came_to == state, f"the machine is {came_to or 'still starting'}:\n{self.tail()}"

    def shut_down(self) -> None:
        """Stop all units in order, write all to the disk and switch it off."""
        self.thaw()
        self.run("systemctl", "--no-block", "poweroff")
        until(lambda: not self._boot.runs, "the machine is off", seconds=60)
        self.close()

    def reboot(self, *, state: str = "running") -> None:
        """Shut it down and boot it again."""
        self.shut_down()
        self.boot(state=state)

    def power_cut(self) -> None:
        """Switch it off at one stroke: what no program had written to the disk (fsync) may be lost. `boot` follows."""
        self.freeze()
        cut_off(self.path(JOURNAL))
        self.close()

    def close(self) -> None:
        """End everything, whatever state it is in, but write to its disk what was to be written."""
        self._boot.end()
        self._disk.wait_until_free()

    def freeze(self, unit: str = "") -> None:
        """Stop the processes of a unit (SIGSTOP), or all, systemd too; who runs something in it then waits."""
        if unit:
            self.systemctl("kill", "--signal=SIGSTOP", unit)
        else:
            self._freeze("1")

    def thaw(self, unit: str = "") -> None:
        """Let them go on."""
        if unit:
            self.systemctl("kill", "--signal=SIGCONT", unit)
        else:
            self._freeze("0")

    def kill(self, unit: str, signal: str = "SIGKILL") -> None:
        """Send a signal to all processes of a unit, as `systemd-journald.service`."""
        self.systemctl("kill", f"--signal={signal}", unit)

    def fill(self) -> None:
        """Leave no byte on its disk."""
        done = self.run(*filling(_FULL))
        assert "No space left" in done.stderr, done.stderr

    def free(self) -> None:
        """Give the space back."""
        self("rm", _FULL)

    def run(self, *argv: str | Path, seconds: int = 60) -> subprocess.CompletedProcess[str]:
        """Run a command in it to its end, as root, beside all units; a longer one is ended there with code 124."""
        return self._boot.run(*_ENVIRONMENT, *argv, seconds=seconds)

    def inside(self, *argv: str | Path) -> list[str]:
        """Return the command line that runs this one in it."""
        return self._boot.inside(*_ENVIRONMENT, *argv)

    def __call__(self, *argv: str | Path, seconds: int = 60) -> str:
        """Run a command in it and return what it printed; fail when it fails."""
        done = self.run(*argv, seconds=seconds)
        assert done.returncode == 0, f"{' '.join(map(str, argv))}: {done.returncode}: {done.stdout}{done.stderr}"
        return done.stdout.strip()

    def systemctl(self, *words: str, seconds: int = 60) -> str:
        """Run systemctl with these words and return what it printed; fail when it fails."""
        return self("systemctl", "--no-pager", *words, seconds=seconds)

    def show(self, *unit: str) -> dict[str, str]:
        """Return the properties of a unit: ActiveState, Result, MainPID, NRestarts ...; of systemd itself for none."""
        lines = self.systemctl("show", *unit).splitlines()
        return dict(line.split("=", 1) for line in lines if "=" in line)

    def install(self, unit: str, text: str) -> None:
        """Write a unit's file, or a drop-in such as "x.service.d/50-y.conf", to its disk and have it read."""
        file = self.path(f"{UNITS}/{unit}")
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
        self("sync", "-f", UNITS)
        self.systemctl("daemon-reload")

    def journal(self, *words: str) -> list[dict[str, Any]]:
        """Return the entries that journalctl gives for these words, with all that was logged until now.

        A field that is no text is a list of bytes. systemd's own entries on a unit have it in UNIT, not _SYSTEMD_UNIT.
        """
        self("journalctl", "--sync")
        lines = self("journalctl", "--no-pager", "--quiet", "--output=json", *words).splitlines()
        return [json.loads(line) for line in lines]

    def path(self, inside: str) -> Path:
        """Return a path of the machine as the host reaches it while it is up; no link on it may be absolute."""
        return Path(f"/proc/{self.pid}/root{inside}")

    def tail(self, lines: int = 60) -> str:
        """Return which units have failed or wait, and the end of the journal, as far as it can be asked."""
        if not self.is_up:
            return "it is off"
        asked = ("systemctl --failed", "systemctl list-jobs", f"journalctl --boot --lines={lines}")
        return "".join(self.run(*words.split(), "--no-pager", seconds=10).stdout for words in asked)

    def _can_be_asked(self) -> bool:
        # Until it is systemd its root is the host's, where another one may be asked.
        return Path(f"/proc/{self.pid}/comm").read_text() == "systemd\n" and self.path("/run/systemd/private").exists()

    def _freeze(self, word: str) -> None:
        group = next(each.group for each in self._boot.hierarchies if each.kind == "cgroup2")
        (group / "cgroup.freeze").write_text(word)
        until(lambda: f"frozen {word}" in (group / "cgroup.events").read_text(), "the machine is frozen, or is not")


@contextmanager
def running(
    *, base: Path = HOST, shared: Iterable[Path] = (), disk_megabytes: int = 2048, own_network: bool = True
) -> Iterator[Machine]:
    """Give a machine that is up; it leaves nothing, and prints the end of its journal where the context fails.

    `base=bare.root()` gives one over a bare Debian.
    """
    obtain()
    directory = Path(tempfile.mkdtemp(prefix="homelab-agent-machine-"))
    machine = None
    try:
        machine = Machine(directory, base=base, shared=shared, disk_megabytes=disk_megabytes, own_network=own_network)
        machine.boot()
        yield machine
    except BaseException:
        if machine is not None and machine.is_up:
            machine.thaw()
            print(f"--- {machine.hostname}\n{machine.tail()}")
        raise
    finally:
        try:
            if machine is not None:
                machine.close()
        finally:
            shutil.rmtree(directory)


def obtain() -> None:
    """Raise `Missing` where it cannot run: Debian installs it, nothing is to be built."""
    need_root("a machine with systemd")
    for name in ("unshare", "nsenter", "setpriv", "pivot_root", "mkfs.ext4"):
        program(name, "apt install util-linux mount e2fsprogs")
    if not Path("/lib/systemd/systemd").exists():
        message = "systemd is not installed: apt install systemd"
        raise Missing(message)
    if not Path("/dev/loop-control").exists():
        message = "there are no loop devices here"
        raise Missing(message)
    if " - cgroup2 " not in Path("/proc/self/mountinfo").read_text():
        message = "control groups of version 2 are not mounted"
        raise Missing(message)


def _version() -> str:
    obtain()
    return version_of(["/lib/systemd/systemd", "--version"])


NEIGHBOUR = Neighbour("systemd, journald", "Debian systemd", version=_version, obtain=obtain)
