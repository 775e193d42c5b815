"""Filesystems: right while they answer, and out of everyone's way when they do not."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from homelab_agent.metrics.collectors import mounts
from homelab_agent.metrics.collectors.filesystem import Filesystem
from homelab_agent.metrics.host import Host
from homelab_agent.metrics.settings import MetricsSettings
from tests.neighbours.mount import Mount
from tests.recorded import Recorded, values
from tests.waiting import until

MOUNTINFO = """21 1 8:1 / / rw,relatime shared:1 - ext4 /dev/sda1 rw,errors=remount-ro
22 21 0:21 / /proc rw - proc proc rw
23 21 0:30 / /run/user/0 rw - tmpfs tmpfs rw
24 21 8:17 / /mnt/with\\040space rw - ext4 /dev/sdb1 ro,emergency_ro
25 21 0:50 / /mnt/nas rw - nfs4 nas:/volume1 rw,vers=4.2
26 21 8:1 /srv /srv/bind rw - ext4 /dev/sda1 rw
27 21 0:60 / /var/lib/docker/overlay2/x/merged rw - overlay overlay rw
28 21 0:70 / /tank rw - zfs tank rw
29 21 0:71 / /mnt/media ro - fuse.mergerfs 1:2 rw
"""


def test_what_is_mounted_and_shown() -> None:
    chosen = mounts.choose(mounts.parse(MOUNTINFO.encode()), MetricsSettings())
    assert [mount.point for mount in chosen] == ["/", "/mnt/media", "/mnt/nas", "/mnt/with space", "/tank"]
    assert [mount.remote for mount in chosen] == [False, True, True, False, False]
    assert [mount.read_only for mount in chosen] == [False, False, False, True, False]


def test_a_filesystem_is_known_by_uuid_and_mount_point(tmp_path: Path) -> None:
    recorded = Recorded(tmp_path)
    recorded.write("proc/1/mountinfo", MOUNTINFO)
    recorded.write("dev/sda1", "")
    recorded.link("dev/disk/by-uuid/1234-abcd", "../../sda1")
    (tmp_path / "mnt/with space").mkdir(parents=True)
    found = Filesystem(recorded.host, MetricsSettings(mounts_include=["/", "/mnt/with*", "/tank"])).collect()
    keys = {reading.entity.label: reading.entity.key for reading in found["filesystem"]}
    assert keys == {"/": "1234-abcd /", "/mnt/with space": "/dev/sdb1 /mnt/with space", "/tank": "tank /tank"}
    assert values(found, "filesystem", "/mnt/with space")["read_only"] is True
    gone = values(found, "filesystem", "/tank")  # in the list, but its directory is not there
    assert (gone["error"], gone["size_bytes"], gone["stuck_s"]) == (True, None, 0)


def test_a_mount_may_be_called_anything(tmp_path: Path) -> None:
    """Linux takes any bytes for a name, PostgreSQL and Prometheus only UTF-8, and U+0085 ends no line here."""
    names = (b"caf\xe9", b"a\xc2\x85b", "größe".encode())
    for name in names:
        (tmp_path / os.fsdecode(b"mnt/" + name)).mkdir(parents=True)
    lines = [b"%d 1 8:%d / /mnt/%s rw - ext4 /dev/x\xff rw\n" % (n, n, name) for n, name in enumerate(names, start=30)]
    (tmp_path / "proc/1").mkdir(parents=True)
    (tmp_path / "proc/1/mountinfo").write_bytes(b"".join(lines))
    found = Filesystem(Recorded(tmp_path).host, MetricsSettings()).collect()
    assert {one.entity.label for one in found["filesystem"]} == {r"/mnt/caf\xe9", "/mnt/a\x85b", "/mnt/größe"}
    assert [one.values["error"] for one in found["filesystem"]] == [False] * 3
    texts = [(one.entity.key, one.entity.label, str(one.values["device"])) for one in found["filesystem"]]
    assert all(text.encode() for each in texts for text in each)


def test_sizes_agree_with_df() -> None:
    found = values(Filesystem(Host("here"), MetricsSettings()).collect(), "filesystem", "/")
    columns = "size,used,avail,itotal,iavail,pcent"
    output = subprocess.run(
        ["df", "--block-size=1", f"--output={columns}", "/"], capture_output=True, text=True, check=True
    ).stdout.splitlines()[1]
    size, used, available, inodes, inodes_free, percent = output.split()
    assert (found["size_bytes"], found["inodes"]) == (int(size), int(inodes))
    assert found["used_bytes"] == pytest.approx(int(used), rel=0.01)
    assert found["available_bytes"] == pytest.approx(int(available), rel=0.01)
    assert found["inodes_free"] == pytest.approx(int(inodes_free), rel=0.01)
    assert float(str(found["used_pct"])) == pytest.approx(int(percent.rstrip("%")), abs=1.01)


def test_a_hung_mount_is_stuck_is_asked_once_and_answers_again_later(mount: Mount) -> None:
    point = str(mount.point)
    settings = MetricsSettings(mounts_include=["/", point], collector_deadline=0.3)
    filesystem = Filesystem(Host("here"), settings)
    assert values(filesystem.collect(), "filesystem", point)["error"] is False
    mount.hang()
    began = time.monotonic()
    found = filesystem.collect()
    assert time.monotonic() - began < 1.0
    assert values(found, "filesystem", "/")["error"] is False
    hung = values(found, "filesystem", point)
    assert (hung["error"], hung["size_bytes"]) == (True, None)
    assert float(str(hung["stuck_s"])) >= 0.3
    assert set(filesystem.silent) == {point}

    began = time.monotonic()
    again = values(filesystem.collect(), "filesystem", point)
    assert time.monotonic() - began < 0.2  # it is not waited for a second time
    assert float(str(again["stuck_s"])) >= float(str(hung["stuck_s"]))

    mount.thaw()
    until(lambda: answers(filesystem), "it answers again")
    assert values(filesystem.collect(), "filesystem", point)["error"] is False


def test_a_mount_whose_server_died_is_an_error_and_not_waited_for(mount: Mount) -> None:
    filesystem = Filesystem(Host("here"), MetricsSettings(mounts_include=[str(mount.point)], collector_deadline=0.3))
    mount.freeze()
    filesystem.collect()
    assert set(filesystem.silent) == {str(mount.point)}
    mount.kill()
    until(lambda: answers(filesystem), "what waited has failed")
    dead = values(filesystem.collect(), "filesystem", str(mount.point))
    assert (dead["error"], dead["stuck_s"]) == (True, 0)


def answers(filesystem: Filesystem) -> bool:
    """Ask every mount; return whether none of them was silent."""
    filesystem.collect()
    return not filesystem.silent


def test_a_hung_mount_does_not_delay_the_interpreters_exit(mount: Mount) -> None:
    program = (
        "import sys\n"
        "from homelab_agent.metrics.collectors.filesystem import Filesystem\n"
        "from homelab_agent.metrics.host import Host\n"
        "from homelab_agent.metrics.settings import MetricsSettings\n"
        "filesystem = Filesystem(Host(''), MetricsSettings(mounts_include=[sys.argv[1]], collector_deadline=0.2))\n"
        "filesystem.collect()\n"
        "print(*filesystem.silent)\n"
    )
    mount.freeze()
    done = subprocess.run(
        [sys.executable, "-c", program, mount.point],
        capture_output=True, text=True, timeout=20, check=True, cwd=Path(__file__).parents[2],
    )  # fmt: skip
    assert done.stdout.strip() == str(mount.point)
