"""A secret id that comes wrapped: it is unwrapped once, outlives every start, and a thief is noticed."""

from __future__ import annotations

import asyncio
import json
import os
from pathlib import Path

import pytest

from homelab_agent.secrets.errors import (
    LogInRefused,
    Refused,
    SecretIdNotKept,
    Unreachable,
    WrappingTokenForeign,
    WrappingTokenSpent,
)
from homelab_agent.secrets.wrapping import NAME
from tests.neighbours.openbao import OpenBao
from tests.openbao_client import Home

POSTGRES = "secret/homelab/postgres"


@pytest.fixture(params=["inline", "approle"])
def way(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def home(openbao: OpenBao, tmp_path: Path) -> Home:
    """The agent's side, with a wrapping token where the secret id is."""
    openbao.put("homelab/postgres", password="first-of-them")
    home = Home(openbao, tmp_path)
    home.write(home.secret_id, openbao.wrapped_secret_id())
    return home


async def read(home: Home, way: str = "inline") -> int:
    """Read once, as an agent that has just started."""
    async with home.asking(login=way, wrapped=True) as client:
        return (await client.read(POSTGRES)).number


def kept(home: Home) -> str:
    return str(json.loads((home.directory / NAME).read_text())["secret_id"])


def unwrap(home: Home, token: str) -> str:
    """Take out what is in a wrapping token, as whoever got hold of it."""
    return str(home.openbao.ask("POST", "sys/wrapping/unwrap", {}, token=token)["data"]["secret_id"])


async def test_it_is_unwrapped_once_and_kept_for_the_agent_alone(home: Home, way: str) -> None:
    assert await read(home, way) == 1
    assert (home.directory / NAME).stat().st_mode & 0o777 == 0o600
    assert [one.name for one in home.directory.glob(f"{NAME}*")] == [NAME]
    before = len(home.openbao.requests())
    assert await read(home, way) == 1
    asked = [one.path for one in home.openbao.requests()[before:]]
    assert "sys/wrapping/unwrap" not in asked
    assert "sys/wrapping/lookup" not in asked


async def test_what_was_unwrapped_is_masked_in_the_log(home: Home) -> None:
    await read(home)
    assert kept(home) not in home.redactor.mask(f"refused: {kept(home)}")


async def test_the_token_may_be_removed_once_it_was_used(home: Home) -> None:
    await read(home)
    home.secret_id.unlink()
    assert await read(home) == 1


async def test_a_new_token_is_unwrapped_again(home: Home) -> None:
    await read(home)
    first = kept(home)
    home.write(home.secret_id, home.openbao.wrapped_secret_id())
    assert await read(home) == 1
    assert kept(home) != first


async def test_a_new_token_is_unwrapped_in_a_running_agent_when_the_old_secret_id_is_refused(home: Home) -> None:
    async with home.asking(login="inline", wrapped=True) as client:
        await client.read(POSTGRES)
        home.openbao.ask("POST", "auth/approle/role/homelab-agent/secret-id/destroy", {"secret_id": kept(home)})
        with pytest.raises(LogInRefused):
            await client.read(POSTGRES)
        home.write(home.secret_id, home.openbao.wrapped_secret_id())
        assert (await client.read(POSTGRES)).number == 1


async def test_who_was_faster_is_noticed(home: Home, way: str) -> None:
    stolen = unwrap(home, home.secret_id.read_text())
    with pytest.raises(WrappingTokenSpent) as error:
        await read(home, way)
    assert "somebody else unwrapped it" in str(error.value)
    assert "destroy all of the role's" in error.value.repair
    assert stolen not in str(error.value)
    assert not list(home.directory.glob(f"{NAME}*"))


async def test_a_token_for_something_else_is_refused_and_left_unused(home: Home) -> None:
    headers = {"X-Vault-Token": home.openbao.authority(), "X-Vault-Wrap-TTL": "5m"}
    forged = home.openbao._answer("POST", "sys/wrapping/wrap", {"secret_id": "evil"}, headers)["wrap_info"]["token"]
    home.write(home.secret_id, forged)
    with pytest.raises(WrappingTokenForeign, match="made at sys/wrapping/wrap"):
        await read(home)
    assert unwrap(home, forged) == "evil"


async def test_it_is_not_unwrapped_where_it_cannot_be_kept(home: Home) -> None:
    (home.directory / f"{NAME}.new").mkdir()
    with pytest.raises(SecretIdNotKept, match="Is a directory") as error:
        await read(home)
    assert not isinstance(error.value, Refused)
    assert unwrap(home, home.secret_id.read_text())


async def test_a_token_is_not_spent_on_a_server_that_is_away(home: Home) -> None:
    home.openbao.kill()
    with pytest.raises(Unreachable):
        await read(home)
    await asyncio.to_thread(home.openbao.start)
    assert await read(home) == 1


async def test_what_a_crash_left_before_its_last_step_is_taken_up(home: Home) -> None:
    await read(home)
    (home.directory / NAME).rename(home.directory / f"{NAME}.new")
    assert await read(home) == 1
    assert [one.name for one in home.directory.glob(f"{NAME}*")] == [NAME]


async def test_what_a_crash_left_before_it_was_cut_to_its_length_is_taken_up(home: Home) -> None:
    await read(home)
    new = (home.directory / NAME).rename(home.directory / f"{NAME}.new")
    with new.open("r+b") as file:
        file.truncate(4096)
    assert await read(home) == 1
    assert await read(home) == 1
    assert [one.name for one in home.directory.glob(f"{NAME}*")] == [NAME]


async def test_after_a_crash_in_the_middle_nobody_is_taken_for_a_thief_without_a_word(home: Home) -> None:
    (home.directory / f"{NAME}.new").write_bytes(bytes(4096))
    unwrap(home, home.secret_id.read_text())
    with pytest.raises(WrappingTokenSpent, match="an earlier try of ours was cut short, and has perhaps used it up"):
        await read(home)


async def test_two_that_start_at_once_do_not_take_each_other_for_thieves(home: Home) -> None:
    assert await asyncio.gather(*(read(home) for _ in range(5))) == [1] * 5


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can write for another")
async def test_what_root_unwraps_is_the_agents(home: Home) -> None:
    os.chown(home.directory, 65534, 65534)
    await read(home)
    assert (home.directory / NAME).stat().st_uid == 65534
