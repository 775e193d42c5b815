"""Disks as smartctl tells of them, and a stand-in for it on a test's PATH: no machine of ours has such disks."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

ASLEEP = 3


def attribute(number: int, name: str, raw: int, value: int = 100) -> dict[str, Any]:
    """Return one row of an ATA disk's table."""
    return {"id": number, "name": name, "value": value, "worst": value, "thresh": 1, "raw": {"value": raw}}


def nvme(**log: int) -> dict[str, Any]:
    """Return what an NVMe disk says."""
    health = {
        "critical_warning": 0, "temperature": 36, "available_spare": 100, "available_spare_threshold": 10,
        "percentage_used": 3, "data_units_read": 9511859, "data_units_written": 7773431, "media_errors": 0, **log,
    }  # fmt: skip
    return {
        "device": {"name": "/dev/nvme0", "type": "nvme", "protocol": "NVMe"},
        "model_name": "A Model 1TB",
        "logical_block_size": 512,
        "smart_status": {"passed": health["critical_warning"] == 0, "nvme": {"value": health["critical_warning"]}},
        "nvme_smart_health_information_log": health,
        "temperature": {"current": health["temperature"]},
        "power_cycle_count": 266,
        "power_on_time": {"hours": 2401},
    }


def ata(*attributes: dict[str, Any], passed: bool = True, rotation_rate: int = 5400) -> dict[str, Any]:
    """Return what a SATA disk says."""
    return {
        "device": {"name": "/dev/sdb", "type": "sat", "protocol": "ATA"},
        "model_name": "A Disk 14TB",
        "logical_block_size": 512,
        "rotation_rate": rotation_rate,
        "smart_status": {"passed": passed},
        "ata_smart_attributes": {"revision": 16, "table": list(attributes)},
        "power_on_time": {"hours": 1730},
        "power_cycle_count": 9,
        "temperature": {"current": 32},
    }


def sas() -> dict[str, Any]:
    """Return what a SAS disk says."""
    counts = {"gigabytes_processed": "176987.332", "total_uncorrected_errors": 2}
    return {
        "device": {"name": "/dev/sdg", "type": "scsi", "protocol": "SCSI"},
        "model_name": "A Disk 4TB",
        "smart_status": {"passed": True},
        "temperature": {"current": 34, "drive_trip": 68},
        "scsi_grown_defect_list": 56,
        "power_on_time": {"hours": 43549, "minutes": 33},
        "scsi_error_counter_log": {"read": counts, "write": {**counts, "total_uncorrected_errors": 1}},
    }


def silent() -> dict[str, Any]:
    """Return what smartctl says of a disk that it cannot ask."""
    words = [{"string": "/dev/vda: Unable to detect device type", "severity": "error"}]
    return {"smartctl": {"messages": words, "exit_status": 1}}


def stand_in(directory: Path, answers: Mapping[str, tuple[int, Mapping[str, Any]]]) -> Path:
    """Write a `smartctl` that answers so, by kernel name: exit code and JSON; return its log of what was asked."""
    directory.mkdir(parents=True, exist_ok=True)
    log = directory / "asked"
    log.touch()
    cases = []
    for name, (code, said) in answers.items():
        (directory / f"{name}.json").write_text(json.dumps(said))
        cases.append(f"/dev/{name}) cat {directory}/{name}.json; exit {code} ;;")
    program = directory / "smartctl"
    lines = ["#!/bin/sh", f'echo "$*" >>{log}', "for last; do :; done", 'case "$last" in', *cases, "esac", "exit 2"]
    program.write_text("\n".join([*lines, ""]))
    program.chmod(0o755)
    return log
