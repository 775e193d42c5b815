"""Databases of MariaDB come back from their dumps in place: loaded beside those that live, exchanged, and undone."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path

import pytest

from homelab_agent.backup import alone, dumps
from homelab_agent.backup.aim import Wish
from homelab_agent.backup.docker import Docker
from homelab_agent.backup.dumping import PlannedDump
from homelab_agent.backup.exchanging import PlacesDisturbed
from homelab_agent.backup.movable import NotMovable
from homelab_agent.backup.settings import BackupSettings, Dump
from tests import mariadb_container, restoring
from tests.freezing import named
from tests.neighbours.docker import Docker as Neighbour
from tests.restored import House, copied
from tests.waiting import until

PASSWORD = "secret"
DUMP = Dump(container="db", kind="mariadb")
WORKS = """
trap exit TERM
while :; do mariadb -h 127.0.0.1 -u app shop -e 'INSERT INTO seen VALUES (); SELECT sleep(0.1)'; done
"""
MADE = r"""
CREATE TABLE parent (id int PRIMARY KEY, words text, FULLTEXT KEY (words));
CREATE TABLE child (id int PRIMARY KEY, of_it int, FOREIGN KEY (of_it) REFERENCES parent (id) ON DELETE CASCADE);
CREATE TABLE `odd``d; é` (n int) ENGINE=MyISAM;
CREATE TABLE seen (id int AUTO_INCREMENT PRIMARY KEY);
CREATE TABLE counts (n int);
CREATE SEQUENCE numbers;
CREATE TABLE tickets (id int DEFAULT nextval(numbers), said text);
INSERT INTO tickets (said) VALUES ('first');
INSERT INTO parent SELECT seq, concat('word', seq) FROM seq_1_to_1000;
INSERT INTO child VALUES (1, 1);
INSERT INTO `odd``d; é` VALUES (5);
INSERT INTO counts VALUES (0);
CREATE FUNCTION shop.two() RETURNS int DETERMINISTIC RETURN 2;
CREATE VIEW a_view AS SELECT id FROM z_view;
CREATE OR REPLACE VIEW z_view AS SELECT id, two() AS two FROM parent WHERE id < 10;
CREATE PROCEDURE shop.one() SELECT count(*) FROM shop.parent;
SET NAMES latin1;
EXECUTE IMMEDIATE concat('CREATE PROCEDURE latin() SELECT "', convert(0xe9 USING latin1), '"');
SET NAMES utf8mb4;
CREATE TRIGGER shop.counted AFTER INSERT ON shop.parent FOR EACH ROW UPDATE shop.counts SET n = n + 1;
CREATE EVENT shop.later ON SCHEDULE EVERY 1 YEAR DO DELETE FROM shop.parent;
CREATE USER app@'%' IDENTIFIED BY 'app';
GRANT INSERT ON shop.* TO app@'%';
CREATE USER reader@'%' IDENTIFIED BY 'a pass\\word';
GRANT SELECT ON shop.z_view TO reader@'%';
CREATE USER caller@'%' IDENTIFIED BY 'x';
GRANT EXECUTE ON PROCEDURE shop.one TO caller@'%';
"""
LOST = """
DROP TABLE child; DROP TABLE parent; DROP VIEW a_view; DROP VIEW z_view;
DROP FUNCTION two; DROP EVENT later; DROP USER reader@'%';
CREATE TABLE later (id int); INSERT INTO later VALUES (1);
CREATE TRIGGER kept BEFORE INSERT ON later FOR EACH ROW SET NEW.id = NEW.id + 1;
CREATE VIEW newer AS SELECT * FROM later;
ALTER DATABASE shop COLLATE utf8mb4_general_ci;
"""
ACTS = """
SELECT group_concat(concat(kind, ' ', called) ORDER BY kind, called) FROM (
    SELECT 'view' AS kind, table_name AS called FROM information_schema.views WHERE table_schema = 'shop'
    UNION ALL SELECT 'trigger', trigger_name FROM information_schema.triggers WHERE trigger_schema = 'shop'
    UNION ALL SELECT lower(routine_type), routine_name FROM information_schema.routines WHERE routine_schema = 'shop'
    UNION ALL SELECT 'event', event_name FROM information_schema.events WHERE event_schema = 'shop'
    UNION ALL SELECT default_collation_name, '' FROM information_schema.schemata WHERE schema_name = 'shop'
) each_of_them
"""
ACTS_OF_NEW = (
    "event later,function two,procedure latin,procedure one,trigger counted,utf8mb4_czech_ci ,view a_view,view z_view"
)
ACTS_OF_NONE = "utf8mb4_general_ci"
ACTS_OF_OLD = "procedure latin,procedure one,trigger kept,utf8mb4_general_ci ,view newer"
ROWS = """
SELECT (SELECT count(*) FROM parent), (SELECT of_it FROM child), (SELECT n FROM `odd``d; é`), (SELECT id FROM tickets)
"""
DATABASES = "SHOW DATABASES LIKE '%shop%'"
POINTS = 60
"""More notes and deeds than a restore has."""
OF_INTEREST = {13: "DROP TRIGGER kept; DROP PROCEDURE one", 14: ""}
"""When tables are to be moved, and when what acts on them is to be made; and what the server did of that still."""


def ask(docker: Neighbour, statement: str, database: str = "shop") -> str:
    return mariadb_container.ask(docker, "db", statement, PASSWORD, database)


@pytest.fixture
async def house(docker: Neighbour, open_directory: Path) -> AsyncIterator[House]:
    async with AsyncExitStack() as stack:
        yield House(docker, await stack.enter_async_context(Docker(docker.socket)), open_directory)


@pytest.fixture
def shop(docker: Neighbour) -> Neighbour:
    """An engine with a server `db`, and `app`, which writes to its database `shop` all the time."""
    mariadb_container.image(docker)
    mariadb_container.run(docker, "db", PASSWORD, "-e", f"MARIADB_ROOT_PASSWORD={PASSWORD}")
    ask(docker, "CREATE DATABASE shop CHARACTER SET utf8mb4 COLLATE utf8mb4_czech_ci", "")
    made = MADE.replace("CREATE VIEW a_view", "CREATE VIEW z_view AS SELECT 1 AS id; CREATE VIEW a_view")
    ask(docker, made)
    app = ("--stop-timeout", "2", "-e", "MYSQL_PWD=app", mariadb_container.IMAGE, "sh", "-c", WORKS)
    docker("run", "-d", "--name", "app", "--network", "container:db", *app)
    until(lambda: int(ask(docker, "SELECT count(*) FROM seen")) > 0, "the application works")
    return docker


async def test_a_server_gets_its_databases_and_users_back_while_it_runs_and_they_are_undone(
    house: House, shop: Neighbour
) -> None:
    archive = await copied(house, DUMP, names=["app"])
    ask(shop, LOST)
    acted = [await _killed(house, shop, archive.id, point, did) for point, did in OF_INTEREST.items()]
    assert acted == [ACTS_OF_OLD, ACTS_OF_NONE]
    started = shop.state("db")["StartedAt"]
    plan = await house.restoring.plan(Wish("things"))
    assert (plan.stops, "shop of db (mariadb)" in plan.loads) == (["app"], True)
    restored = await house.restore()
    assert (restored.stopped, restored.notes, restored.where) == (["app"], [], ["shop of db"])
    assert ask(shop, ROWS) == "1000\t1\t5\t1"
    assert ask(shop, ACTS) == ACTS_OF_NEW
    assert ask(shop, "SELECT count(*) FROM a_view") == "9"
    assert ask(shop, "SELECT id FROM parent WHERE MATCH (words) AGAINST ('word7')") == "7"
    assert ask(shop, "CALL latin()") == "é"
    ask(shop, "INSERT INTO parent VALUES (2000, '')")
    assert ask(shop, "SELECT n FROM counts") == "1", "the trigger counts what is new, and nothing of what was loaded"
    assert "EXECUTE ON PROCEDURE `shop`.`one`" in ask(shop, "SHOW GRANTS FOR caller@'%'")
    assert "SELECT ON `shop`.`z_view`" in ask(shop, "SHOW GRANTS FOR reader@'%'")
    assert shop.state("db")["StartedAt"] == started, "the server was not stopped for it"
    seen = int(ask(shop, "SELECT count(*) FROM seen"))
    until(lambda: int(ask(shop, "SELECT count(*) FROM seen")) > seen, "the application works with what came back")
    kept = await dumps.of(PlannedDump(await named(house.docker, "db"), DUMP), house.docker)
    assert [one.about["what"] for one in kept] == ["shop", "users"], "what is kept beside is not dumped"
    ask(shop, "DROP VIEW a_view")
    await house.restoring.undo(restored.undo)
    assert ask(shop, ACTS) == ACTS_OF_OLD
    assert ask(shop, "INSERT INTO later VALUES (5); SELECT group_concat(id) FROM newer") == "1,6"
    await house.restoring.undo(restored.undo)
    assert ask(shop, ACTS) == ACTS_OF_NEW.replace("view a_view,", ""), "as it was left, not as it was dumped"
    assert ask(shop, ROWS).startswith("1001\t1\t5")
    assert "EXECUTE ON PROCEDURE `shop`.`one`" in ask(shop, "SHOW GRANTS FOR caller@'%'")
    settings = BackupSettings(docker=shop.socket, directory=house.copies, records=house.records, undo_days=0)
    assert await alone.expire(settings) == [restored.undo]
    assert ask(shop, DATABASES) == "shop"
    assert list(house.undos.directory.iterdir()) == []


async def test_what_cannot_be_moved_is_named_and_a_database_that_was_dropped_comes_back_and_goes_again(
    house: House, shop: Neighbour
) -> None:
    ask(shop, "DROP TABLE tickets")
    await copied(house, DUMP, names=["app"])
    ask(shop, "CREATE DATABASE other; CREATE TABLE other.of_it (id int, FOREIGN KEY (id) REFERENCES shop.parent (id))")
    ask(shop, "CREATE TABLE parts (id int) PARTITION BY HASH (id) PARTITIONS 2; DROP VIEW z_view")
    before, started = ask(shop, "SHOW DATABASES"), shop.state("app")["StartedAt"]
    with pytest.raises(NotMovable) as error:
        await house.restore()
    for word in ("the table parts has partitions", "of other.of_it leads here", "the view a_view is broken"):
        assert word in str(error.value)
    assert "mariadb -uroot" in error.value.repair
    assert (ask(shop, "SHOW DATABASES"), shop.state("app")["StartedAt"]) == (before, started)
    await house.clean()
    ask(shop, "DROP DATABASE other")
    shop("rm", "-f", "app")
    ask(shop, "DROP DATABASE shop; DROP USER reader@'%'", "")
    restored = await house.restore(globs=["dumps/db/shop.sql"])
    assert ask(shop, ACTS) == ACTS_OF_NEW
    await house.restoring.undo(restored.undo)
    assert "shop" not in ask(shop, "SHOW DATABASES", "").split()
    for beside in ask(shop, DATABASES, "").split():
        ask(shop, f"DROP DATABASE {beside}", "")
    with pytest.raises(PlacesDisturbed):
        await house.restoring.undo(restored.undo)
    assert not await asyncio.to_thread(house.undos.unfinished), "nothing was begun that could not be ended"


@pytest.mark.soak
async def test_killed_at_every_point_a_server_has_the_old_databases_or_the_new_ones(
    house: House, shop: Neighbour
) -> None:
    archive = await copied(house, DUMP, names=["app"])
    ask(shop, LOST)
    for point in range(POINTS):
        await _killed(house, shop, archive.id, point)
        if ask(shop, ACTS) == ACTS_OF_NEW:
            break
    assert {undo.step for undo in await asyncio.to_thread(house.undos.list)} == {"kept"}


async def _killed(house: House, shop: Neighbour, archive: str, point: int, did: str = "") -> str:
    """Return what acts on the tables when a restore is killed there; see that all is old, or all is new, after it."""
    task = restoring.Task(
        *(str(shop.socket), str(house.copies), str(house.records), "things", [archive]), dies_at=point
    )
    with restoring.running(task) as child:
        code = await asyncio.to_thread(child.wait, 60)
    assert code in {0, -9}
    acted = ask(shop, ACTS)
    if did:
        ask(shop, did)
    if acted == ACTS_OF_NONE:
        shop("kill", "db")  # as after a power cut: it is started for what is left to do
    await alone.resume(BackupSettings(docker=shop.socket, directory=house.copies, records=house.records))
    is_new = code == 0
    assert ask(shop, ACTS) == (ACTS_OF_NEW if is_new else ACTS_OF_OLD)
    assert ask(shop, "SELECT count(*) FROM parent" if is_new else "SELECT id FROM newer") == ("1000" if is_new else "1")
    assert "EXECUTE ON PROCEDURE `shop`.`one`" in ask(shop, "SHOW GRANTS FOR caller@'%'")
    if "reader" in ask(shop, "SELECT group_concat(user) FROM mysql.user"):
        assert "SELECT ON `shop`.`z_view`" in ask(shop, "SHOW GRANTS FOR reader@'%'"), "whole, or not there"
    assert shop.state("app")["Status"] == "running"
    assert (ask(shop, DATABASES) == "shop") != is_new
    return acted
