"""The frame with an archive's manifest: its lines come back one by one, or it says that they are damaged."""

from __future__ import annotations

import io
import tempfile

import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st

from homelab_agent.backup.archive import appendix
from homelab_agent.backup.archive.appendix import Appendix, Held

LINES = st.lists(st.binary(max_size=300).map(lambda text: text.replace(b"\n", b"") + b"\n"), max_size=20)
BEFORE = zstandard.ZstdCompressor().compress(b"what is before it")


def written(lines: list[bytes]) -> bytes:
    with tempfile.TemporaryFile() as file:
        file.write(BEFORE)
        file.flush()
        frame = Appendix(file, len(BEFORE))
        for line in lines:
            frame.add(line)
        length = frame.close()
        assert frame.is_what_is_read(appendix.found(file)) or not lines[-1].endswith(b"\n")
        file.seek(0)
        whole = file.read()
    assert length == len(whole) - len(BEFORE)
    return whole


def read(whole: bytes) -> tuple[Held | None, list[bytes]]:
    with tempfile.TemporaryFile() as file:
        file.write(whole)
        file.flush()
        held = appendix.found(file)
        return held, [] if held is None else list(held.lines())


@given(lines=LINES)
def test_lines_come_back_and_zstd_passes_over_them(lines: list[bytes]) -> None:
    whole = written(lines)
    held, found = read(whole)
    assert held is not None
    assert (held.begin, found) == (len(BEFORE), lines)
    stream = zstandard.ZstdDecompressor().stream_reader(io.BytesIO(whole), read_across_frames=True)
    assert stream.read() == b"what is before it"


def test_a_long_line_and_many_come_back() -> None:
    lines = [b"%d\n" % number for number in range(30_000)]
    lines[7:7] = [b"long" * 500_000 + b"\n"]
    assert read(written(lines))[1] == lines


LINE = b"a line that is there\n"
WHOLE = written([LINE] * 3)


@given(place=st.integers(len(BEFORE), len(WHOLE) - 1), bit=st.integers(0, 7))
def test_no_flipped_bit_gives_other_lines(place: int, bit: int) -> None:
    damaged = bytearray(WHOLE)
    damaged[place] ^= 1 << bit
    try:
        held, found = read(bytes(damaged))
    except ValueError:
        return
    assert held is None or found in ([], [LINE] * 3), "others, or not all of them"


@pytest.mark.parametrize("length", [0, 5, 20, len(BEFORE), len(WHOLE) - 1])
def test_where_it_is_cut_there_is_none(length: int) -> None:
    assert read(WHOLE[:length])[0] is None


def test_what_ends_in_the_middle_of_a_line_is_damaged() -> None:
    with pytest.raises(ValueError, match="middle of a line"):
        read(written([b"no end"]))


def test_a_line_that_does_not_end_is_not_held_in_memory() -> None:
    with pytest.raises(ValueError, match="does not end"):
        read(written([bytes(200_000_000)]))


def test_lines_that_were_not_written_so_are_others() -> None:
    with tempfile.TemporaryFile() as file:
        frame = Appendix(file, 0)
        frame.add(b"one\n")
        frame.close()
        other = Appendix(file, 1000)
        other.add(b"other\n")
        other.close()
        assert not frame.is_what_is_read(appendix.found(file))
        assert not frame.is_what_is_read(None)
