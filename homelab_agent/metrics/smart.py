"""What disks say of their own health: one smartctl(8) per disk, which wakes none; run by the root half alone.

A disk that sleeps is left alone: the kernel's own word for it is read first, and smartctl asks for the power mode
before anything else (`--nocheck=standby`; ATA's CHECK POWER MODE spins nothing up). The names of the JSON are those of
smartmontools 7.0 to 7.5.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping, Sequence
from typing import Any, TypeAlias

from homelab_agent.core import process
from homelab_agent.core.errors import AgentError
from homelab_agent.metrics import block
from homelab_agent.metrics.host import Host, text
from homelab_agent.metrics.settings import MetricsSettings

VERB = "metrics_disks"
ASLEEP_CODE = 3
"""What smartctl is told to exit with when a disk sleeps; nothing else makes it: bits 0 and 1 exclude each other."""
DEADLINE_SECONDS = 30.0
"""For one disk: a SATA command may be retried for that long."""
_ARGUMENTS = ("--json=c", f"--nocheck=standby,{ASLEEP_CODE}", "--info", "--health", "--attributes")
_UNIT_BYTES = 512_000
"""NVMe counts thousands of 512 bytes (NVM Express Base Specification, SMART / Health Information Log)."""
_COUNT = 0xFFFF_FFFF
"""Above the low 32 bits vendors keep other counts in a raw value."""
_REMAINING = (231, 233, 177, 202, 173)
"""Attributes of SSDs whose normalised value is what is left of their life in per cent, the best known first."""

Said: TypeAlias = Mapping[str, bool | int | float | str | None]


class NoSmartctl(AgentError):
    """smartctl is not installed."""

    repair = "apt install smartmontools"


async def read(host: Host, settings: MetricsSettings) -> Mapping[str, Said]:
    """Return what each disk to show says, by kernel name: see `said`. Raises `NoSmartctl`."""
    return {name: await ask(host, name) for name in await asyncio.to_thread(disks, host, settings)}


def disks(host: Host, settings: MetricsSettings) -> Sequence[str]:
    """Return the kernel names of what may have such a health: whole disks that a device is behind. Blocking."""
    return [
        name
        for name in block.names(host)
        if (block.directory(host, name) / "device").exists() and block.is_shown(name, settings)
    ]


async def ask(host: Host, name: str) -> Said:
    """Return what one disk says, by its kernel name. Raises `NoSmartctl`."""
    if await asyncio.to_thread(text, block.directory(host, name) / "device/power/runtime_status") == "suspended":
        return {"asleep": True}
    try:
        done = await process.run(["smartctl", *_ARGUMENTS, f"/dev/{name}"], deadline=DEADLINE_SECONDS)
    except process.ProgramMissing as error:
        raise NoSmartctl from error
    except process.DeadlinePassed as error:
        return {"cause": str(error)}
    return {"asleep": True} if done.code == ASLEEP_CODE else said(done.stdout)


def said(printed: bytes) -> Said:
    """Return what smartctl's JSON says of a disk, and None for what it does not.

    `passed` is the disk's own verdict; `warnings` are NVMe's bits. `celsius`, `powered_s` (how long it was on, in
    seconds), `power_cycles`, `wear_pct` (100: what it was made for is used up; may be more), `spare_pct`,
    `written_bytes`, `read_bytes`; counted in sectors `reallocated`, `pending`, `uncorrectable`; in times `crc_errors`.
    `cause` says why nothing is known.
    """
    try:
        found = json.loads(printed)
    except (ValueError, RecursionError):
        found = None
    if not isinstance(found, dict):
        return {"cause": "smartctl did not answer in JSON"}
    passed = _at(found, "smart_status", "passed")
    if not isinstance(passed, bool) and "temperature" not in found:
        return {"cause": _complaint(found)}
    hours = _number(found, "power_on_time", "hours")
    return {
        "asleep": False,
        "model": str(found.get("model_name", ""))[:100],
        "passed": passed if isinstance(passed, bool) else None,
        "celsius": _number(found, "temperature", "current"),
        "powered_s": None if hours is None else hours * 3600,
        "power_cycles": _number(found, "power_cycle_count"),
        **(_nvme(found) if "nvme_smart_health_information_log" in found else _ata(found)),
    }


def _nvme(found: Mapping[str, Any]) -> Said:
    log = "nvme_smart_health_information_log"
    read, written = _number(found, log, "data_units_read"), _number(found, log, "data_units_written")
    return {
        "warnings": _number(found, log, "critical_warning"),
        "wear_pct": _number(found, log, "percentage_used"),
        "spare_pct": _number(found, log, "available_spare"),
        "read_bytes": None if read is None else read * _UNIT_BYTES,
        "written_bytes": None if written is None else written * _UNIT_BYTES,
        "reallocated": None,
        "pending": None,
        "uncorrectable": _number(found, log, "media_errors"),
        "crc_errors": None,
    }


def _ata(found: Mapping[str, Any]) -> Said:
    """Return what an ATA disk's attributes say, or a SCSI disk's pages: the one has not what the other has."""
    table = _at(found, "ata_smart_attributes", "table")
    attributes = {one.get("id"): one for one in table if isinstance(one, dict)} if isinstance(table, list) else {}
    block = _number(found, "logical_block_size") or 512
    used = _number(found, "endurance_used", "current_percent")
    if used is None:
        used = _number(found, "scsi_percentage_used_endurance_indicator")
    left = next((value for one in _REMAINING if (value := _number(attributes, one, "value")) is not None), None)
    is_solid = found.get("rotation_rate") == 0
    return {
        "warnings": None,
        "wear_pct": used if used is not None or left is None or not is_solid else max(0, 100 - left),
        "spare_pct": _number(found, "spare_available", "current_percent"),
        "read_bytes": _transferred(attributes, 242, block),
        "written_bytes": _transferred(attributes, 241, block),
        "reallocated": _first(_raw(attributes, 5), _number(found, "scsi_grown_defect_list")),
        "pending": _raw(attributes, 197),
        "uncorrectable": _first(_raw(attributes, 198), _uncorrected(found)),
        "crc_errors": _raw(attributes, 199),
    }


def _transferred(attributes: Mapping[Any, Any], number: int, block: int) -> int | None:
    """Return how much an SSD has written or read in bytes, where its attribute's name says what it counts."""
    raw, name = _number(attributes, number, "raw", "value"), str(_at(attributes, number, "name") or "")
    units = {"LBAs_Written": block, "LBAs_Read": block, "GiB": 2**30, "32MiB": 2**25}
    unit = next((size for ending, size in units.items() if name.endswith(ending)), None)
    return None if raw is None or unit is None else raw * unit


def _uncorrected(found: Mapping[str, Any]) -> int | None:
    log = "scsi_error_counter_log"
    counts = [_number(found, log, way, "total_uncorrected_errors") for way in ("read", "write", "verify")]
    known = [count for count in counts if count is not None]
    return sum(known) if known else None


def _complaint(found: Mapping[str, Any]) -> str:
    messages = _at(found, "smartctl", "messages")
    words = (
        [str(one.get("string", "")) for one in messages if isinstance(one, dict)] if isinstance(messages, list) else []
    )
    return "; ".join(filter(None, words))[:300] or "smartctl tells nothing of its health"


def _raw(attributes: Mapping[Any, Any], number: int) -> int | None:
    value = _number(attributes, number, "raw", "value")
    return None if value is None else value & _COUNT


def _first(*values: int | None) -> int | None:
    return next((value for value in values if value is not None), None)


def _number(found: Mapping[Any, Any], *path: object) -> int | None:
    """Return the whole number at a path, None where there is none."""
    value = _at(found, *path)
    return int(value) if isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < 2**63 else None


def _at(found: object, *path: object) -> Any:
    for key in path:
        if not isinstance(found, dict):
            return None
        found = found.get(key)
    return found
