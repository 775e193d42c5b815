"""Whether the tables of a MariaDB's database can be moved to another one, all of them in one atomic statement.

https://mariadb.com/kb/en/atomic-ddl/ and https://mariadb.com/kb/en/rename-table/
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from homelab_agent.backup.dumps import mariadb
from homelab_agent.backup.dumps import mariadb_statements as statements
from homelab_agent.backup.dumps.mariadb_statements import text
from homelab_agent.core.errors import AgentError

_ATOMIC_SINCE = (10, 6, 1)
_ENGINES = ("InnoDB", "Aria", "MyISAM", "MEMORY")


class NotMovable(AgentError):
    """The database {live} does not change places with another one: {what}."""

    repair = "{repair}"


async def obstacles(server: mariadb.Server, database: str) -> Sequence[str]:
    """Return in words what keeps the tables of a database from being moved whole; nothing where it is not there."""
    version = await server.ask(statements.VERSION)
    if not statements.is_mariadb(version):
        return [f"MySQL {version} (only MariaDB's are exchanged)"]
    if _numbers(version) < _ATOMIC_SINCE:
        return [f"MariaDB {version} moves no tables at once ({'.'.join(map(str, _ATOMIC_SINCE))} and later do)"]
    engines = ", ".join(map(text, _ENGINES))
    found = await server.ask(
        f"""
        SELECT concat('the table ', table_name, ' is of the engine ', engine) FROM information_schema.tables
        WHERE table_schema = {text(database)} AND table_type <> 'VIEW' AND engine NOT IN ({engines})
        UNION ALL SELECT concat('the table ', table_name, ' has partitions') FROM information_schema.tables
        WHERE table_schema = {text(database)} AND create_options LIKE '%partitioned%'
        UNION ALL SELECT concat('the view ', table_name, ' is broken, and could not be made again: DROP VIEW first')
        FROM information_schema.views
        WHERE table_schema = {text(database)} AND table_name NOT IN
            (SELECT table_name FROM information_schema.columns WHERE table_schema = {text(database)})
        UNION ALL SELECT concat('the foreign key ', constraint_name, ' of ', table_name, ' leads to another database')
        FROM information_schema.referential_constraints
        WHERE constraint_schema = {text(database)} AND unique_constraint_schema <> {text(database)}
        UNION ALL SELECT concat('the foreign key ', constraint_name, ' of ', constraint_schema, '.', table_name,
            ' leads here') FROM information_schema.referential_constraints
        WHERE constraint_schema <> {text(database)} AND unique_constraint_schema = {text(database)};"""  # noqa: S608 - hexadecimal digits
    )
    return found.splitlines()


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(map(int, re.findall(r"\d+", version)[:3]))
