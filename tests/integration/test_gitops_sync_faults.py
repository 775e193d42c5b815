"""deploy/gitops_sync.sh killed, stopped, raced, out of disk, forbidden, refused; and on whatever history."""

from __future__ import annotations

import os
import random
import re
import shutil
import signal
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests import user
from tests.neighbours.disk import Disks
from tests.neighbours.faketime import FakeTime
from tests.neighbours.neighbour import need_root
from tests.waiting import until
from tests.working_copy import Answer, WorkingCopy, answer, mend

SEED = int(os.environ.get("SEED", "0")) or random.randrange(1, 10**6)
MANY = 400
OLD = {f"d{number % 20}/f{number}": f"old {number}\n" * 50 for number in range(MANY)}
NEW = {f"d{number % 20}/{'fg'[number % 4 == 0]}{number}": f"new {number}\n" * 60 for number in range(MANY)}
"""A push that changes 300 files of 400, and adds 100."""


@pytest.fixture
def many(tmp_path: Path) -> WorkingCopy:
    """A clone that lacks a push which takes its time."""
    copy = WorkingCopy(tmp_path, OLD)
    copy.push(NEW)
    return copy


@contextmanager
def syncing(copy: WorkingCopy) -> Iterator[subprocess.Popen[bytes]]:
    """Start the script in a process group of its own; in the end all of it is killed."""
    started = subprocess.Popen(
        copy.command(), env=copy.env, start_new_session=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    with started as process:
        try:
            yield process
        finally:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)


def after(seconds: float) -> Callable[[subprocess.Popen[bytes], WorkingCopy], None]:
    """Return what waits so long, or until it has ended."""

    def wait(process: subprocess.Popen[bytes], _: WorkingCopy) -> None:
        with suppress(subprocess.TimeoutExpired):
            process.wait(seconds)

    return wait


def at_file(name: str) -> Callable[[subprocess.Popen[bytes], WorkingCopy], None]:
    """Return what waits until git has got to that file, which comes somewhere in the order of all."""

    def wait(process: subprocess.Popen[bytes], copy: WorkingCopy) -> None:
        path = copy.path / name
        while process.poll() is None:
            try:
                if path.read_bytes()[:3] == b"new":
                    return
            except FileNotFoundError:
                pass

    return wait


def kill_at_random(copy: WorkingCopy, dice: random.Random, seconds: float) -> str:
    """Kill it somewhere; then see that the next runs end well, or name what is. Return what the second said."""
    target = copy.tip()
    moment = dice.choice((after(dice.uniform(0, seconds)), at_file(dice.choice(list(NEW)))))
    with syncing(copy) as process:
        moment(process, copy)
    before = copy.snapshot()
    second = copy.sync()
    if second.code:
        assert second.verdict in {"locked", "dirty", "dirty_overlap", "untracked_collision"}, second.told
        assert before.changes(copy.snapshot()) == []
        for lock in copy.path.glob(".git/**/*.lock"):  # as a person does after a look
            lock.unlink()
        third = copy.sync()
        if third.code:
            mend(copy, third)
    assert copy.differences(target) == ""
    assert copy.git("status", "--porcelain") == ""
    return second.verdict


def test_killed_at_ten_random_moments_it_ends_well_or_names_what_is(tmp_path: Path) -> None:
    dice = random.Random(SEED)
    print(f"SEED={SEED}")
    whole = WorkingCopy(tmp_path / "whole", OLD)
    whole.push(NEW)
    began = time.monotonic()
    assert whole.sync().verdict == "ok"
    seconds = time.monotonic() - began
    said = []
    for number in range(10):
        copy = WorkingCopy(tmp_path / str(number), OLD)
        copy.push(NEW)
        said.append(kill_at_random(copy, dice, seconds))
    print(said)


@pytest.mark.parametrize("name", ["d0/g0", "d13/f133", "d9/f89"])
def test_told_to_end_in_the_middle_of_a_move_it_takes_it_back(many: WorkingCopy, name: str) -> None:
    reached, go = many.path.parent / "reached", many.path.parent / "go"
    many.git("config", "filter.slow.smudge", f"cat; touch {reached}; until [ -e {go} ]; do sleep 0.02; done")
    many.push({".gitattributes": f"{name} filter=slow\n"})
    before = many.snapshot()
    with syncing(many) as process:
        until(reached.exists, "git is in the middle of the move")
        assert before.changes(many.snapshot())
        os.killpg(process.pid, signal.SIGTERM)
        output, complaints = process.communicate(timeout=30)
    go.touch()
    said = answer(subprocess.CompletedProcess([], process.returncode, output, complaints))
    assert said.verdict == "fetch_failed", (said.told, said.stderr)
    assert before.changes(many.snapshot()) == []
    assert many.sync().verdict == "ok"
    assert many.differences(many.tip()) == ""


def test_told_to_end_before_it_moves_it_leaves_everything(many: WorkingCopy) -> None:
    before = many.snapshot()
    with syncing(many) as process:
        os.killpg(process.pid, signal.SIGTERM)
        process.communicate(timeout=30)
    assert before.changes(many.snapshot()) == []
    assert many.sync().verdict == "ok"


# Disks


def test_a_disk_that_is_full_while_it_fetches_changes_nothing(disk: Disks) -> None:
    copy = WorkingCopy(disk(megabytes=4).point, {"a.txt": "a"})
    with tempfile.TemporaryDirectory(prefix="homelab-agent-remote-") as roomy:
        copy.move_remote(Path(roomy))
        copy.push({"big": random.Random(0).randbytes(6_000_000)})
        before = copy.snapshot()
        said = copy.sync()
        assert (said.verdict, said.repair) == ("fetch_failed", ["df -h ."]), said.told
        assert "No space left on device" in said.told["detail"]
        assert before.changes(copy.snapshot()) == []


def test_a_disk_that_is_full_while_it_moves_changes_nothing_and_later_it_moves(disk: Disks) -> None:
    small = disk(megabytes=4).point
    copy = WorkingCopy(small, {"a.txt": "a", "b.txt": "b", "gone/b.txt": "b", "z.txt": "z"})
    filler = small / "filler"
    filler.write_bytes(bytes(2_000_000))
    copy.push(
        {
            "a.txt": "new",
            "b.txt": "big\n" * 400_000,
            "gone/b.txt": None,
            "new/deep/c": "c\n" * 300_000,
            "z.txt": "new",
        }
    )
    before = copy.snapshot()
    said = copy.sync()
    assert said.verdict == "fetch_failed", said.told
    assert said.repair[0] == "df -h ."
    assert "unable to write file" in said.stderr
    assert not {"b.txt", "deep"} & set(re.findall(r"[a-z.]+", str(said.told))), "it names no file"
    assert before.changes(copy.snapshot()) == []
    filler.unlink()
    assert copy.sync().verdict == "ok"
    assert copy.differences(copy.tip()) == ""


# Owners


@pytest.fixture
def nobodys(open_directory: Path) -> WorkingCopy:
    """A clone that belongs to an ordinary user."""
    copy = WorkingCopy(open_directory, {"a.txt": "a", "dir/b.txt": "b"})
    copy.push({"a.txt": "new", "dir/b.txt": "new", "dir/c.txt": "new", "other.txt": "new"})
    user.ordinary([])
    for path in [open_directory, *open_directory.rglob("*")]:
        os.chown(path, user.UID, user.UID)
    return copy


def as_user(copy: WorkingCopy) -> Answer:
    return copy.sync(argv=user.ordinary([]))


def test_it_moves_what_belongs_to_who_runs_it(nobodys: WorkingCopy) -> None:
    assert as_user(nobodys).verdict == "ok"


def test_a_remote_on_this_host_that_is_anothers_is_the_remotes_fault(nobodys: WorkingCopy) -> None:
    for path in [nobodys.remote, *nobodys.remote.rglob("*")]:
        os.chown(path, 0, 0)
    before = nobodys.snapshot()
    said = as_user(nobodys)
    assert said.verdict == "fetch_failed", said.told
    assert said.repair[0].startswith("git remote set-url origin")
    assert before.changes(nobodys.snapshot()) == []


@pytest.mark.parametrize("trust", ["", "safe.directory", "sudo"])
def test_what_belongs_to_another_is_left_alone_whatever_that_one_trusts(nobodys: WorkingCopy, trust: str) -> None:
    if trust == "safe.directory":
        (nobodys.path.parent / ".gitconfig").write_text("[safe]\n\tdirectory = *\n")
    if trust == "sudo":
        nobodys.env["SUDO_UID"] = str(user.UID)
    before = nobodys.snapshot()
    said = nobodys.sync()
    assert said.verdict == "wrong_owner", said.told
    assert said.repair[0].startswith("sudo -u nobody sh /")
    assert before.changes(nobodys.snapshot()) == []


def test_a_git_directory_of_which_part_is_roots_is_left_alone(nobodys: WorkingCopy) -> None:
    """As `sudo git pull` leaves it."""
    for path in nobodys.path.glob(".git/objects/**/*"):
        os.chown(path, 0, 0)
    os.chown(nobodys.path / ".git/objects", 0, 0)
    before = nobodys.snapshot()
    said = as_user(nobodys)
    assert (said.verdict, said.repair) == ("wrong_owner", ["sudo chown -R nobody ."]), said.told
    assert before.changes(nobodys.snapshot()) == []


def test_a_directory_that_may_not_be_written_to_changes_nothing(nobodys: WorkingCopy) -> None:
    os.chown(nobodys.path / "dir", 0, 0)
    before = nobodys.snapshot()
    said = as_user(nobodys)
    assert (said.verdict, said.repair) == ("wrong_owner", ["sudo chown -R nobody ."]), said.told
    assert before.changes(nobodys.snapshot()) == []
    nobodys.repair([said.repair[0].removeprefix("sudo ")])
    assert as_user(nobodys).verdict == "ok"


# Remotes


class Refusing(BaseHTTPRequestHandler):
    """Answers every request with the status that its path begins with."""

    def do_GET(self) -> None:
        status = int(self.path.split("/")[1])
        self.send_response(status)
        self.send_header("WWW-Authenticate", 'Basic realm="x"')
        self.end_headers()

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@pytest.fixture
def refusing() -> Iterator[int]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), Refusing)
    serving = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    serving.start()
    yield server.server_port
    server.shutdown()
    serving.join()
    server.server_close()


@pytest.mark.parametrize(
    ("path", "words"),
    [
        ("401/x.git", "does not let this user in"),
        ("403/x.git", "does not let this user in"),
        ("404/x.git", "not found"),
    ],
)
def test_a_remote_that_refuses_is_named_without_its_secrets(
    tmp_path: Path, refusing: int, path: str, words: str
) -> None:
    copy = WorkingCopy(tmp_path, {"a.txt": "a"})
    copy.git("remote", "set-url", "origin", f"http://ada:sesame@127.0.0.1:{refusing}/{path}?token=sesame")
    before = copy.snapshot()
    said = copy.sync()
    assert said.verdict == "fetch_failed"
    assert words in said.told["detail"]
    assert "sesame" not in f"{said.told} {said.stderr}"
    assert before.changes(copy.snapshot()) == []


def test_a_remote_where_nobody_listens_is_named(tmp_path: Path) -> None:
    copy = WorkingCopy(tmp_path, {"a.txt": "a"})
    copy.git("remote", "set-url", "origin", "http://ada:sesame@127.0.0.1:1/x.git")
    said = copy.sync()
    assert said.verdict == "fetch_failed"
    assert "Failed to connect" in said.told["detail"]
    assert "sesame" not in f"{said.told} {said.stderr}"


def test_a_host_key_that_changed_stops_it(tmp_path: Path) -> None:
    """A real ssh and a real sshd, over a pipe."""
    need_root("an sshd with a /run of its own")
    copy = WorkingCopy(tmp_path, {"a.txt": "a"})
    for name in ("host", "other"):
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", tmp_path / name], check=True)
    (tmp_path / "known_hosts").write_text("example.org " + (tmp_path / "other.pub").read_text())
    (tmp_path / "sshd_config").write_text(f"HostKey {tmp_path}/host\n")
    copy.env["GIT_SSH_COMMAND"] = (
        f"ssh -F none -o BatchMode=yes -o UserKnownHostsFile={tmp_path}/known_hosts -o GlobalKnownHostsFile=none "
        f"-o 'ProxyCommand=unshare --mount sh -c \"mount -t tmpfs tmpfs /run && mkdir /run/sshd && exec "
        f"/usr/sbin/sshd -i -f {tmp_path}/sshd_config\"'"
    )
    copy.git("remote", "set-url", "origin", "ssh://git@example.org/x.git")
    said = copy.sync()
    assert said.verdict == "fetch_failed"
    assert "its host key is not the one known here" in said.told["detail"], said.told


def test_a_password_is_asked_for_with_the_callers_program_and_never_at_the_terminal(
    tmp_path: Path, refusing: int
) -> None:
    copy = WorkingCopy(tmp_path, {"a.txt": "a"})
    copy.git("remote", "set-url", "origin", f"http://127.0.0.1:{refusing}/401/x.git")
    assert "terminal prompts disabled" in copy.sync().told["detail"]
    asked = tmp_path / "asked"
    program = tmp_path / "askpass"
    program.write_text(f'#!/bin/sh\necho "$1" >>{asked}\necho sesame\n')
    program.chmod(0o755)
    copy.env["GIT_ASKPASS"] = str(program)
    assert copy.sync().verdict == "fetch_failed"
    assert "Password for" in asked.read_text()


# Races and clocks


def test_two_at_once_leave_one_working_copy(many: WorkingCopy) -> None:
    with syncing(many) as one, syncing(many) as other:
        ends = [process.communicate(timeout=60) for process in (one, other)]
    said = [
        answer(subprocess.CompletedProcess([], process.returncode, *end)).verdict
        for process, end in zip((one, other), ends, strict=True)
    ]
    assert set(said) <= {"ok", "up_to_date", "locked", "dirty", "dirty_overlap"}, said
    if "ok" in said:
        assert many.differences(many.tip()) == ""
    assert many.sync().code == 0
    assert many.differences(many.tip()) == ""


@pytest.mark.parametrize("year", [2001, 2037])
def test_the_clock_decides_nothing(tmp_path: Path, faketime: FakeTime, year: int) -> None:
    copy = WorkingCopy(tmp_path, {"a.txt": "a", "b.txt": "b"})
    copy.push({"a.txt": "new"})
    faketime.set(datetime(year, 1, 1, tzinfo=UTC))
    copy.env |= faketime.env
    copy.write({"b.txt": "edit"})
    assert copy.sync().verdict == "dirty"
    copy.write({"b.txt": "b"})
    lock = copy.path / ".git/index.lock"
    lock.touch()
    assert copy.sync().verdict == "locked"
    lock.unlink()
    assert copy.sync().verdict == "ok"
    assert copy.differences(copy.tip()) == ""


# Whatever the state

NAMES = ["a", "b", "d", "d/x", "d/y", "e/z", "n.log", "l/og.log"]
STEPS = st.lists(
    st.tuples(
        st.sampled_from(["push", "push", "write", "write", "stage", "commit", "pull", "rewind", "ita"]),
        st.sampled_from(NAMES),
        st.sampled_from([None, "1", "2"]),
    ),
    max_size=6,
)


def step(copy: WorkingCopy, kind: str, name: str, content: str | None) -> None:
    """Do it where it can be done."""
    path = copy.path / name
    match kind:
        case "push":
            copy.push({name: content})
        case "rewind":
            copy.rewind(copy.git("rev-parse", "origin/main"))
        case "pull":
            copy.attempt("pull", "--quiet", "--ff-only")
        case "stage":
            copy.attempt("add", "--all", "--force", "--", name)
        case "ita":
            copy.attempt("add", "--intent-to-add", "--force", "--", name)
        case "commit":
            copy.attempt("commit", "--quiet", "--all", "--message=local")
        case _:
            if path.is_dir():
                shutil.rmtree(path)
            if content is None:
                with suppress(FileNotFoundError, NotADirectoryError):
                    path.unlink()
            elif path.parent.is_dir() or not path.parent.exists():
                copy.write({name: content})


@settings(max_examples=30, deadline=None)
@given(steps=STEPS, asks=st.booleans())
def test_whatever_the_state_it_is_at_the_target_or_nothing_has_changed(
    steps: list[tuple[str, str, str | None]], *, asks: bool
) -> None:
    with tempfile.TemporaryDirectory(prefix="homelab-agent-copy-") as directory:
        copy = WorkingCopy(Path(directory), {"a": "1", "d/x": "1", ".gitignore": "*.log\n"})
        sha = copy.push({"b": "1"}) if asks else ""
        for kind, name, content in steps:
            step(copy, kind, name, content)
        before = copy.snapshot()
        loose = copy.git("ls-files", "--others").splitlines()
        plan = copy.sync("--plan", sha=sha)
        assert before.changes(copy.snapshot()) == []
        done = copy.sync(sha=sha)
        assert (plan.verdict, plan.told["target"]) == (done.verdict, done.told["target"])
        if done.verdict == "ok":
            assert copy.differences(done.told["target"]) == ""
            assert not {name for name in loose if name in before.changes(copy.snapshot())}
        else:
            assert before.changes(copy.snapshot()) == []
