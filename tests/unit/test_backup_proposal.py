"""What belongs together is one set, is planned as it stands, and what cannot be is refused with a repair."""

from __future__ import annotations

import dataclasses
import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from homelab_agent.backup import layout, proposal
from homelab_agent.backup.inventory import Container, Identity, Inventory, Mount, Volume
from homelab_agent.backup.proposal import Planned, SetRefused
from homelab_agent.backup.settings import BackupSet, BackupSettings, Dump
from homelab_agent.backup.sizes import Size

ROOT = Path("/var/lib/docker")
NOTHING = BackupSettings()


def volume(name: str, **other: Any) -> Volume:
    return Volume(name, ROOT / "volumes" / name / "_data", **other)


def mount(name: str, *, target: str = "", writable: bool = True) -> Mount:
    if name.startswith("/"):
        return Mount("bind", "", Path(name), target or name, writable)
    return Mount("volume", name, ROOT / "volumes" / name / "_data", target or f"/{name}", writable)


def container(name: str, *mounts: str | Mount, project: str = "", **other: Any) -> Container:
    found = [mount(one) if isinstance(one, str) else one for one in mounts]
    given = {"image": f"{name}:1", "image_id": "sha256:0", "state": "running", "mounts": found, **other}
    identity = Identity(project, name if project else "", "1" if project else "", name)
    return Container(f"id-{name}", identity, **given)


def house(*containers: Container, volumes: Sequence[Volume] = (), **other: Any) -> Inventory:
    names = {one.name for each in containers for one in each.mounts if one.name}
    found = {name: volume(name) for name in names} | {one.name: one for one in volumes}
    return Inventory("20.10", ROOT, containers, found, **other)


def plan(inventory: Inventory, measured: Mapping[Path, Size] | None = None, **wanted: Any) -> Planned:
    return proposal.plan(BackupSet(**{"name": "one", **wanted}), inventory, measured)


def members(planned: Planned) -> list[str]:
    return [source.member for source in planned.sources]


def names(containers: Sequence[Container]) -> list[str]:
    return [one.name for one in containers]


def causes(planned: Planned) -> str:
    return "; ".join(one.cause for one in planned.refusals)


def repairs(planned: Planned) -> str:
    return "; ".join(one.repair for one in planned.refusals)


DB = container("db", mount("pg", target="/var/lib/postgresql/data"), project="shop", image="postgres:16")


def test_a_project_is_one_set_of_what_it_writes_and_its_files() -> None:
    app = container(
        "app",
        "media",
        mount("/srv/shop/files"),
        mount("/srv/shop/app.conf", writable=False),
        mount("/var/run/docker.sock"),
        mount("/etc/localtime"),
        mount("/proc"),
        mount("/srv"),
        project="shop",
        depends_on={"db": "service_healthy"},
        compose_files=[Path("/srv/shop/compose.yaml")],
    )
    (found,) = proposal.proposed(house(app, DB), NOTHING)
    assert found.wanted == BackupSet(name="shop", project="shop")
    assert members(found) == ["paths/srv/shop/compose.yaml", "paths/srv/shop/files", "volumes/media"]
    assert [(one.container.name, one.dump.kind, one.dump.user) for one in found.dumps] == [
        ("db", "postgres", "postgres")
    ]
    assert (names(found.to_freeze), found.how, found.verdict) == (["app"], "pause", "crash")
    assert found.refusals == []
    assert "pg is not copied" in found.notes[0]


@pytest.mark.parametrize(
    ("mode", "frozen", "how", "verdict", "copied"),
    [
        ("pause", ["app", "db"], "pause", "crash", ["volumes/media", "volumes/pg"]),
        ("stop", ["app", "db"], "stop", "cold", ["volumes/media", "volumes/pg"]),
        ("dump", [], "none", "dump", []),
        ("live", [], "none", "live", ["volumes/media"]),
    ],
)
def test_each_mode_is_what_it_says(mode: str, frozen: list[str], how: str, verdict: str, copied: list[str]) -> None:
    app = container("app", "media", project="shop", depends_on={"db": "service_started"})
    found = plan(house(DB, app), project="shop", mode=mode)
    assert (names(found.to_freeze), found.how, found.verdict) == (frozen, how, verdict)
    assert members(found) == copied


def test_databases_alone_freeze_nothing() -> None:
    found = plan(house(DB), project="shop")
    assert (found.to_freeze, found.how, found.verdict, found.freeze_seconds) == ([], "none", "dump", 0)


def test_what_somebody_else_stopped_or_paused_stays_so_and_a_database_that_cannot_dump_is_copied() -> None:
    db = dataclasses.replace(DB, state="exited")
    found = plan(house(db, container("app", "media", project="shop", state="paused")), project="shop")
    assert (found.to_freeze, found.dumps, found.verdict) == ([], [], "crash")
    assert members(found) == ["volumes/media", "volumes/pg"]
    assert {"app is paused already, and stays so", "db does not run (exited), and stays so"} <= set(found.notes)
    assert plan(house(db), project="shop").verdict == "cold"
    restarting = plan(house(container("app", "media", state="restarting")), volumes=["media"])
    assert "may write at any moment" in causes(restarting)


def test_a_reader_is_no_writer() -> None:
    reader = container("reader", mount("media", writable=False), project="other")
    found = plan(house(container("app", "media", project="shop"), reader), project="shop")
    assert names(found.to_freeze) == ["app"]
    assert found.refusals == []


def test_a_writer_of_other_things_is_refused_until_they_are_in_the_set() -> None:
    inventory = house(container("app", "media", "/srv/app"), container("b", "/srv/app/part", "third"))
    found = plan(inventory, volumes=["media"])
    assert "app writes /srv/app too" in causes(found)
    assert 'paths += ["/srv/app"]' in repairs(found)
    found = plan(inventory, volumes=["media"], paths=["/srv/app"])
    assert causes(found) == "b writes third too, which is to be of the same moment"
    found = plan(inventory, volumes=["media", "third"], paths=["/srv/app"])
    assert found.refusals == []
    assert set(names(found.to_freeze)) == {"app", "b"}
    with pytest.raises(SetRefused, match="third"):
        plan(inventory, volumes=["media"], paths=["/srv/app"]).check()


@pytest.mark.parametrize(
    ("image", "ports"),
    [
        ("coredns/thing", {"53/udp"}),
        ("pihole/pihole:2024", set()),
        ("traefik:v3@sha256:00", set()),
        ("nginx", {"443/tcp"}),
        ("ghcr.io/home-assistant/home-assistant:stable", set()),
        ("house:5000/eclipse-mosquitto", set()),
    ],
)
def test_what_the_house_lives_from_is_not_paused_unasked(image: str, ports: set[str]) -> None:
    inventory = house(container("core", "conf", image=image, ports=frozenset(ports)))
    refused = plan(inventory, volumes=["conf"])
    assert "core would stand still" in causes(refused)
    assert 'may_freeze = ["core"]' in repairs(refused)
    assert plan(inventory, volumes=["conf"], may_freeze=["core"]).refusals == []
    assert plan(inventory, volumes=["conf"], mode="live").refusals == []


def test_a_set_over_its_bounds_is_refused_with_the_mode_to_choose() -> None:
    inventory = house(DB, container("app", "media", project="shop"))
    measured = {volume("media").path: Size(12_000_000_000, 5)}
    found = plan(inventory, measured, project="shop", max_bytes=1000)
    assert (found.bytes, found.freeze_seconds) == (12_000_000_000, 40)
    assert "stand still for 40 s, more than 30 s" in causes(found)
    assert "more than its max_bytes" in causes(found)
    for way in ('mode = "dump"', 'mode = "live"', "freeze_budget = 60", "max_bytes = 15000000000"):
        assert way in repairs(found)
    assert plan(inventory, measured, project="shop", freeze_budget=40).refusals == []
    assert plan(inventory, measured, project="shop", mode="live").freeze_seconds == 0


@pytest.mark.parametrize(
    "other",
    [
        {"driver": "rclone"},
        {"options": {"type": "nfs", "o": "addr=nas,rw", "device": ":/share"}},
        {"options": {"type": "ext4", "device": "/dev/sdb1"}},
    ],
)
def test_a_volume_that_is_not_on_this_host_is_refused(other: dict[str, Any]) -> None:
    found = plan(house(container("app", "media"), volumes=[volume("media", **other)]), volumes=["media"])
    assert "the volume media is" in causes(found)
    assert "paths = [...]" in repairs(found)


def test_what_is_not_there_is_refused_by_name() -> None:
    found = plan(house(), project="none", volumes=["nothing"], dump=[Dump(container="nobody")])
    assert (
        causes(found)
        == "there is no compose project none; there is no volume nothing; there is no container nobody to dump"
    )
    gone = plan(house(), {Path("/srv/gone"): Size(missing=True)}, paths=["/srv/gone"])
    assert causes(gone) == "/srv/gone is not on this host"
    assert "Docker is a snap" in causes(plan(house(DB, refused="Docker is a snap"), project="shop"))
    assert "nothing in it is known to dump" in causes(plan(house(), paths=["/srv/x"], mode="dump"))


def test_a_path_that_only_the_host_writes_is_never_called_consistent() -> None:
    found = plan(house(), paths=["/srv/photos"])
    assert (found.verdict, members(found)) == ("live", ["paths/srv/photos"])


def test_sqlite_is_dumped_in_place_of_its_files_and_what_is_beside_is_copied() -> None:
    app = container("app", mount("media", target="/data"))
    found = plan(house(app), volumes=["media"], dump=[Dump(container="app", kind="sqlite", path="/data/db/app.db")])
    (source,) = found.sources
    assert source.exclude == ["db/app.db", "db/app.db-journal", "db/app.db-shm", "db/app.db-wal"]
    assert (found.verdict, found.to_freeze) == ("live", [])


def test_a_proposal_is_text_that_means_the_same() -> None:
    wanted = BackupSet(name="one", project='sh"op', volumes=["a", "b"], paths=[Path("/srv/ä \x7f\\x")], mode="live")
    (read,) = tomllib.loads(proposal.toml(wanted))["backup"]["set"]
    assert BackupSet.model_validate({**read, "paths": list(map(Path, read["paths"]))}) == wanted
    assert set(proposal.entry(wanted)) == {"name", "project", "volumes", "paths", "mode"}


def test_what_has_a_set_is_not_proposed_again() -> None:
    inventory = house(DB, container("app", "media"))
    has = BackupSettings(set=[BackupSet(name="db", project="shop")])
    assert [one.name for one in proposal.proposed(inventory, has)] == ["app"]
    taken = BackupSettings(set=[BackupSet(name="app", paths=[Path("/srv/x")])])
    assert {one.name for one in proposal.proposed(inventory, taken)} == {"app-2", "shop"}


VOLUMES = [f"v{number}" for number in range(8)]
MOUNTS = st.builds(
    lambda name, writable: mount(name, writable=writable),
    st.sampled_from([*VOLUMES, "/srv/a", "/srv/a/b", "/srv/c", "/srv"]),
    st.booleans(),
)


@st.composite
def houses(draw: st.DrawFn) -> Inventory:
    count = draw(st.integers(0, 7))
    containers = [
        container(
            f"c{number}",
            *draw(st.lists(MOUNTS, max_size=4)),
            project=draw(st.sampled_from(["", "p", "q", "r"])),
            depends_on=dict.fromkeys(
                draw(st.sets(st.sampled_from([f"c{one}" for one in range(7)]))), "service_started"
            ),
        )
        for number in range(count)
    ]
    labels = {name: draw(st.sampled_from(["", "p", "q", "gone"])) for name in VOLUMES}
    named = [
        volume(name, labels={"com.docker.compose.project": label} if label else {}) for name, label in labels.items()
    ]
    return house(*containers, volumes=named)


@given(houses())
def test_every_volume_is_in_exactly_one_proposed_set(inventory: Inventory) -> None:
    found = proposal.proposed(inventory, NOTHING)
    held = [path for one in found for path in one.places if path.is_relative_to(ROOT)]
    assert sorted(held) == sorted(one.path for one in inventory.volumes.values())
    assert len({one.name for one in found}) == len(found)


@given(houses())
def test_places_with_a_writer_in_common_are_in_one_set_and_none_is_refused(inventory: Inventory) -> None:
    found = proposal.proposed(inventory, NOTHING)
    for one in inventory.containers:
        written = {place.path for place in layout.Layout(inventory).written_by(one)}
        having = [each for each in found if written & set(each.places)]
        assert len(having) == (1 if written else 0)
        assert all(written <= set(each.places) for each in having)
    assert [causes(one) for one in found if one.refusals] == []


@given(houses())
def test_stopped_first_is_who_needs_the_others_but_in_a_circle(inventory: Inventory) -> None:
    order = names(layout.stopping_order(inventory.containers))
    assert sorted(order) == sorted(names(inventory.containers))
    services = {one.name: (one.identity.project, one) for one in inventory.containers}
    needs = {
        name: {other for other in one.depends_on if services.get(other, ("", one))[0] == project != ""}
        for name, (project, one) in services.items()
    }

    def reached(start: str) -> set[str]:
        seen: set[str] = set()
        left = [start]
        while left:
            for following in needs[left.pop()] - seen:
                seen.add(following)
                left.append(following)
        return seen

    for name, direct in needs.items():
        for other in direct:
            if name not in reached(other):
                assert order.index(name) < order.index(other)


@given(houses())
def test_all_that_is_proposed_can_be_written_and_accepted(inventory: Inventory) -> None:
    for one in proposal.proposed(inventory, NOTHING):
        (read,) = tomllib.loads(proposal.toml(one.wanted))["backup"]["set"]
        assert BackupSet.model_validate({**read, "paths": [Path(path) for path in read.get("paths", [])]}) == one.wanted
