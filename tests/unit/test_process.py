from __future__ import annotations

import asyncio
import os
import resource
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from homelab_agent.core import process, process_output
from tests.clock import until
from tests.processes import is_alive, state

as_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")
NOBODY = (65534, 65534)

FAMILY = r"""
trap '' TERM
sh -c 'trap "" TERM; echo $$; exec sleep 1000' &
(setsid sh -c 'trap "" TERM; echo $$; exec sleep 1000 >/dev/null 2>&1' &)
(setsid sh -c '(echo $(sh -c "echo \$PPID"); trap "" TERM; exec >/dev/null 2>&1; exec sleep 1000) &')
echo $$
while :; do sleep 1000; done
"""
"""Four that ignore SIGTERM: the program, one in its group, one in a session of its own, one orphaned there."""


async def up(first: str) -> process.Child:
    """Return a shell that has done `first` and goes on."""
    lines: list[str] = []
    script = f"{first}; echo up; while :; do sleep 0.01; done"
    child = await process.start(["sh", "-c", script], on_line=lambda _, line: lines.append(line))
    await until(lambda: lines == ["up"], "it is up")
    return child


async def test_a_program_reads_writes_and_ends() -> None:
    done = await process.run(["sh", "-c", "cat; echo oops >&2; exit 3"], stdin=b"hello\n", deadline=10)
    assert done == process.Completed(3, b"hello\n", b"oops\n", truncated=False)


async def test_only_what_is_named_reaches_its_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TOKEN", "hunter22")
    monkeypatch.setenv("LANG", "C.UTF-8")
    monkeypatch.delenv("TZ", raising=False)
    done = await process.run(["env"], env={"HOME": "/nonexistent"}, deadline=10)
    found = dict(line.split("=", 1) for line in done.stdout.decode().splitlines())
    assert found.keys() == {"PATH", "LANG", "HOME", "HOMELAB_AGENT_CHILD"}
    done = await process.run(["env"], keep=["TOKEN"], deadline=10)
    assert b"TOKEN=hunter22" in done.stdout
    assert b"LANG" not in done.stdout


async def test_its_session_is_its_own_and_its_directory_the_root() -> None:
    done = await process.run(["sh", "-c", "pwd; ps -o sid= -p $$; echo $$"], deadline=10)
    directory, session, pid = done.stdout.decode().split()
    assert directory == "/"
    assert session == pid


@pytest.mark.parametrize("program", ["no-such-program", "/no/such/program", "/etc/passwd"])
async def test_a_program_that_is_not_there_is_named(program: str) -> None:
    with pytest.raises(process.ProgramMissing, match=program):
        await process.run([program], deadline=10)


async def test_a_directory_that_is_not_there_is_named() -> None:
    with pytest.raises(process.ProgramWillNotStart, match="/no/such/directory"):
        await process.run(["true"], cwd=Path("/no/such/directory"), deadline=10)


async def test_a_program_that_a_signal_ended_says_which() -> None:
    assert (await process.run(["sh", "-c", "kill -USR1 $$"], deadline=10)).code == -signal.SIGUSR1


async def test_one_that_hangs_is_stopped_at_its_deadline_with_all_it_has_started() -> None:
    with pytest.raises(process.DeadlinePassed) as caught:
        await process.run(["sh", "-c", FAMILY], deadline=1, grace=0.2)
    pids = [int(line) for line in caught.value.completed.stdout.split()]
    assert len(pids) == 4
    assert [pid for pid in pids if is_alive(pid)] == []
    assert caught.value.completed.code == -signal.SIGKILL
    assert str(caught.value) == "sh did not end within 1 s and was stopped."


async def test_one_that_is_stopped_may_end_in_order() -> None:
    child = await up("trap 'echo bye; exit 0' TERM")
    done = await child.stop()
    assert (done.code, done.stdout) == (0, b"up\nbye\n")
    assert not child.running
    assert await child.stop() == done


async def test_what_it_has_started_may_end_in_order_too_though_it_is_gone_already(tmp_path: Path) -> None:
    lock = tmp_path / "lock"
    careful = f"trap 'sleep 0.3; rm {lock}; exit' TERM; touch {lock}; while :; do sleep 0.01; done"
    child = await process.start(["sh", "-c", f'trap - TERM; sh -c "{careful}"; true'])
    await until(lock.exists, "the one below is up")
    assert (await child.stop(60)).code == -signal.SIGTERM, "it does not wait for what it has started"
    assert not lock.exists()


async def test_what_it_has_started_and_does_not_end_is_killed_after_the_grace() -> None:
    lines: list[str] = []
    script = "sh -c 'trap \"\" TERM; echo $$; while :; do sleep 0.01; done'; true"
    child = await process.start(["sh", "-c", script], on_line=lambda _, line: lines.append(line))
    await until(lambda: len(lines) == 1, "the one below is up")
    assert (await child.stop(0.2)).code == -signal.SIGTERM
    assert not is_alive(int(lines[0]))


async def test_cancelled_nothing_is_left() -> None:
    lines: list[str] = []
    task = asyncio.create_task(
        process.run(["sh", "-c", FAMILY], deadline=60, grace=0.1, on_line=lambda _, line: lines.append(line))
    )
    await until(lambda: len(lines) == 4, "all four run")
    assert all(is_alive(int(line)) for line in lines)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert [line for line in lines if is_alive(int(line))] == []


async def test_cancelled_twice_it_is_killed_at_once() -> None:
    child = await up("trap '' TERM")
    stopping = asyncio.create_task(child.stop(60))
    await asyncio.sleep(0)
    stopping.cancel()
    with pytest.raises(asyncio.CancelledError):
        await stopping
    assert (await asyncio.wait_for(child.wait(), 10)).code == -signal.SIGKILL


async def test_one_that_stands_still_can_be_stopped() -> None:
    child = await process.start(["sleep", "1000"])
    child.send(signal.SIGSTOP)
    await until(lambda: state(child.pid) == "T", "it stands still")
    assert (await child.stop(0.1)).code == -signal.SIGKILL


async def test_a_gigabyte_of_output_costs_no_memory() -> None:
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    done = await process.run(["head", "--bytes=1G", "/dev/zero"], output_max=65536, deadline=60)
    grown_kib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    assert done.code == 0
    assert done.truncated
    assert done.stdout == bytes(65536)
    assert grown_kib < 8 * 1024


async def test_of_long_output_the_end_is_kept() -> None:
    done = await process.run(["seq", "100000"], output_max=12, deadline=10)
    assert done.stdout == b"99999\n100000\n"[-12:]


async def test_lines_come_as_they_are_written() -> None:
    lines: list[tuple[str, str]] = []
    child = await process.start(
        ["sh", "-c", r"printf 'a\r50%%\rb\n'; printf 'no end'; echo oops >&2; sleep 1000"],
        on_line=lambda stream, line: lines.append((stream, line)),
    )
    await until(lambda: ("stderr", "oops") in lines, "it has written")
    await child.stop()
    assert [line for stream, line in lines if stream == "stdout"] == ["a", "50%", "b", "no end"]


async def test_a_daemon_left_on_purpose_lives_but_what_stays_in_the_group_does_not() -> None:
    script = "setsid sh -c 'sleep 1000 >/dev/null 2>&1 & echo $!'; sleep 1000 >/dev/null 2>&1 & echo $!"
    done = await process.run(["sh", "-c", script], deadline=10)
    daemon, left = (int(line) for line in done.stdout.split())
    await until(lambda: not is_alive(left), "the one in the group is gone")
    assert is_alive(daemon)
    os.kill(daemon, signal.SIGKILL)


async def test_output_that_a_daemon_holds_open_is_not_awaited_for_ever() -> None:
    begun = time.monotonic()
    done = await process.run(["sh", "-c", "setsid sh -c 'sleep 1000 & echo $!'"], deadline=30)
    assert time.monotonic() - begun < 10
    os.kill(int(done.stdout), signal.SIGKILL)


AGENT = """
import asyncio, sys
from homelab_agent.core import process

async def main():
    child = await process.start(["sleep", "1000"], user=%s)
    print(child.pid, flush=True)
    await child.wait()

asyncio.run(main())
"""


@pytest.mark.parametrize("user", [None, pytest.param(NOBODY, marks=as_root)])
def test_an_agent_that_is_killed_takes_its_child_along(user: tuple[int, int] | None) -> None:
    with subprocess.Popen([sys.executable, "-c", AGENT % (user,)], stdout=subprocess.PIPE, text=True) as agent:
        assert agent.stdout is not None
        pid = int(agent.stdout.readline())
        assert is_alive(pid)
        agent.kill()
    end = time.monotonic() + 10
    while is_alive(pid) and time.monotonic() < end:
        time.sleep(0.005)
    assert not is_alive(pid)


@as_root
async def test_as_another_user_nothing_of_root_is_left() -> None:
    done = await process.run(
        ["sh", "-c", "id -u; id -g; id -G; grep CapEff /proc/self/status"], user=NOBODY, deadline=10
    )
    assert done.stdout.decode().split() == ["65534", "65534", "65534", "CapEff:", "0000000000000000"]
    done = await process.run(["id", "-G"], user=NOBODY, groups=(65534, 4, 24), deadline=10)
    assert sorted(done.stdout.split()) == [b"24", b"4", b"65534"]


async def test_limits_bind() -> None:
    limits = process.Limits(open_files=17, memory_bytes=512 * 1024 * 1024, cpu_seconds=1, file_bytes=1024)
    done = await process.run(["sh", "-c", "ulimit -n; ulimit -v; ulimit -f"], limits=limits, deadline=10)
    assert done.stdout.split() == [b"17", b"524288", b"2"]
    done = await process.run(["sh", "-c", "while :; do :; done"], limits=limits, deadline=30)
    assert done.code in {-signal.SIGKILL, -signal.SIGXCPU}


async def test_a_token_is_handed_over_by_descriptor() -> None:
    token = process.readable(b"hunter22")
    other = process.readable(b"not for you")
    try:
        script = f"cat <&{token}; cat /dev/fd/{token}; [ -e /dev/fd/{other} ] || echo; tr '\\0' ' ' </proc/$$/environ"
        done = await process.run(["bash", "-c", script], descriptors=[token], deadline=10)
    finally:
        os.close(token)
        os.close(other)
    said, environment = done.stdout.decode().split("\n")
    assert said == "hunter22hunter22"
    assert "hunter22" not in environment


async def test_many_at_once_all_end() -> None:
    done = await asyncio.gather(*(process.run(["sh", "-c", f"exit {number}"], deadline=30) for number in range(30)))
    assert [each.code for each in done] == list(range(30))


@given(st.lists(st.binary(max_size=40), max_size=40), st.integers(1, 50))
def test_a_tail_is_the_end_of_everything(parts: list[bytes], longest: int) -> None:
    tail = process_output.Tail(longest)
    for part in parts:
        tail.add(part)
    everything = b"".join(parts)
    assert tail.bytes() == everything[-longest:]
    assert tail.truncated == (len(everything) > longest)


@given(st.lists(st.sampled_from([b"a", b"bc", b"\n", b"\r", b"\r\n", b"", b"x" * 70_000]), max_size=20))
def test_lines_are_the_same_however_they_are_cut(parts: list[bytes]) -> None:
    whole, cut = list[str](), list[str]()
    at_once, in_parts = process_output.Lines(whole.append), process_output.Lines(cut.append)
    at_once.add(b"".join(parts))
    at_once.end()
    for part in parts:
        in_parts.add(part)
    in_parts.end()
    text = b"".join(parts).decode()
    assert "".join(whole) == "".join(cut) == text.replace("\r", "").replace("\n", "")
    assert all(line and len(line) <= process_output.LINE_MAX for line in cut)
