"""The network share answers, hangs, goes on and dies as real ones do, and leaves nothing on this host."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.neighbours import mount as neighbour
from tests.neighbours.leftovers import Traces
from tests.neighbours.mount import Mount
from tests.processes import state
from tests.waiting import until

CONTENT = "from the far end\n" * 10_000


@pytest.fixture
def mount(mount: Mount) -> Mount:
    """A share with a small tree in it."""
    (mount.far / "folder").mkdir()
    (mount.far / "folder/file").write_text(CONTENT)
    (mount.far / "folder/link").symlink_to("file")
    return mount


@contextmanager
def child(*argv: str | Path) -> Iterator[subprocess.Popen[str]]:
    """Run a command, which may hang, until the context ends: by then the share must answer or be dead."""
    with subprocess.Popen(argv, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as process:
        try:
            yield process
        finally:
            process.kill()


def run(*argv: str | Path) -> tuple[int, str]:
    """Run a command to its end; return its exit code and what it said."""
    done = subprocess.run(argv, capture_output=True, text=True, timeout=30, check=False)
    return done.returncode, done.stdout + done.stderr


def reading(mount: Mount) -> list[str | Path]:
    return ["cat", mount.point / "folder/file"]


def waits(process: subprocess.Popen[str]) -> bool:
    """Whether it waits for an answer of the share (wchan in proc(5); the inner one is inlined in some kernels)."""
    where = Path(f"/proc/{process.pid}/wchan").read_text()
    return where == "request_wait_answer" or "fuse" in where


def test_it_answers_with_what_is_at_the_far_end(mount: Mount) -> None:
    assert run(*reading(mount)) == (0, CONTENT)
    assert run("ls", "-F", mount.point / "folder") == (0, "file\nlink@\n")
    assert run("cp", mount.point / "folder/link", mount.point / "copy") == (0, "")
    assert (mount.far / "copy").read_text() == CONTENT
    there, here = os.statvfs(mount.point), os.statvfs(mount.far)
    assert there.f_blocks * there.f_frsize == here.f_blocks * here.f_frsize
    assert f" {mount.point} rw,nosuid,nodev,relatime - fuse.sshfs " in Path("/proc/self/mountinfo").read_text()


def test_hung_it_holds_who_asks_and_sigkill_does_not_end_that_until_it_answers(mount: Mount) -> None:
    mount.hang()
    with child(*reading(mount)) as reader, child("stat", "-f", mount.point) as other:
        until(lambda: waits(reader) and waits(other), "both wait for the share")
        other.kill()
        until(lambda: state(other.pid) == "D", "it waits on, killed")
        mount.thaw()
        assert reader.communicate(timeout=20)[0] == CONTENT, "the very same read"
        assert reader.returncode == 0
        assert other.wait(20) == -signal.SIGKILL
    assert run(*reading(mount)) == (0, CONTENT)


def test_frozen_it_holds_who_asks_and_sigkill_ends_that(mount: Mount) -> None:
    mount.freeze()
    with child(*reading(mount)) as reader, child("stat", "-f", mount.point) as other:
        until(lambda: waits(reader) and waits(other), "both wait for the share")
        other.kill()
        assert other.wait(20) == -signal.SIGKILL
        mount.thaw()
        assert reader.communicate(timeout=20)[0] == CONTENT, "the very same read"


@pytest.mark.parametrize("breakage", [Mount.hang, Mount.freeze])
def test_killed_it_fails_who_waits_and_who_asks_until_it_is_mounted_again(
    mount: Mount, breakage: Callable[[Mount], None]
) -> None:
    breakage(mount)
    with child(*reading(mount)) as reader:
        until(lambda: waits(reader), "it waits for the share")
        mount.kill()
        assert "cat: " in reader.communicate(timeout=20)[0]
        assert reader.returncode == 1
    for ask in (lambda: os.statvfs(mount.point), (mount.point / "new").touch):
        with pytest.raises(OSError, match="Transport endpoint is not connected"):
            ask()
    mount.start()
    assert run(*reading(mount)) == (0, CONTENT)


def test_it_does_not_stop_answering_while_the_tests_would_hang_with_it(mount: Mount) -> None:
    for breakage in (mount.hang, mount.freeze):
        with (mount.point / "folder/file").open(), pytest.raises(AssertionError, match="folder/file open"):
            breakage()
    assert run(*reading(mount)) == (0, CONTENT)


def test_stopped_in_order_it_is_no_longer_mounted(mount: Mount) -> None:
    mount.stop()
    assert not mount.is_there
    assert not list(mount.point.iterdir())
    mount.start()
    assert run(*reading(mount)) == (0, CONTENT)


def test_another_user_may_ask(mount: Mount) -> None:
    as_nobody = ["setpriv", "--reuid", "65534", "--clear-groups", "--inh-caps=-all"]
    assert run(*as_nobody, *reading(mount)) == (0, CONTENT)


def traces(directory: Path) -> list[str]:
    """Return what this host shows of the share in that directory."""
    return [trace for trace in Traces.now().found if directory.name in trace]


def test_nothing_is_left_of_a_share_that_hangs() -> None:
    with neighbour.mounted() as mount:
        directory = mount.point.parent
        assert {trace.split()[0] for trace in traces(directory)} == {"file", "mount"}
        mount.hang()
        reader = subprocess.Popen(["ls", mount.point], stderr=subprocess.PIPE, text=True)
        until(lambda: waits(reader), "it waits for the share")
    assert "cannot" in reader.communicate(timeout=20)[1]
    assert not traces(directory)


UNTIDY = """
import signal
from tests.neighbours import mount
with mount.mounted() as share:
    share.hang()
    print(share.point, share.pid, flush=True)
    signal.pause()
"""


def test_nothing_is_left_when_the_tests_are_killed() -> None:
    neighbour.obtain()
    with subprocess.Popen([sys.executable, "-c", UNTIDY], stdout=subprocess.PIPE, text=True) as tests:
        assert tests.stdout is not None
        point, pid = tests.stdout.readline().split()
        with child("ls", point) as reader:
            until(lambda: waits(reader), "it waits for the share")
            tests.kill()
            reader.communicate(timeout=20)
    until(lambda: not traces(Path(point).parent), "nothing is left")
    until(lambda: not list(processes_of(int(pid))), "sshfs and the far end have ended")


def processes_of(session: int) -> Iterator[int]:
    """Give the processes of a session."""
    for entry in Path("/proc").glob("[0-9]*"):
        pid = int(entry.name)
        try:
            if os.getsid(pid) == session and state(pid) not in {"Z", "X"}:
                yield pid
        except ProcessLookupError:
            continue
