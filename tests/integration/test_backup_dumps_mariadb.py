"""A MariaDB writes itself out while it works, and an empty one is what it was from what was written."""

from __future__ import annotations

import asyncio
import subprocess
from pathlib import Path

import pytest

from homelab_agent.backup import docker as engine
from homelab_agent.backup import dumps, loading
from homelab_agent.backup.dumps.errors import DumpFailed, LoadFailed, NotReached
from homelab_agent.backup.loading import Load
from tests import mariadb_container
from tests.dumped import dumps_of, each, whole
from tests.freezing import named
from tests.neighbours.docker import Docker
from tests.waiting import until

FIRST, SECOND = "first's pass\\word", "another"
MADE = r"""
CREATE DATABASE shop CHARACTER SET utf8mb4 COLLATE utf8mb4_czech_ci;
CREATE DATABASE `odd``d na-me; é`;
CREATE TABLE `odd``d na-me; é`.old (n int) ENGINE=MyISAM;
INSERT INTO `odd``d na-me; é`.old VALUES (1), (2);
"""
OF_SHOP = r"""
CREATE TABLE things (id int PRIMARY KEY, said varchar(100), data blob);
INSERT INTO things SELECT seq, concat('thing ', seq, ' ž \\'), unhex(hex(seq)) FROM seq_1_to_5000;
CREATE VIEW some AS SELECT id FROM things WHERE id < 10;
CREATE PROCEDURE one() SELECT 1;
CREATE TRIGGER counted BEFORE INSERT ON things FOR EACH ROW SET NEW.said = upper(NEW.said);
CREATE EVENT later ON SCHEDULE EVERY 1 YEAR DO DELETE FROM things;
CREATE ROLE readers;
CREATE USER shop@'%' IDENTIFIED BY 'kept; as it\\ was';
CREATE USER `o'dd`@localhost IDENTIFIED BY 'x';
GRANT SELECT, EXECUTE ON shop.* TO readers;
GRANT readers TO shop@'%';
SET DEFAULT ROLE readers FOR shop@'%';
GRANT EXECUTE ON PROCEDURE shop.one TO `o'dd`@localhost;
"""
CHECKSUM = "SELECT count(*), sum(id), sha2(group_concat(said, hex(data) ORDER BY id), 256) FROM things"
USERS = (
    "SELECT user, host, authentication_string, is_role, default_role FROM mysql.user WHERE user <> 'root' ORDER BY 1, 2"
)
OBJECTS = """
SELECT routine_name FROM information_schema.routines WHERE routine_schema = 'shop' UNION ALL
SELECT trigger_name FROM information_schema.triggers WHERE trigger_schema = 'shop' UNION ALL
SELECT event_name FROM information_schema.events WHERE event_schema = 'shop' UNION ALL
SELECT default_collation_name FROM information_schema.schemata WHERE schema_name = 'shop'
"""


async def test_a_server_comes_back_whole_in_an_empty_one(
    docker: Docker, control: engine.Docker, tmp_path: Path
) -> None:
    mariadb_container.image(docker)
    mariadb_container.run(docker, "first", FIRST, "-e", f"MARIADB_ROOT_PASSWORD={FIRST}")
    mariadb_container.run(docker, "second", SECOND, "-e", f"MYSQL_ROOT_PASSWORD={SECOND}")

    def ask(name: str, statement: str, database: str = "shop") -> str:
        return mariadb_container.ask(docker, name, statement, FIRST if name == "first" else SECOND, database)

    ask("first", MADE, "")
    ask("first", OF_SHOP)
    taken = {one.member: (one, await whole(one.opened())) for one in await dumps_of(control, "first", "mariadb")}
    odd = "dumps/first/odd%60d%20na-me%3B%20%C3%A9.sql"
    assert set(taken) == {"dumps/first/shop.sql", "dumps/first/users.sql", odd}
    assert (taken[odd][0].about["locked"], taken["dumps/first/shop.sql"][0].about["locked"]) == (True, False)
    told = {member: one.about for member, (one, _) in taken.items()}
    assert dumps.ordered(told)[-1] == "dumps/first/users.sql"
    assert told[odd]["version"] == ask("first", "SELECT version()")
    second = await named(control, "second")
    await dumps.ready(control, second.id, {**told[odd], "container": "second"}, seconds=30)
    for member in dumps.ordered(told):
        await dumps.load(control, second.id, told[member], each(taken[member][1]))
    for question in (CHECKSUM, OBJECTS, USERS, "SELECT * FROM some", "SHOW GRANTS FOR `o'dd`@localhost"):
        assert ask("second", question) == ask("first", question)
    assert "SELECT, EXECUTE ON `shop`.*" in ask("second", "SHOW GRANTS FOR readers")
    assert ask("second", "SELECT sum(n) FROM old", "odd`d na-me; é") == "3"
    one, content = taken["dumps/first/shop.sql"]
    with pytest.raises(LoadFailed, match="has tables already"):
        await dumps.load(control, second.id, one.about, each(content))
    await dumps.load(control, second.id, one.about, each(content), database="beside")
    assert ask("second", CHECKSUM, "beside") == ask("first", CHECKSUM)
    ask("second", "DROP TABLE things")
    file = tmp_path / "copy" / one.member
    file.parent.mkdir(parents=True)
    file.write_bytes(content)
    by_hand = loading.by_hand(Load(one.member, {**one.about, "container": "second"}, [], len(content)))
    await asyncio.to_thread(subprocess.run, ["sh", "-c", by_hand], cwd=tmp_path, env=docker.env, check=True)
    assert ask("second", CHECKSUM) == ask("first", CHECKSUM)
    with pytest.raises(LoadFailed):
        await dumps.load(control, second.id, one.about, each(content + b"\nNONSENSE;\n"), database="half")
    assert "half" not in ask("second", "SHOW DATABASES")


async def test_a_server_that_is_killed_in_the_middle_and_one_that_lets_nobody_in_have_no_dump(
    docker: Docker, control: engine.Docker
) -> None:
    mariadb_container.image(docker)
    mariadb_container.run(docker, "first", FIRST)
    with pytest.raises(NotReached, match="Access denied"):
        await dumps_of(control, "first", "mariadb")
    docker("rm", "-f", "first")
    docker("volume", "rm", "first")
    mariadb_container.run(docker, "first", "of-a-file", "-e", "MARIADB_ROOT_PASSWORD_FILE=/run/mysqld/password")
    docker("exec", "first", "sh", "-c", "echo of-a-file >/run/mysqld/password")
    mariadb_container.ask(docker, "first", "CREATE DATABASE shop; CREATE TABLE shop.things (n int)", "of-a-file")
    shop, _ = await dumps_of(control, "first", "mariadb")
    lock = "LOCK TABLES shop.things WRITE; SELECT sleep(600)"
    docker("exec", "-d", "-e", "MYSQL_PWD=of-a-file", "first", "mariadb", "-u", "root", "-e", lock)
    processes = "SELECT coalesce(group_concat(state), '') FROM information_schema.processlist"

    def state(text: str) -> bool:
        return text in mariadb_container.ask(docker, "first", processes, "of-a-file")

    until(lambda: state("User sleep"), "it is locked")
    taking = asyncio.create_task(whole(shop.opened()))
    await asyncio.to_thread(until, lambda: state("metadata lock"), "the dump waits")
    docker("kill", "first")
    with pytest.raises(DumpFailed, match="shop of first was not dumped"):
        await taking
