"""A database of a copy is started beside the living one, and asked for all that it has; one that is broken says so."""

from __future__ import annotations

import os
import re
from pathlib import Path

import pytest

from homelab_agent.backup.docker import Docker
from homelab_agent.backup.drill_kinds import Patience
from tests import drilling, mariadb_container, postgres_container
from tests.drilling import House, of
from tests.neighbours.docker import Docker as Neighbour
from tests.waiting import until

PATIENCE = Patience(ready=60)
CLEAN = r"1 database, 1\d\d,\d{3} rows, amcheck clean"
THINGS = "SELECT n, 'thing ' || n AS said FROM generate_series(1, 20000) n"


@pytest.fixture
async def house(docker: Neighbour, control: Docker, open_directory: Path) -> House:
    postgres_container.image(docker)
    postgres_container.run(docker, "db", "pg")
    return drilling.made(docker, control, open_directory)


def volume(house: House, name: str) -> Path:
    return Path(house.neighbour("volume", "inspect", "--format", "{{.Mountpoint}}", name))


def overwrite(path: Path, *, at: int, bytes_: int) -> None:
    with path.open("r+b") as file:
        file.seek(at)
        file.write(b"\0" * bytes_)


def bench(house: House, *words: str) -> str:
    return house.neighbour("exec", *words)


async def test_what_was_copied_and_what_was_dumped_under_load_comes_to_life(house: House) -> None:
    pgbench = ("pgbench", "-h", "/tmp", "-U", "postgres")
    bench(house, "db", *pgbench, "-i", "-s", "1", "postgres")
    bench(house, "--detach", "db", *pgbench, "-c", "4", "-R", "200", "-T", "600", "postgres")
    until(lambda: postgres_container.ask(house.neighbour, "db", "TABLE pgbench_history LIMIT 1") != "", "it works")
    before = house.neighbour.state("db")
    drilled = await house.drill(await house.back_up(volumes=["pg"], mode="pause"), PATIENCE)
    assert drilled.proven, drilled.detail
    assert re.fullmatch(rf"PostgreSQL started, {CLEAN}", of(drilled, "db").said)
    dumped = await house.back_up(volumes=["pg"])
    drilled = await house.drill(dumped, PATIENCE)
    assert drilled.proven, drilled.detail
    assert of(drilled, "copy").said == "0 files and 2 dumps, as they were written"
    assert re.fullmatch(rf"PostgreSQL started, 2 dumps loaded, {CLEAN}", of(drilled, "db").said)
    after = house.neighbour.state("db")
    assert (after["StartedAt"], after["Status"]) == (before["StartedAt"], "running")
    house.neighbour("rm", "--force", "db")
    gone = "; as its image says, for there is no container db any more"
    drilled = await house.drill(dumped, PATIENCE)
    assert re.fullmatch(rf"PostgreSQL started, 2 dumps loaded, {CLEAN}{gone}", of(drilled, "db").said)


async def test_a_server_outside_a_set_that_dumps_into_it_is_given_its_dumps(house: House, open_directory: Path) -> None:
    postgres_container.ask(house.neighbour, "db", f"CREATE TABLE things AS {THINGS}")
    things = open_directory / "things"
    things.mkdir()
    drilled = await house.drill(await house.back_up(paths=[things], dump=[{"container": "db"}]), PATIENCE)
    assert drilled.proven, drilled.detail
    assert of(drilled, "db").said == "PostgreSQL started, 2 dumps loaded, 1 database, 20,000 rows, amcheck clean"


async def test_a_copy_that_is_right_in_every_byte_of_a_database_that_is_broken_is_no_proof(house: House) -> None:
    for statement in (f"CREATE TABLE things AS {THINGS}", "CHECKPOINT"):
        postgres_container.ask(house.neighbour, "db", statement)
    path = postgres_container.ask(house.neighbour, "db", "SELECT pg_relation_filepath('things')")
    overwrite(volume(house, "pg") / path, at=5 * 8192 + 4000, bytes_=100)
    drilled = await house.drill(await house.back_up(volumes=["pg"], mode="pause"), PATIENCE)
    assert (drilled.proven, of(drilled, "copy").state) == (False, "good")
    assert of(drilled, "db").said.startswith("PostgreSQL started; ")
    overwrite(volume(house, "pg") / "global" / "pg_control", at=0, bytes_=8192)  # it is read at a start only
    drilled = await house.drill(await house.back_up(volumes=["pg"], mode="pause"), PATIENCE)
    assert not drilled.proven
    assert of(drilled, "db").said.startswith("PostgreSQL started, and ended with 1: ")
    assert "FATAL:  database files are incompatible with server" in of(drilled, "db").said
    assert "docker logs db" in drilled.repair


async def test_a_mariadb_says_which_table_is_broken(docker: Neighbour, control: Docker, open_directory: Path) -> None:
    mariadb_container.image(docker)
    mariadb_container.run(docker, "db", "hidden", "--env=MARIADB_ROOT_PASSWORD=hidden")
    things = "CREATE TABLE things ENGINE=MyISAM AS SELECT seq AS n FROM seq_1_to_1234"
    mariadb_container.ask(docker, "db", f"CREATE DATABASE shop; USE shop; {things}", "hidden")
    house = drilling.made(docker, control, open_directory)
    drilled = await house.drill(await house.back_up(volumes=["db"], mode="pause"), PATIENCE)
    assert drilled.proven, drilled.detail
    assert of(drilled, "db").said == "MariaDB started, 1 database, 1,234 rows, mariadb-check finds no fault"
    os.truncate(volume(house, "db") / "shop" / "things.MYD", 3000)
    drilled = await house.drill(await house.back_up(volumes=["db"], mode="pause"), PATIENCE)
    assert not drilled.proven
    assert "mariadb-check finds what is not as it should be. (error    : Size of datafile" in of(drilled, "db").said
