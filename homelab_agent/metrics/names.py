"""What each column is called in `GET /metrics`, with which labels.

As in node_exporter, of containers as in cAdvisor; else our own.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from homelab_agent.core.spool import Scalar
from homelab_agent.metrics.collectors.cpu import MODES
from homelab_agent.metrics.sample import Reading

_UNFIT = re.compile(r"[^a-z0-9:_]")
_PAGE = os.sysconf("SC_PAGE_SIZE")


@dataclass(frozen=True, slots=True)
class Metric:
    """One metric family: `columns` with the labels each adds; values are divided by `divisor`.

    `without` names the label of its family that it has not.
    """

    name: str
    type: str
    help: str
    columns: Sequence[tuple[str, str]]
    divisor: int = 1
    without: str = ""


@dataclass(frozen=True, slots=True)
class Label:
    """One label of all a family's lines: what it says is `written` of the reading's `source`, and of nothing else."""

    name: str
    source: Callable[[Reading], Scalar]
    written: Callable[[Scalar], str] = str


def _gauge(name: str, column: str, text: str) -> Metric:
    return Metric(name, "gauge", text, ((column, ""),))


def _counter(name: str, column: str, text: str, divisor: int = 1) -> Metric:
    return Metric(name, "counter", text, ((column, ""),), divisor)


def _memory(field: str, column: str) -> Metric:
    return _gauge(f"node_memory_{field}_bytes", column, f"Memory information field {field}.")


def _vmstat(name: str, column: str, divisor: int = 1) -> Metric:
    text = f"/proc/vmstat information field {name.removeprefix('node_vmstat_')}."
    return Metric(name, "untyped", text, ((column, ""),), divisor)


_HOST = (
    _counter("node_context_switches_total", "context_switches", "Context switches."),
    _counter("node_forks_total", "forks", "Forks."),
    _counter("node_intr_total", "interrupts", "Interrupts serviced."),
    _gauge("node_procs_running", "runnable", "Processes in runnable state."),
    _gauge("node_procs_blocked", "blocked", "Processes blocked waiting for I/O to complete."),
)
_CORE = (
    Metric(
        "node_cpu_seconds_total",
        "counter",
        "Seconds the CPUs spent in each mode.",
        tuple((f"{mode}_s", f'mode="{mode}"') for mode in MODES[:8]),
    ),
    Metric(
        "node_cpu_guest_seconds_total",
        "counter",
        "Seconds the CPUs spent in guests for each mode.",
        (("guest_s", 'mode="user"'), ("guest_nice_s", 'mode="nice"')),
    ),
)
_MEMORY = (
    _memory("MemTotal", "total_bytes"),
    _memory("MemFree", "free_bytes"),
    _memory("MemAvailable", "available_bytes"),
    _memory("Buffers", "buffers_bytes"),
    _memory("Cached", "cached_bytes"),
    _memory("Shmem", "shared_bytes"),
    _memory("Slab", "slab_bytes"),
    _memory("Dirty", "dirty_bytes"),
    _memory("Writeback", "writeback_bytes"),
    _memory("SwapTotal", "swap_total_bytes"),
    _memory("SwapFree", "swap_free_bytes"),
    _memory("SwapCached", "swap_cached_bytes"),
    _vmstat("node_vmstat_pswpin", "swap_in_bytes", _PAGE),
    _vmstat("node_vmstat_pswpout", "swap_out_bytes", _PAGE),
    _vmstat("node_vmstat_pgmajfault", "major_faults"),
    _vmstat("node_vmstat_oom_kill", "oom_kills"),
)
_LOAD = (
    _gauge("node_load1", "load1", "1m load average."),
    _gauge("node_load5", "load5", "5m load average."),
    _gauge("node_load15", "load15", "15m load average."),
)
_PRESSURE = (
    Metric(
        "node_pressure_{key}_waiting_seconds_total",
        "counter",
        "Seconds some tasks waited for {key}.",
        (("some_s", ""),),
    ),
    Metric(
        "node_pressure_{key}_stalled_seconds_total",
        "counter",
        "Seconds all tasks waited for {key}.",
        (("full_s", ""),),
    ),
)
_FILESYSTEM = (
    _gauge("node_filesystem_size_bytes", "size_bytes", "Filesystem size in bytes."),
    _gauge("node_filesystem_free_bytes", "free_bytes", "Filesystem free space in bytes."),
    _gauge(
        "node_filesystem_avail_bytes",
        "available_bytes",
        "Filesystem space available to non-root users in bytes.",
    ),
    _gauge("node_filesystem_files", "inodes", "Filesystem total file nodes."),
    _gauge("node_filesystem_files_free", "inodes_free", "Filesystem total free file nodes."),
    _gauge("node_filesystem_readonly", "read_only", "Filesystem read-only status."),
    _gauge("node_filesystem_device_error", "error", "Whether an error occurred while asking the filesystem."),
    _gauge("homelab_agent_filesystem_stuck_seconds", "stuck_s", "For how long the filesystem has not answered."),
)
_DISK = (
    _counter("node_disk_reads_completed_total", "reads", "Reads completed successfully."),
    _counter("node_disk_reads_merged_total", "reads_merged", "Reads merged."),
    _counter("node_disk_read_bytes_total", "read_bytes", "Bytes read successfully."),
    _counter("node_disk_read_time_seconds_total", "read_s", "Seconds spent by all reads."),
    _counter("node_disk_writes_completed_total", "writes", "Writes completed successfully."),
    _counter("node_disk_writes_merged_total", "writes_merged", "Writes merged."),
    _counter("node_disk_written_bytes_total", "written_bytes", "Bytes written successfully."),
    _counter("node_disk_write_time_seconds_total", "write_s", "Seconds spent by all writes."),
    _gauge("node_disk_io_now", "in_flight", "I/Os currently in progress."),
    _counter("node_disk_io_time_seconds_total", "busy_s", "Seconds spent doing I/Os."),
    _counter("node_disk_io_time_weighted_seconds_total", "weighted_s", "Weighted seconds spent doing I/Os."),
)
_NETWORK = (
    _counter("node_network_receive_bytes_total", "rx_bytes", "Bytes received."),
    _counter("node_network_receive_packets_total", "rx_packets", "Packets received."),
    _counter("node_network_receive_errs_total", "rx_errors", "Receive errors."),
    _counter("node_network_receive_drop_total", "rx_dropped", "Packets dropped on receiving."),
    _counter("node_network_transmit_bytes_total", "tx_bytes", "Bytes sent."),
    _counter("node_network_transmit_packets_total", "tx_packets", "Packets sent."),
    _counter("node_network_transmit_errs_total", "tx_errors", "Transmit errors."),
    _counter("node_network_transmit_drop_total", "tx_dropped", "Packets dropped on sending."),
    _gauge("node_network_carrier", "carrier", "Whether there is a link."),
    _counter("node_network_carrier_changes_total", "carrier_changes", "How often the link came or went."),
    _gauge("node_network_up", "up", "Whether the interface is set up."),
    _gauge("node_network_speed_bytes", "speed_bytes_per_s", "Speed of the link in bytes per second."),
)
_TEMPERATURE = (
    _gauge("node_hwmon_temp_celsius", "celsius", "Hardware monitor for temperature (input)."),
    _gauge("node_hwmon_temp_max_celsius", "high_celsius", "Hardware monitor for temperature (max)."),
    _gauge("node_hwmon_temp_crit_celsius", "critical_celsius", "Hardware monitor for temperature (crit)."),
)
_FAN = (
    _gauge("node_hwmon_fan_rpm", "rpm", "Hardware monitor for fan revolutions per minute (input)."),
    _gauge("node_hwmon_fan_min_rpm", "low_rpm", "Hardware monitor for fan revolutions per minute (min)."),
)
_FREQUENCY = (
    _gauge("node_cpu_scaling_frequency_hertz", "hertz", "Current scaled CPU thread frequency in hertz."),
    _gauge("node_cpu_frequency_min_hertz", "minimum_hertz", "Minimum CPU thread frequency in hertz."),
    _gauge("node_cpu_frequency_max_hertz", "maximum_hertz", "Maximum CPU thread frequency in hertz."),
    _counter("homelab_agent_cpu_throttles_total", "throttles", "How often heat has slowed this core."),
)
_THROTTLING = (
    Metric(
        "homelab_agent_firmware_throttling",
        "gauge",
        "Whether the firmware slows the host down now, and why.",
        tuple((name, f'cause="{name}"') for name in ("under_voltage", "capped", "throttled", "too_warm")),
    ),
)
_RAID = (
    _gauge("node_md_disks_required", "disks", "Disks that the array should have."),
    Metric(
        "node_md_disks",
        "gauge",
        "Disks of the array in this state.",
        (("failed", 'state="failed"'), ("spares", 'state="spare"')),
    ),
    _gauge("homelab_agent_raid_missing_disks", "missing", "Disks that the array lacks."),
)
_UNIT = (
    Metric(
        "node_systemd_unit_state",
        "gauge",
        "Systemd unit.",
        (("active", 'state="active"'), ("failed", 'state="failed"')),
    ),
    Metric(
        "node_systemd_service_restart_total",
        "counter",
        "Service unit count of Restart triggers.",
        (("restarts", ""),),
        without="type",
    ),
)
_CONTAINER = (
    _counter("container_cpu_usage_seconds_total", "cpu_s", "CPU time of all the container's processes."),
    _counter("container_cpu_cfs_throttled_seconds_total", "throttled_s", "For how long its CPU limit held it up."),
    _gauge("container_memory_working_set_bytes", "memory_bytes", "Memory in use, without files not read lately."),
    _gauge("container_spec_memory_limit_bytes", "memory_limit_bytes", "How much memory it may use."),
    _gauge("container_memory_swap", "swap_bytes", "Swap in use."),
    _counter("container_oom_events_total", "oom_kills", "Processes killed for want of memory."),
    _counter("container_fs_reads_bytes_total", "read_bytes", "Bytes read from disks."),
    _counter("container_fs_writes_bytes_total", "written_bytes", "Bytes written to disks."),
    _counter("homelab_agent_container_restarts_total", "restarts", "How often it has begun anew."),
)
_FORECAST = (
    _gauge("homelab_agent_filesystem_full_in_days", "full_in_d", "In how many days it is full, as it grows now."),
    _gauge("homelab_agent_filesystem_growth_bytes_per_day", "growth_bytes_per_d", "How much it grows a day."),
)
_SMART = (
    _gauge("homelab_agent_disk_asleep", "asleep", "Whether the disk slept, and was not asked."),
    _gauge("homelab_agent_disk_health_passed", "passed", "Whether the disk says that it is well."),
    _gauge("homelab_agent_disk_celsius", "celsius", "How warm the disk is."),
    _counter("homelab_agent_disk_powered_seconds_total", "powered_s", "For how long the disk was on."),
    _gauge("homelab_agent_disk_wear_percent", "wear_pct", "How much of what it was made for is used up."),
    _gauge("homelab_agent_disk_reallocated_sectors", "reallocated", "Sectors that the disk has replaced."),
    _gauge("homelab_agent_disk_pending_sectors", "pending", "Sectors that cannot be read."),
    _gauge("homelab_agent_disk_uncorrectable_errors", "uncorrectable", "Errors that the disk could not correct."),
    _gauge("homelab_agent_disk_crc_errors", "crc_errors", "Errors on the cable."),
)
_PROBE = (
    _gauge("probe_success", "up", "Whether the service's last answer was good."),
    _gauge("probe_duration_seconds", "answer_s", "How long the last good answer took."),
    _gauge("probe_http_status_code", "status", "The last answer's HTTP status."),
    _gauge("homelab_agent_probe_certificate_seconds", "certificate_s", "For how long its certificate is good."),
)
_AGENT = (
    _gauge("homelab_agent_resident_memory_bytes", "rss_bytes", "The agent's resident memory."),
    _gauge("homelab_agent_threads", "threads", "The agent's threads."),
    _gauge("homelab_agent_open_files", "open_files", "The agent's open files."),
    _gauge("homelab_agent_spool_rows", "spool_rows", "Rows that wait for PostgreSQL."),
    _gauge("homelab_agent_spool_bytes", "spool_bytes", "Bytes on disk that wait for PostgreSQL."),
    Metric(
        "homelab_agent_database_seconds",
        "gauge",
        "How long PostgreSQL takes for the shortest question.",
        (("database_ms", ""),),
        1000,
    ),
    _counter("homelab_agent_cpu_seconds_total", "cpu_s", "CPU time of all the agent's threads."),
    _counter("homelab_agent_written_bytes_total", "written_bytes", "Bytes the agent made the disks write."),
)

METRICS: Mapping[str, Sequence[Metric]] = {
    "cpu": _HOST,
    "cpu_core": _CORE,
    "memory": _MEMORY,
    "load": _LOAD,
    "pressure": _PRESSURE,
    "filesystem": _FILESYSTEM,
    "disk": _DISK,
    "network": _NETWORK,
    "temperature": _TEMPERATURE,
    "fan": _FAN,
    "frequency": _FREQUENCY,
    "throttling": _THROTTLING,
    "raid": _RAID,
    "unit": _UNIT,
    "container": _CONTAINER,
    "forecast": _FORECAST,
    "smart": _SMART,
    "probe": _PROBE,
    "agent": _AGENT,
}
"""The metrics of each family; {key} in a name is the entity's key."""


def _of(name: str, column: str, written: Callable[[Scalar], str] = str) -> Label:
    """Return a label that says what a column holds; one that the reading has not is empty, which is as none."""
    return Label(name, lambda reading: reading.values.get(column, ""), written)


def _key(name: str) -> Label:
    return Label(name, lambda reading: reading.entity.key)


def _label(name: str) -> Label:
    return Label(name, lambda reading: reading.entity.label)


def _chip(device: Scalar) -> str:
    """Return node_exporter's name of a hwmon chip: the last two parts of its device's path."""
    return "_".join(_UNFIT.sub("_", part.lower()) for part in str(device).split("/")[-2:])


_BY_DEVICE = (_of("device", "device"),)
_BY_SENSOR = (_of("chip", "device", _chip), _of("sensor", "input"))
LABELS: Mapping[str, Sequence[Label]] = {
    "cpu_core": (_key("cpu"),),
    "frequency": (_key("cpu"),),
    "disk": _BY_DEVICE,
    "raid": _BY_DEVICE,
    "smart": _BY_DEVICE,
    "network": (_label("device"),),
    "filesystem": (*_BY_DEVICE, _of("fstype", "type"), _label("mountpoint")),
    "forecast": (_label("mountpoint"),),
    "temperature": _BY_SENSOR,
    "fan": _BY_SENSOR,
    "container": (_label("name"), _of("image", "image")),
    "unit": (_label("name"), _of("type", "type")),
    "probe": (_label("probe"), _of("target", "target")),
}
"""What tells the lines of a family apart; others have one line of each metric."""
