"""What would be read is measured as tar reads it, within bounds."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from homelab_agent.backup import sizes
from homelab_agent.backup.point import Source
from homelab_agent.backup.sizes import Size

BLOCK = 4096


async def measured(source: Source) -> Size:
    return (await sizes.sizes([source]))[source.path]


def fill(path: Path, count: int = BLOCK) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(os.urandom(count))
    return path


async def test_holes_and_second_links_are_not_read(tmp_path: Path) -> None:
    first = fill(tmp_path / "a/first", 3 * BLOCK)
    (tmp_path / "second").hardlink_to(first)
    with (tmp_path / "sparse").open("wb") as file:
        file.truncate(1 << 40)
    (tmp_path / "away").symlink_to("/")
    found = await measured(Source("paths/x", tmp_path))
    assert found == Size(3 * BLOCK, files=5), "two of them are directories"


async def test_what_is_left_out_is_not_measured(tmp_path: Path) -> None:
    fill(tmp_path / "kept/file")
    fill(tmp_path / "deep/cache/big", 50 * BLOCK)
    fill(tmp_path / "cache/big", 50 * BLOCK)
    fill(tmp_path / "tagged/big", 50 * BLOCK)
    fill(tmp_path / "tagged/CACHEDIR.TAG", 10)
    fill(tmp_path / "kept/.homelab-agent-undo-id-name/big", 50 * BLOCK)
    source = Source("paths/x", tmp_path, ["**/cache/**"], exclude_caches=True)
    assert (await measured(source)).bytes == BLOCK


async def test_a_file_is_measured_and_none_is_said_to_be_missing(tmp_path: Path) -> None:
    file = fill(tmp_path / "file", 2 * BLOCK)
    assert await measured(Source("paths/x", file)) == Size(2 * BLOCK, 1)
    assert (await measured(Source("paths/x", tmp_path / "none"))).missing


async def test_a_walk_ends_with_its_time(tmp_path: Path) -> None:
    fill(tmp_path / "file")
    found = await sizes.sizes([Source("paths/x", tmp_path)], seconds=-1)
    assert not found[tmp_path].complete


@pytest.mark.parametrize(
    ("glob", "path", "fits"),
    [
        ("**/cache/**", "cache/x", True),
        ("**/cache/**", "a/b/cache/c/d", True),
        ("**/cache/**", "a/cachet/x", False),
        ("*.log", "x.log", True),
        ("*.log", "a/x.log", False),
        ("**/*.log", "a/x.log", True),
        ("a/?.txt", "a/b.txt", True),
        ("a/?.txt", "a/bb.txt", False),
        ("a+b", "a+b", True),
        ("db/**", "db/line\nbreak", True),
    ],
)
def test_a_glob_fits_paths_below_its_source(glob: str, path: str, fits: bool) -> None:  # noqa: FBT001
    pattern = sizes.excluded((glob,))
    assert pattern is not None
    assert bool(pattern.fullmatch(path)) == fits
