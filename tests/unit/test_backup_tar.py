"""A stream of tar as it is read here: what tarfile writes and reads the same, and what is refused."""

from __future__ import annotations

import io
import tarfile
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from homelab_agent.backup.archive import tar
from homelab_agent.backup.archive.sparse import Expansion

NAMES = st.text(st.characters(exclude_characters="\0", codec="utf-8"), min_size=1, max_size=150)
CONTENTS = st.binary(max_size=2000)


def entry(name: str = "volumes/v/f", **fields: object) -> tarfile.TarInfo:
    made = tarfile.TarInfo(name)
    for field, value in fields.items():
        setattr(made, field, value)
    return made


def stream(*members: tuple[tarfile.TarInfo, bytes]) -> bytes:
    return b"".join(
        one.tobuf(tarfile.PAX_FORMAT) + content + bytes(-len(content) % tar.BLOCK) for one, content in members
    ) + bytes(2 * tar.BLOCK)


def pieces_of(data: bytes, size: int) -> Callable[[int], bytes]:
    """Return a source that gives at most `size` bytes at once."""
    file = io.BytesIO(data)
    return lambda wanted: file.read(min(size, wanted))


def told(data: bytes, piece: int = tar.CHUNK) -> list[tuple[str, str, str, bytes]]:
    reader = tar.Reader(pieces_of(data, piece))
    found = []
    for one in reader.entries():
        content = b"".join(map(bytes, reader.content()))
        assert len(content) % tar.BLOCK == 0
        found.append((one.name, one.type, one.target, content[: one.stored]))
    assert reader.taken == len(data)
    return found


@given(files=st.lists(st.tuples(NAMES, CONTENTS), max_size=5), piece=st.integers(1, 3000))
def test_what_tarfile_writes_is_read(files: list[tuple[str, bytes]], piece: int) -> None:
    named = [(f"volumes/{name}", content) for name, content in files]
    data = stream(*((entry(name, size=len(content), mtime=1.5), content) for name, content in named))
    assert told(data, piece) == [(name, tar.FILE, "", content) for name, content in named]


def test_links_folders_and_nodes_are_told_apart() -> None:
    kinds = [tarfile.LNKTYPE, tarfile.SYMTYPE, tarfile.CHRTYPE, tarfile.BLKTYPE, tarfile.DIRTYPE, tarfile.FIFOTYPE]
    long = "to/" + "long" * 100
    data = stream(*((entry(type=kind, linkname=long), b"") for kind in kinds))
    assert [(type_, target) for _, type_, target, _ in told(data)] == [
        (tar.LINK, long),
        (tar.SYMLINK, long),
        (tar.CHARACTERS, ""),
        (tar.BLOCKS, ""),
        (tar.FOLDER, ""),
        (tar.FIFO, ""),
    ]


def test_content_that_nobody_takes_is_passed_over() -> None:
    reader = tar.Reader(pieces_of(stream((entry(size=4000), bytes(4000)), (entry("volumes/b"), b"")), 100))
    assert [one.name for one in reader.entries()] == ["volumes/v/f", "volumes/b"]


ONE = stream((entry(size=5), b"hello"))
REFUSED: dict[str, bytes] = {
    "nothing": b"",
    "no end": ONE[:-1024],
    "half an end": ONE[:-512],
    "a damaged end": ONE[:-1] + b"x",
    "something after its end": ONE + bytes(512) + b"x" + bytes(511),
    "half a header": ONE[:100],
    "half a content": ONE[:515],
    "a flipped bit": bytes([ONE[0] ^ 1]) + ONE[1:],
    "a checksum that is another": ONE[:148] + b"0000000\0" + ONE[156:],
    "an old format": entry(size=0).tobuf(tarfile.GNU_FORMAT) + bytes(1024),
    "a long name of GNU's": entry("volumes/" + "x" * 200).tobuf(tarfile.GNU_FORMAT) + bytes(1024),
    "a size in another base": entry(size=1 << 40).tobuf(tarfile.GNU_FORMAT) + bytes(1024),
    "an unknown type": stream((entry(type=b"7"), b"")),
    "a dump of a folder": stream((entry(type=b"D"), b"")),
    "a second volume": stream((entry(type=b"M"), b"")),
    "a global header": tarfile.TarInfo.create_pax_global_header({"path": "volumes/else"}) + ONE,
    "a link with content": stream((entry(type=tarfile.SYMTYPE, linkname="x", size=512), bytes(512))),
    "a key that is not known": stream((entry(pax_headers={"GNU.volume.label": "x"}), b"")),
    "another size": stream((entry(size=5, pax_headers={"size": "-1"}), b"hello")),
    "a sparse file of old": stream((entry(pax_headers={"GNU.sparse.map": "0,1", "GNU.sparse.size": "1"}), b"")),
    "a sparse file without a size": stream(
        (entry(pax_headers={"GNU.sparse.major": "1", "GNU.sparse.minor": "0"}), b"")
    ),
    "a name with a zero byte": stream((entry(pax_headers={"path": "volumes/a\0/../../b"}), b"")),
    "no name": stream((entry(""), b"")),
}


@pytest.mark.parametrize("which", REFUSED)
def test_what_two_programs_could_take_for_two_things_is_damage(which: str) -> None:
    with pytest.raises(tar.Damaged, match="at byte"):
        told(REFUSED[which])


def test_a_key_that_is_said_twice_is_damage() -> None:
    records = b"21 path=volumes/one1\n21 path=volumes/two2\n"
    header = entry("x", size=len(records), type=b"x").tobuf(tarfile.USTAR_FORMAT)
    with pytest.raises(tar.Damaged, match="b'path'"):
        told(header + records + bytes(-len(records) % 512) + ONE)


@given(data=st.data())
def test_rubbish_is_damage_and_nothing_else(data: st.DataObject) -> None:
    whole = stream(
        (entry("volumes/" + "x" * 200, size=700, mtime=1.5), bytes(700)), (entry(type=b"2", linkname="y"), b"")
    )
    damaged = bytearray(whole)
    for place, byte in data.draw(st.lists(st.tuples(st.integers(0, len(whole) - 1), st.integers(0, 255)), max_size=4)):
        damaged[place] = byte
    cut = data.draw(st.integers(0, len(whole)))
    try:
        told(bytes(damaged[:cut]))
    except tar.Damaged:
        pass
    else:
        assert cut == len(whole)


@given(header=st.binary(min_size=512, max_size=512) | st.just(b"\xff" * 512) | st.just(bytes(512)))
def test_a_header_is_added_up_as_its_bytes_are(header: bytes) -> None:
    assert tar._sum(header) == sum(header[:148]) + sum(b" " * 8) + sum(header[156:])


def packed(parts: list[tuple[int, bytes]]) -> bytes:
    """Return what tar stores of a sparse file."""
    numbers = [len(parts), *(number for offset, part in parts for number in (offset, len(part)))]
    lines = b"".join(b"%d\n" % number for number in numbers)
    return lines + bytes(-len(lines) % tar.BLOCK) + b"".join(part for _, part in parts)


def expanded(stored: bytes, size: int, piece: int) -> bytes:
    found = bytearray()
    expansion = Expansion("f", size, found.extend)
    for place in range(0, len(stored), piece):
        expansion.take(memoryview(stored)[place : place + piece])
    expansion.end()
    return bytes(found)


@given(
    parts=st.lists(st.tuples(st.integers(0, 5000), st.binary(max_size=1500)), max_size=120),
    piece=st.integers(1, 5000),
    rest=st.integers(0, 3_000_000),
)
def test_holes_are_zeros(parts: list[tuple[int, bytes]], piece: int, rest: int) -> None:
    whole, laid_out = bytearray(), []
    for hole, part in parts:
        whole += bytes(hole)
        laid_out.append((len(whole), part))
        whole += part
    whole += bytes(rest)
    assert expanded(packed(laid_out), len(whole), piece) == whole


@pytest.mark.parametrize(
    "stored",
    [
        b"",
        b"1\n0\n",
        bytes(512),
        b"x\n" + bytes(510),
        b"1\n0\n-1\n" + bytes(504),
        packed([(0, b"ab"), (1, b"c")]),
        packed([(9, b"ab")]),
        packed([(0, b"ab")])[:-1],
        packed([(0, b"ab")]) + b"c",
        b"9" * 30 + b"\n" + bytes(481),
        b"999999999999\n" * 100,
        b"9999999\n" + b"1\n" * 1000,
    ],
    ids=range(12),
)
def test_a_map_that_makes_no_sense_is_damage(stored: bytes) -> None:
    with pytest.raises(tar.Damaged, match="the sparse file f"):
        expanded(stored, 10, 100_000)
