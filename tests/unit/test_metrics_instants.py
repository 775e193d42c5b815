"""A sample's time is unique per host, across set clocks and restarts."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

from hypothesis import example, given
from hypothesis import strategies as st

from homelab_agent.core import timekeeping
from homelab_agent.core.clock import Instant
from homelab_agent.core.state import State
from homelab_agent.metrics import instants
from homelab_agent.metrics.instants import AHEAD_SECONDS, HighWater, Instants
from tests.clock import MovableClock

NOON = datetime(2026, 11, 24, 12, tzinfo=UTC)
SCHEMA = Path(instants.__file__).parent / "schema/state.sql"


def at(seconds: float, boot: float = 5000.0) -> Instant:
    return Instant(NOON + timedelta(seconds=seconds), boot, boot)


def test_a_time_used_before_moves_to_the_next_free_millisecond() -> None:
    times = Instants(HighWater(), at(0), "boot")
    first = [times.free(NOON + timedelta(seconds=10 * n)) for n in range(4)]
    assert [moved for _, moved in first] == [0, 0, 0, 0]
    again = [times.free(NOON + timedelta(seconds=10 * n)) for n in range(4)]
    assert again == [(NOON + timedelta(seconds=10 * n, milliseconds=1), 1) for n in range(4)]
    assert times.free(NOON + timedelta(seconds=40)) == (NOON + timedelta(seconds=40), 0)
    third = times.free(NOON + timedelta(seconds=20))
    assert third == (NOON + timedelta(seconds=20, milliseconds=2), 2)


@given(st.lists(st.tuples(st.integers(-500, 500), st.booleans(), st.booleans()), max_size=60))
@example([(0, False, False), (-11, False, True), (-9, False, False)])
def test_no_time_is_given_out_twice_whatever_the_clock_and_the_process_do(
    moves: list[tuple[int, bool, bool]],
) -> None:
    """Each move is a step of the clock in seconds, then a sample, then perhaps a kill or an orderly restart."""
    wall, boot, kept = 0.0, 1000.0, HighWater()
    times = Instants(kept, at(wall, boot), "boot")
    given_out: list[datetime] = []
    for step, killed, restarted in moves:
        wall, boot = wall + 10 + step, boot + 10
        now = at(wall, boot)
        given_out.append(times.free(now.wall)[0])
        if (high_water := times.due_high_water(now)) is not None:
            kept = high_water
            times = _written(times, high_water)
        if killed or restarted:
            kept = times.last_high_water(now) if restarted else kept
            times = Instants(kept, now, "boot")
    assert len(set(given_out)) == len(given_out)


def _written(times: Instants, high_water: HighWater) -> Instants:
    times._written = high_water
    return times


def test_a_kill_without_a_set_clock_moves_no_time() -> None:
    kept = HighWater(int(NOON.timestamp()), int(at(AHEAD_SECONDS).wall.timestamp()), 0, "boot", NOON.timestamp() - 5000)
    times = Instants(kept, at(30, boot=5030), "boot")
    assert times.free(NOON + timedelta(seconds=40))[1] == 0


def test_after_a_power_cut_times_that_may_have_been_used_are_moved() -> None:
    kept = HighWater(int(NOON.timestamp()), int(at(AHEAD_SECONDS).wall.timestamp()), 0, "boot", NOON.timestamp() - 5000)
    times = Instants(kept, at(30, boot=20), "another boot")
    assert times.free(NOON + timedelta(seconds=40))[1] == 1
    assert times.free(NOON + timedelta(seconds=AHEAD_SECONDS + 10))[1] == 0


def test_the_mark_is_written_rarely() -> None:
    times = Instants(HighWater(), at(0), "boot")
    written = 0
    for n in range(8640):
        now = at(10.0 * n, boot=5000 + 10.0 * n)
        times.free(now.wall)
        if (high_water := times.due_high_water(now)) is not None:
            written += 1
            times = _written(times, high_water)
    assert written <= 24 * 7


async def test_the_mark_survives_a_restart(tmp_path: Path) -> None:
    state = await State.open(tmp_path, [SCHEMA], clock=MovableClock())
    times = await instants.resume(state, at(0))
    times.free(NOON)
    await times.keep(times.last_high_water(at(0)), state)
    await state.close()
    state = await State.open(tmp_path, [SCHEMA], clock=MovableClock())
    later = await instants.resume(state, at(-3600, boot=5010))
    assert later.free(NOON - timedelta(hours=1))[1] == 1
    assert later.free(NOON + timedelta(seconds=10))[1] == 0
    await state.close()


def test_a_sample_from_before_the_clock_was_set_is_stamped_from_boot_time() -> None:
    sampled = Instant(datetime(1970, 1, 1, 0, 1, tzinfo=UTC), 60.0, 60.0)
    assert instants.from_boot(sampled, at(0, boot=95.0)) == NOON - timedelta(seconds=35)


def test_samples_wait_for_the_clock_for_five_minutes_after_boot_at_most() -> None:
    assert not instants.may_stamp(at(0, boot=299), synchronised=False)
    assert instants.may_stamp(at(0, boot=299), synchronised=True)
    assert instants.may_stamp(at(0, boot=300), synchronised=False)


def test_the_kernel_is_asked_whether_the_clock_is_kept(tmp_path: Path) -> None:
    """Cross-checked with the kernel's answer through another door where this host has one."""
    marker = tmp_path / "synchronized"
    alone = timekeeping.synchronised(marker)
    marker.touch()
    assert timekeeping.synchronised(marker)
    assert alone in {True, False}
