"""Containers: from recorded control groups of several kinds of machines, by the names that they are given."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pytest

from homelab_agent.core.spool import Scalar
from homelab_agent.metrics.collectors.containers import NO_MEMORY, Containers
from homelab_agent.metrics.host import NotAvailable
from homelab_agent.metrics.roster import Container
from homelab_agent.metrics.settings import MetricsSettings
from tests.machines import container, old_container, with_groups
from tests.recorded import Recorded, values

SETTINGS = MetricsSettings()
ONE, TWO, THREE = "1" * 64, "2" * 64, "3" * 64
DB = Container(ONE, "shop-db-1", "postgres:18", "shop", "db", "1")
BY_SYSTEMD, BY_DOCKER = f"system.slice/docker-{ONE}.scope", f"docker/{ONE}"
USED: Mapping[str, Scalar] = {
    "container_id": "1" * 12,
    "image": "postgres:18",
    "cpu_s": 2.5,
    "throttled_s": 0.3,
    "cpu_pct": None,
    "memory_bytes": 83886080,
    "memory_limit_bytes": None,
    "memory_pct": None,
    "swap_bytes": 4096,
    "oom_kills": 1,
    "read_bytes": 1000,
    "written_bytes": 2000,
    "reads": 3,
    "writes": 4,
    "read_bytes_per_s": None,
    "written_bytes_per_s": None,
    "restarts": 0,
    "restarted": None,
    "reset": False,
}


@pytest.fixture
def recorded(tmp_path: Path) -> Recorded:
    return with_groups(Recorded(tmp_path))


@pytest.fixture
def containers(recorded: Recorded) -> Containers:
    made = Containers(recorded.host, SETTINGS)
    made.learn({ONE: DB}, frozenset())
    return made


@pytest.mark.parametrize("path", [BY_SYSTEMD, BY_DOCKER, f"media.slice/media-video.slice/docker-{ONE}.scope"])
def test_a_container_is_found_wherever_its_group_lies(recorded: Recorded, containers: Containers, path: str) -> None:
    container(recorded, path)
    assert values(containers.collect(), "container", "shop/db/1") == USED


@pytest.mark.parametrize("path", [BY_SYSTEMD, BY_DOCKER])
def test_a_host_with_control_groups_of_version_1_says_the_same(tmp_path: Path, path: str) -> None:
    recorded = Recorded(tmp_path)
    old_container(recorded, path)
    containers = Containers(recorded.host, SETTINGS)
    containers.learn({ONE: DB}, frozenset())
    assert values(containers.collect(), "container", "shop/db/1") == USED
    old_container(recorded, path, {"memory/memory.limit_in_bytes": "335544320\n"})
    found = values(containers.collect(), "container", "shop/db/1")
    assert (found["memory_limit_bytes"], found["memory_pct"]) == (335544320, 25)


def test_what_a_kernel_does_not_count_of_disks_is_not_known(tmp_path: Path) -> None:
    recorded = Recorded(tmp_path)
    old_container(recorded, BY_DOCKER)
    containers = Containers(recorded.host, SETTINGS)
    containers.learn({ONE: DB}, frozenset())
    root = "sys/fs/cgroup/blkio/blkio.{}.io_service_bytes_recursive"
    recorded.write(root.format("throttle"), "Total 0\n")
    found = values(containers.collect(), "container", "shop/db/1")
    assert [found[name] for name in ("read_bytes", "written_bytes", "reads", "writes")] == [None] * 4
    recorded.write(root.format("bfq"), "8:0 Read 9000\nTotal 9000\n")
    for file, read in (("io_service_bytes", 7000), ("io_serviced", 7)):
        recorded.write(
            f"sys/fs/cgroup/blkio/{BY_DOCKER}/blkio.bfq.{file}_recursive", f"8:0 Read {read}\nTotal {read}\n"
        )
    found = values(containers.collect(), "container", "shop/db/1")
    assert [found[name] for name in ("read_bytes", "written_bytes", "reads", "writes")] == [7000, 0, 7, 0]


def test_rates_come_from_two_looks(recorded: Recorded, containers: Containers) -> None:
    container(recorded, BY_DOCKER)
    containers.collect()
    recorded.now += 60
    usage = "usage_usec 92500000\nthrottled_usec 300000\n"
    container(
        recorded,
        BY_DOCKER,
        cpu_stat=usage,
        io_stat="8:0 rbytes=61000 wbytes=2000 rios=9 wios=4\n",
        memory_max="167772160\n",
    )
    found = values(containers.collect(), "container", "shop/db/1")
    assert (found["cpu_pct"], found["read_bytes_per_s"], found["written_bytes_per_s"]) == (150, 1000, 0)
    assert (found["memory_limit_bytes"], found["memory_pct"], found["restarted"]) == (167772160, 50, 0)


def test_where_samples_are_rarer_than_slow_families_may_be_there_are_rates_all_the_same(recorded: Recorded) -> None:
    containers = Containers(recorded.host, MetricsSettings(interval=300))
    containers.learn({ONE: DB}, frozenset())
    container(recorded, BY_DOCKER)
    containers.collect()
    recorded.now += 300
    container(recorded, BY_DOCKER, cpu_stat="usage_usec 152500000\n")
    assert values(containers.collect(), "container", "shop/db/1")["cpu_pct"] == 50


def test_what_could_not_be_read_for_once_makes_no_spike(recorded: Recorded, containers: Containers) -> None:
    container(recorded, BY_DOCKER, io_stat="8:0 rbytes=5000000000 wbytes=0 rios=9 wios=0\n")
    containers.collect()
    recorded.now += 60
    container(recorded, BY_DOCKER, cpu_stat="usage_usec 32500000\n")
    (recorded.root / f"sys/fs/cgroup/{BY_DOCKER}/io.stat").unlink()  # it cannot be read, as when files run out
    blind = values(containers.collect(), "container", "shop/db/1")
    assert (blind["cpu_pct"], blind["read_bytes"], blind["read_bytes_per_s"], blind["reset"]) == (50, None, None, False)
    recorded.now += 60
    container(
        recorded,
        BY_DOCKER,
        cpu_stat="usage_usec 62500000\n",
        io_stat="8:0 rbytes=5000006000 wbytes=0 rios=9 wios=0\n",
    )
    again = values(containers.collect(), "container", "shop/db/1")
    assert (again["cpu_pct"], again["read_bytes"], again["read_bytes_per_s"]) == (50, 5000006000, None)


def test_what_goes_through_a_disk_that_lies_on_another_is_counted_once(
    recorded: Recorded, containers: Containers
) -> None:
    recorded.write("sys/dev/block/253:0/slaves/sda/size", "1\n")
    recorded.write("sys/dev/block/8:0/size", "1\n")
    line = "rbytes=1000 wbytes=2000 rios=3 wios=4\n"
    container(recorded, BY_DOCKER, io_stat=f"8:0 {line}253:0 {line}8:16 {line}")
    found = values(containers.collect(), "container", "shop/db/1")
    assert (found["read_bytes"], found["writes"]) == (2000, 8)


def test_a_container_that_is_made_anew_goes_on_and_has_no_rate_for_once(
    recorded: Recorded, containers: Containers
) -> None:
    container(recorded, BY_DOCKER)
    first = containers.collect()["container"][0].entity
    recorded.now += 60
    (recorded.root / "sys/fs/cgroup" / BY_DOCKER).rename(recorded.root / "gone")
    container(recorded, f"docker/{TWO}", cpu_stat="usage_usec 9000000\n")  # more than the old one had used
    containers.learn({TWO: Container(TWO, "shop-db-1", "postgres:19", "shop", "db", "1")}, frozenset())
    [second] = containers.collect()["container"]
    assert second.entity is first
    assert (second.values["restarts"], second.values["restarted"], second.values["reset"]) == (1, 1, True)
    assert (second.values["cpu_s"], second.values["cpu_pct"], second.values["read_bytes_per_s"]) == (9.0, None, None)
    assert (second.values["image"], second.values["throttled_s"]) == ("postgres:19", None)
    recorded.now += 60
    [third] = containers.collect()["container"]
    assert (third.values["restarts"], third.values["restarted"], third.values["cpu_pct"]) == (1, 0, 0)


def test_while_a_container_is_replaced_its_successor_bears_the_name(recorded: Recorded, containers: Containers) -> None:
    container(recorded, BY_DOCKER)
    container(recorded, f"docker/{TWO}")
    newer = Container(TWO, "shop-db-1", "postgres:19", "shop", "db", "1")
    containers.learn({ONE: DB, TWO: newer}, frozenset())
    newest = max((ONE, TWO), key=lambda one: (recorded.root / f"sys/fs/cgroup/docker/{one}").stat().st_ino)
    [found] = containers.collect()["container"]
    assert found.values["container_id"] == newest[:12]


def test_who_has_no_name_yet_is_not_told_of_until_it_has_one_or_none_is_to_be_had(
    recorded: Recorded, containers: Containers
) -> None:
    container(recorded, BY_SYSTEMD)
    container(recorded, f"docker/{TWO}")
    container(recorded, f"docker/{THREE}")
    assert [one.entity.label for one in containers.collect()["container"]] == ["shop/db/1"]
    assert containers.unknown == {TWO, THREE}
    containers.learn({ONE: DB, TWO: Container(TWO, "lonely", "busybox")}, frozenset({THREE}))
    assert {one.entity.label for one in containers.collect()["container"]} == {"shop/db/1", "lonely", "3" * 12}
    assert containers.unknown == {THREE}


def test_who_is_named_at_last_has_rates_at_once(recorded: Recorded) -> None:
    containers = Containers(recorded.host, SETTINGS)
    container(recorded, BY_DOCKER)
    assert containers.collect() == {"container": []}
    recorded.now += 60
    containers.learn({ONE: DB}, frozenset())
    assert values(containers.collect(), "container", "shop/db/1")["cpu_pct"] == 0


def test_who_is_filtered_out_is_not_told_of(recorded: Recorded, containers: Containers) -> None:
    container(recorded, BY_DOCKER)
    container(recorded, f"docker/{TWO}")
    containers.learn({ONE: DB, TWO: Container(TWO, "homelab-agent-drill-1", "postgres:18")}, frozenset())
    assert [one.entity.label for one in containers.collect()["container"]] == ["shop/db/1"]
    containers.adopt(MetricsSettings(containers_exclude=["shop/*"]))
    assert [one.entity.label for one in containers.collect()["container"]] == ["homelab-agent-drill-1"]


def test_a_raspberry_pi_that_does_not_count_memory_says_how_to_let_it(tmp_path: Path) -> None:
    recorded = with_groups(Recorded(tmp_path), "cpuset cpu io pids")
    container(recorded, BY_SYSTEMD)
    for file in ("current", "stat", "max", "swap.current", "events"):
        (recorded.root / f"sys/fs/cgroup/{BY_SYSTEMD}/memory.{file}").unlink()
    containers = Containers(recorded.host, SETTINGS)
    containers.learn({ONE: DB}, frozenset())
    found = values(containers.collect(), "container", "shop/db/1")
    assert {name for name, value in found.items() if value is None} == {
        "cpu_pct", "memory_bytes", "memory_limit_bytes", "memory_pct", "swap_bytes", "oom_kills", "read_bytes_per_s",
        "written_bytes_per_s", "restarted",
    }  # fmt: skip
    assert found["cpu_s"] == 2.5
    assert containers.lacking == NO_MEMORY
    assert "cgroup_enable=memory" in NO_MEMORY


def test_a_pi_with_version_1_and_no_memory_says_so_too(tmp_path: Path) -> None:
    recorded = Recorded(tmp_path)
    old_container(recorded, BY_DOCKER)
    (recorded.root / "sys/fs/cgroup/memory").rename(recorded.root / "none")
    containers = Containers(recorded.host, SETTINGS)
    containers.learn({ONE: DB}, frozenset())
    found = values(containers.collect(), "container", "shop/db/1")
    assert (found["memory_bytes"], found["oom_kills"], found["swap_bytes"], found["cpu_s"]) == (None, None, None, 2.5)
    assert containers.lacking == NO_MEMORY


def test_a_container_that_ends_in_the_middle_of_a_look_is_left_out(recorded: Recorded, containers: Containers) -> None:
    container(recorded, BY_DOCKER)
    container(recorded, f"docker/{TWO}")
    (recorded.root / f"sys/fs/cgroup/docker/{TWO}/cpu.stat").unlink()
    containers.learn({ONE: DB, TWO: Container(TWO, "brief", "busybox")}, frozenset())
    assert [one.entity.label for one in containers.collect()["container"]] == ["shop/db/1"]


def test_a_host_without_docker_has_no_containers_and_one_without_groups_none_either(
    recorded: Recorded, containers: Containers
) -> None:
    with pytest.raises(NotAvailable, match="no container of Docker that runs"):
        containers.collect()
    with pytest.raises(NotAvailable, match="control groups"):
        Containers(Recorded(recorded.root / "elsewhere").host, SETTINGS).collect()


def test_names_that_docker_makes_up_are_not_kept_for_ever(recorded: Recorded, containers: Containers) -> None:
    container(recorded, BY_DOCKER)
    for number in range(1100):
        containers.learn({ONE: Container(ONE, f"funny_name_{number}", "busybox")}, frozenset())
        containers.collect()
    assert len(containers._lives) <= 1001
