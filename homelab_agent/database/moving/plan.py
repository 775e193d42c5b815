"""What a move would do, in words: how much there is, what is there already, what the target is."""

from __future__ import annotations

from collections.abc import Sequence

from homelab_agent.database import info
from homelab_agent.database.address import Address
from homelab_agent.database.editions import Edition
from homelab_agent.database.moving import records
from homelab_agent.database.moving.course import Course
from homelab_agent.database.moving.side import Side


def head(source: Side, edition: Edition, address: Address, missing: int) -> Sequence[str]:
    """Return the lines that say from where to where."""
    first = f"from  {source.where.shown}: {source.edition}"
    second = f"to    {address.shown}: {edition}" + (f", {missing} migrations to be applied" if missing else "")
    return [first, second]


async def tell(course: Course) -> Sequence[str]:
    """Return a line for each table that has rows, and one for all; nothing is changed."""
    await course.look()
    source, target = course.source, course.target
    sizes = {one.name: one.bytes for one in (await info.read(source.connection, source.edition)).tables}
    there = {table.name for table in target.records} | {each.name for each in target.series}
    there |= {stretch.name for stretch in course.stretches if stretch.is_rollup and _made(stretch.name, there, target)}
    lines: list[tuple[str, int, int]] = []
    for table in source.records:
        if table.name in there:
            held, other = await records.differing(source, target, table)
        else:
            held = other = int(await source.connection.fetchval(f"SELECT count(*) FROM {table.target}"))  # noqa: S608
        lines.append((table.name, held, other))
    for stretch in course.stretches:
        counted = await stretch.count(source, all_subjects=True)
        held = sum(rows for rows, _ in counted.values())
        difference = (await stretch.compare(source, target)).rows if stretch.name in there else held
        lines.append((stretch.name, held, difference))
    whole = (sum(held for _, held, _ in lines), sum(other for _, _, other in lines))
    size = sum(sizes.get(name, 0) for name, _, _ in lines)
    shown = [
        f"{name:32} {held:>14,} rows  {other:>14,} to be copied  {sizes.get(name, 0) / 2**20:>9.1f} MiB"
        for name, held, other in lines
        if held
    ]
    return [*shown, f"{'in all':32} {whole[0]:>14,} rows  {whole[1]:>14,} to be copied  {size / 2**20:>9.1f} MiB"]


def _made(rollup: str, there: set[str], target: Side) -> bool:
    return any(each.name in there and rollup.startswith(f"{each.family}_1") for each in target.series)
