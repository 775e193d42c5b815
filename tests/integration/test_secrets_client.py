"""What the agent reads from a real OpenBao, and what it says when there is nothing to be read."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from homelab_agent.secrets.errors import (
    Denied,
    KeyAbsent,
    NotKeyValue,
    PathAbsent,
    VersionDeleted,
    VersionDestroyed,
    VersionGone,
)
from homelab_agent.secrets.health import State
from tests.neighbours.openbao import OpenBao
from tests.openbao_client import Home

POSTGRES = "secret/homelab/postgres"


@pytest.fixture(params=["auto", "approle"])
def way(request: pytest.FixtureRequest) -> str:
    """The way to log in: `auto` is inline here."""
    return str(request.param)


@pytest.fixture
def home(openbao: OpenBao, tmp_path: Path) -> Home:
    return Home(openbao, tmp_path)


async def test_a_secret_is_read_with_its_version_and_its_age(home: Home, way: str) -> None:
    before = datetime.now(UTC) - timedelta(seconds=1)
    home.openbao.put("homelab/postgres", password="first-of-them", user="agent")
    home.openbao.put("homelab/postgres", password="second-of-them", user="agent")
    async with home.asking(login=way) as client:
        found = await client.read(POSTGRES)
        assert (found.number, found.value("password"), found.value("user")) == (2, "second-of-them", "agent")
        assert found.created is not None
        assert before <= found.created <= datetime.now(UTC)
        assert (await client.read(POSTGRES, 1)).value("password") == "first-of-them"
        assert await client.current(POSTGRES) == 2
        assert await asyncio.to_thread(client.current_blocking, POSTGRES) == 2
        assert (await asyncio.to_thread(client.read_blocking, POSTGRES)).number == 2


async def test_one_look_for_a_new_version_is_one_request(home: Home, way: str) -> None:
    home.openbao.put("homelab/postgres", password="first-of-them")
    async with home.asking(login=way) as client:
        await client.current(POSTGRES)
        with home.asks(way) as asked:
            await client.current(POSTGRES)
            await client.current(POSTGRES)
            await client.read(POSTGRES)
        assert asked == [
            "read secret/metadata/homelab/postgres",
            "read secret/metadata/homelab/postgres",
            "read secret/data/homelab/postgres",
        ]


async def test_the_first_read_of_all_is_one_request_too_where_it_logs_in_with_it(home: Home) -> None:
    home.openbao.put("homelab/postgres", password="first-of-them")
    async with home.asking() as client:
        with home.asks("inline") as asked:
            await client.read(POSTGRES)
        assert asked == ["read secret/data/homelab/postgres"]


async def test_what_is_no_text_comes_as_json(home: Home) -> None:
    home.openbao.ask("POST", "secret/data/homelab/mixed", {"data": {"port": 5432, "hosts": ["a", "ö"], "on": True}})
    async with home.asking() as client:
        found = await client.read("secret/homelab/mixed")
        assert found.values == {"port": "5432", "hosts": '["a", "ö"]', "on": "true"}


async def test_a_path_may_have_what_an_address_must_not(home: Home) -> None:
    home.openbao.put("homelab/a%20b%20%C3%B6%3F", password="first-of-them")
    async with home.asking() as client:
        assert (await client.read("secret/homelab/a b ö?")).number == 1
    home.openbao.forget("homelab/a%20b%20%C3%B6%3F")


async def test_what_is_not_there_is_said_precisely(home: Home, way: str) -> None:
    bao = home.openbao
    for name in ("deleted", "destroyed", "whole"):
        bao.put(f"homelab/{name}", password="first-of-them")
    bao.delete("homelab/deleted")
    bao.destroy("homelab/destroyed", 1)
    async with home.asking(login=way) as client:
        for ask in (client.read, client.current):
            with pytest.raises(PathAbsent):
                await ask("secret/homelab/absent")
            with pytest.raises(VersionDeleted, match="Version 1"):
                await ask("secret/homelab/deleted")
            with pytest.raises(VersionDestroyed, match="Version 1"):
                await ask("secret/homelab/destroyed")
        with pytest.raises(VersionGone, match="not its version 7"):
            await client.read("secret/homelab/whole", 7)
        with pytest.raises(PathAbsent):
            await client.read("secret/homelab/absent", 7)
        with pytest.raises(KeyAbsent, match="has no key pasword; it has: password"):
            (await client.read("secret/homelab/whole")).value("pasword")
        bao.undelete("homelab/deleted", 1)
        assert (await client.read("secret/homelab/deleted")).number == 1
        bao.forget("homelab/whole")
        with pytest.raises(PathAbsent):
            await client.current("secret/homelab/whole")


async def test_what_the_policy_denies_is_said_as_a_policy_has_it(home: Home, way: str) -> None:
    home.openbao.put("other/postgres", password="first-of-them")
    home.openbao.put("homelab/postgres", password="first-of-them")
    async with home.asking(login=way) as client:
        with pytest.raises(Denied) as denied:
            await client.read("secret/other/postgres")
        assert denied.value.repair == (
            'add to its policy: path "secret/data/other/postgres" { capabilities = ["read"] }'
        )
        with pytest.raises(Denied, match="secret/metadata/other/postgres"):
            await client.current("secret/other/postgres")
        with pytest.raises(Denied):
            await client.read("nowhere/other/postgres")
        assert (await client.read(POSTGRES)).number == 1


async def test_a_policy_that_is_narrowed_is_felt_at_once_and_widened_too(home: Home, way: str) -> None:
    home.openbao.put("homelab/postgres", password="first-of-them")
    async with home.asking(login=way) as client:
        await client.read(POSTGRES)
        home.openbao.policy('path "auth/token/lookup-self" { capabilities = ["read"] }')
        with home.asks(way) as asked, pytest.raises(Denied):
            await client.read(POSTGRES)
        looked = ["read auth/token/lookup-self"] if way == "approle" else []
        assert asked == ["!read secret/data/homelab/postgres", *looked]
        home.openbao.policy('path "secret/data/homelab/*" { capabilities = ["read"] }')
        assert (await client.read(POSTGRES)).number == 1


async def test_a_store_without_versions_is_read_too(home: Home, way: str) -> None:
    home.openbao.put_v1("homelab/old", password="the-only-one", port="1")
    home.openbao.permit('path "kv1/homelab/*" { capabilities = ["read"] }')
    async with home.asking(login=way) as client:
        found = await client.read("kv1/homelab/old")
        assert (found.number, found.created, found.value("password")) == (0, None, "the-only-one")
        with home.asks(way) as asked:
            assert await client.current("kv1/homelab/old") == 0
            assert (await client.read("kv1/homelab/old")).value("port") == "1"
        assert asked == ["read kv1/homelab/old"]
        with pytest.raises(PathAbsent):
            await client.read("kv1/homelab/absent")
        with pytest.raises(VersionGone, match="kv1 keeps no versions"):
            await client.read("kv1/homelab/old", 3)


async def test_a_mount_may_have_a_name_of_several_parts(home: Home, way: str) -> None:
    home.openbao.mount("team/a")
    home.openbao.ask("POST", "team/a/data/homelab/x", {"data": {"password": "first-of-them"}})
    home.openbao.permit('path "team/a/*" { capabilities = ["read"] }')
    async with home.asking(login=way) as client:
        assert await client.current("team/a/homelab/x") == 1
        with home.asks(way) as asked:
            assert (await client.read("team/a/homelab/x")).number == 1
        assert asked == ["read team/a/data/homelab/x"]


async def test_what_is_no_key_value_store_is_called_by_its_kind(home: Home, way: str) -> None:
    home.openbao.ask("POST", "sys/mounts/transit", {"type": "transit"})
    home.openbao.permit('path "transit/*" { capabilities = ["read"] }')
    async with home.asking(login=way) as client:
        with pytest.raises(NotKeyValue, match="mounted at transit is no key-value store, but of the kind transit"):
            await client.read("transit/homelab/x")


async def test_a_namespace_has_secrets_and_roles_of_its_own(home: Home, way: str) -> None:
    home.openbao.put("homelab/postgres", password="of-the-root")
    home.write(home.secret_id, home.openbao.namespace("tenant"))
    home.openbao.put("homelab/postgres", namespace="tenant", password="of-the-tenant")
    async with home.asking(login=way, namespace="tenant") as client:
        assert (await client.read(POSTGRES)).value("password") == "of-the-tenant"


async def test_the_unix_socket_serves_as_well(home: Home, way: str) -> None:
    home.openbao.put("homelab/postgres", password="first-of-them")
    async with home.asking(login=way, url=f"unix:{home.openbao.socket}") as client:
        assert (await client.read(POSTGRES)).number == 1
        assert (await client.status()).state is State.ACTIVE


async def test_a_snapshot_is_whole_and_the_agents_alone(home: Home, way: str) -> None:
    home.openbao.put("homelab/postgres", password="first-of-them")
    to = home.directory / "openbao.snapshot"
    to.write_text("an older one")
    async with home.asking(login=way) as client:
        size = await client.snapshot(to)
        assert size == to.stat().st_size > 1000
        assert to.stat().st_mode & 0o777 == 0o600
        assert [each.name for each in home.directory.glob("openbao.snapshot*")] == [to.name]
        home.openbao.policy('path "secret/data/homelab/*" { capabilities = ["read"] }')
        with pytest.raises(Denied, match="sys/storage/raft/snapshot"):
            await client.snapshot(to)
    assert size == to.stat().st_size
    assert b"first-of-them" not in to.read_bytes()


async def test_who_is_closed_before_anything_was_asked_has_asked_nothing(home: Home) -> None:
    with home.asks() as asked:
        async with home.asking() as client:
            assert client.standing() == "not logged in yet"
    assert asked == []
