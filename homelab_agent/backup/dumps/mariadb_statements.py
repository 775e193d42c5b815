"""What MariaDB and MySQL are asked and told for a dump; pure."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence

from homelab_agent.backup import reserved

OPTIONS = (
    "--quick",
    "--routines",
    "--events",
    "--triggers",
    "--hex-blob",
    "--comments",  # the last of which says that the dump is whole
    "--no-tablespaces",
    "--skip-add-locks",  # under which no table is filled whose default takes the next value of a sequence
    "--default-character-set=utf8mb4",
    "--loose-set-gtid-purged=OFF",  # MySQL's alone: of another server's transactions nobody knows here
)

DATABASES = f"""
SELECT json_object('name', schema_name, 'charset', default_character_set_name, 'collation', default_collation_name,
    'bytes', (SELECT coalesce(sum(data_length), 0) FROM information_schema.tables WHERE table_schema = schema_name),
    'untransactional', (SELECT count(*) FROM information_schema.tables WHERE table_schema = schema_name
        AND table_type = 'BASE TABLE'
        AND coalesce(engine, '') NOT IN (SELECT engine FROM information_schema.engines WHERE transactions = 'YES')))
FROM information_schema.schemata
WHERE schema_name NOT IN ('information_schema', 'performance_schema', 'sys', 'mysql')
    AND schema_name NOT REGEXP '{reserved.DATABASES}' ORDER BY schema_name;
"""  # noqa: S608 - a pattern of ours
VERSION = "SELECT version();"
_USERS_OF_MARIADB = """
SELECT if(is_role = 'Y', quote(user), concat(quote(user), '@', quote(host))) FROM mysql.user
ORDER BY is_role DESC, user, host;
"""
_USERS_OF_MYSQL = "SELECT concat(quote(user), '@', quote(host)) FROM mysql.user ORDER BY user, host;"
"""Its roles are users."""
_USER = "-- user "


def is_mariadb(version: str) -> bool:
    """Return whether a server of this version is MariaDB, not MySQL."""
    return "mariadb" in version.lower()


def started(version: str) -> str:
    """Return the question when the server has started, in seconds since 1970, and whether it listens to nobody."""
    schema = "information_schema" if is_mariadb(version) else "performance_schema"
    return (
        f"SELECT unix_timestamp() - variable_value, @@skip_networking FROM {schema}.global_status"  # noqa: S608 - ours
        " WHERE variable_name = 'Uptime';"
    )


def users(version: str) -> str:
    """Return the question for the names of all users, a line each as SQL has them; MariaDB's roles come first."""
    return _USERS_OF_MARIADB if is_mariadb(version) else _USERS_OF_MYSQL


def show_users(names: Sequence[str]) -> str:
    """Return what has the server print, for each of these names, a line with it, then what makes it as it is."""
    lines = ["/*!80017 SET SESSION print_identified_with_as_hex = 1 */;"]
    for one in names:
        lines.append(f"SELECT {text(_USER + one)};")
        made = f"SHOW CREATE USER {one};" if "@" in one else f"SELECT {text('CREATE ROLE ' + one)};"
        lines += [made, f"SHOW GRANTS FOR {one};"]
    return "\n".join(lines)


def script_of_users(printed: str) -> Iterator[str]:
    """Make statements of what `show_users` had the server print."""
    for line in printed.splitlines():
        yield f"{line}\n" if line.startswith(_USER) else f"{line};\n"


def of_missing_users(script: str, there: Collection[str]) -> Sequence[str]:
    """Return the statements of such a script that are about users which are not there."""
    found, missing = [], False
    for line in script.splitlines():
        if line.startswith(_USER):
            missing = line.removeprefix(_USER) not in there
        elif missing:
            found.append(line)
    return found


def missing_users(script: str, there: Collection[str]) -> Sequence[str]:
    """Return the names of such a script that are not there, as SQL has them."""
    names = [line.removeprefix(_USER) for line in script.splitlines() if line.startswith(_USER)]
    return [one for one in names if one not in there]


def drop_users(names: Sequence[str]) -> str:
    """Return the statements that drop users and roles."""
    return "\n".join(f"DROP {'USER' if '@' in one else 'ROLE'} IF EXISTS {one};" for one in names)


def tables(database: str) -> str:
    """Return the question how many tables and views a database has."""
    where = f"table_schema = {text(database)}"
    return f"SELECT count(*) FROM information_schema.tables WHERE {where};"  # noqa: S608 - hexadecimal digits


def create(database: str, charset: str, collation: str) -> str:
    """Return the statements that make a database, or give one that is there its character set."""
    made, how = name(database), f"CHARACTER SET {name(charset)} COLLATE {name(collation)}"
    return f"CREATE DATABASE IF NOT EXISTS {made}; ALTER DATABASE {made} {how};"


def drop(database: str) -> str:
    """Return the statement that drops a database."""
    return f"DROP DATABASE IF EXISTS {name(database)};"


def name(text: str) -> str:
    """Return a name as a statement has it."""
    return "`{}`".format(text.replace("`", "``"))


def text(text: str) -> str:
    """Return a text that needs no escaping, whatever the server's mode."""
    return f"convert(0x{text.encode().hex()} USING utf8mb4)" if text else "''"
