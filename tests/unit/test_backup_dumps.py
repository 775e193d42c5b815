"""What a dump is called, what of a script of roles is run again, and what an agent is not told."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from homelab_agent.backup import dumps, loading, reserved, wire
from homelab_agent.backup.dumps import mariadb_parts, mariadb_statements, postgres_statements
from homelab_agent.backup.dumps.dumped import member
from homelab_agent.backup.dumps.inside import each
from homelab_agent.backup.dumps.postgres import conninfo
from homelab_agent.backup.point import Archive, Content, Contents
from homelab_agent.core.uuid7 import uuid7

SCRIPT = r"""--
-- PostgreSQL database cluster dump; it's "one"
--
\restrict aBc'd
SET client_encoding = 'UTF8';
CREATE ROLE postgres;
ALTER ROLE postgres WITH SUPERUSER PASSWORD 'SCRAM;''--$x';
CREATE ROLE "Odd ""one"";";
ALTER ROLE "Odd ""one"";" WITH LOGIN PASSWORD E'back\\slash''; --';
COMMENT ON ROLE "Odd ""one"";" IS 'two
lines; of it';
CREATE ROLE shop;
ALTER ROLE shop SET search_path TO '-- no comment';
GRANT "Odd ""one"";" TO shop WITH ADMIN OPTION GRANTED BY postgres;
GRANT shop TO postgres GRANTED BY postgres;
CREATE TABLESPACE fast OWNER postgres LOCATION '/fast';
\unrestrict aBc'd
"""


@pytest.mark.parametrize(
    ("what", "place"),
    [
        ("shop.pgdump", "dumps/db/shop.pgdump"),
        ("../../etc/passwd", "dumps/db/..%2F..%2Fetc%2Fpasswd"),
        ("..", "dumps/db/%2E%2E"),
        ("a b~é\n", "dumps/db/a%20b%7E%C3%A9%0A"),
    ],
)
def test_no_name_of_a_database_leads_out_of_its_place(what: str, place: str) -> None:
    assert member("db", what) == place


def test_only_what_makes_roles_that_are_missing_is_run() -> None:
    found = postgres_statements.of_missing_roles(SCRIPT, {"postgres", "shop"})
    assert [statement.split(";")[0].split(" WITH")[0] for statement in found] == [
        "SET client_encoding = 'UTF8'",
        'CREATE ROLE "Odd ""one""',
        'ALTER ROLE "Odd ""one""',
        'COMMENT ON ROLE "Odd ""one""',
    ]
    assert found[2].endswith("""PASSWORD E'back\\\\slash''; --';""")
    assert found[3].endswith("'two\nlines; of it';")
    everything = postgres_statements.of_missing_roles(SCRIPT, ())
    assert len(everything) == 10
    assert not any("TABLESPACE" in statement for statement in everything)


def test_only_what_makes_users_that_are_missing_is_run() -> None:
    printed = "-- user 'a'@'%'\nCREATE USER a\nGRANT x\n-- user 'b;'@'%'\nCREATE USER b"
    script = "".join(mariadb_statements.script_of_users(printed))
    assert mariadb_statements.of_missing_users(script, {"'a'@'%'"}) == ["CREATE USER b;"]


def test_a_database_is_named_though_it_looks_like_settings() -> None:
    assert conninfo("host=elsewhere it's\\") == r"dbname='host=elsewhere it\'s\\'"


def test_roles_are_loaded_first_and_users_last() -> None:
    told = {
        "a": {"container": "one", "what": "users"},
        "b": {"container": "one", "what": "globals"},
        "c": {"container": "one", "what": "shop"},
    }
    assert dumps.ordered(told) == ["b", "c", "a"]


def test_what_a_databases_settings_may_keep_secret_does_not_reach_the_agent() -> None:
    about = {"host": "here", "dumps": {"dumps/db/shop.pgdump": {"what": "shop", "properties": ["SET secret"]}}}
    made = Archive("id", "archive", "set", datetime.now(UTC), "dump", "", 1, 1, 1, {"about": about})
    assert wire.of_archive(made)["about"] == {"host": "here", "dumps": {"dumps/db/shop.pgdump": {"what": "shop"}}}


def test_a_database_that_a_restore_had_kept_is_not_brought_back() -> None:
    kept = [reserved.database(name, uuid7(), 1) for name in ("shop", "ü" * 63)]
    told = {f"dumps/db/{name}": {"container": "db", "kind": "postgres", "what": name} for name in ("shop", *kept)}
    files = {f"{name}/0000": Content(1, "") for name in told}
    found = loading.asked(Contents({}, list(told), files, {"dumps": told}), (), "archive")
    assert [one.member for one in found] == ["dumps/db/shop"]
    assert not any(map(reserved.is_our_database, ("shop", "a_homelab_agent_1", "homelab_agent")))


async def test_a_dump_of_mariadb_is_told_apart_wherever_it_is_cut() -> None:
    tables = [b"/*!40101 SET NAMES utf8mb4 */;\n", b"-- Table structure for table `t`\n", b"INSERT INTO `t` VALUES\n"]
    tables += [b"(1,'DELIMITER ;;');\n", b"/*!40000 ALTER TABLE `t` ENABLE KEYS */;\n"]
    acts = [
        b"ALTER DATABASE `shop` CHARACTER SET utf8mb4 COLLATE utf8mb4_bin ;\n",
        b"/*!50003 SET sql_mode = '' */ ;\n",
    ]
    acts += [
        b"DELIMITER ;;\n",
        b"/*!50003 TRIGGER shop.x BEFORE INSERT ON shop.t\n",
        b"-- Table of its own\n",
        b" */;;\n",
    ]
    acts += [b"DELIMITER ;\n"]
    view = [b"-- Final view structure for view `v`\n", b"/*!50001 VIEW `v` AS select 1 */;\n"]
    end = [b"/*!40101 SET SQL_MODE=@OLD_SQL_MODE */;\n", b"-- Dump completed on 2026-11-29\n"]
    dump = b"".join([*tables, *acts, *view, *end])
    for size in (1, 7, len(dump)):
        programs = bytearray()
        pieces = each(dump[at : at + size] for at in range(0, len(dump), size))
        found = b"".join([piece async for piece in mariadb_parts.tables(pieces, programs)])
        assert found == b"".join([*tables, *end])
        assert bytes(programs) == b"".join([tables[0], *acts, *view, end[0]])
