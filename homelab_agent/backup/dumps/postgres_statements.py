"""What PostgreSQL is asked and told for a dump; pure.

Names and values from outside are variables of psql (`:"database_name"`, `:'version'`), which quotes them, or were
quoted by the server (`format` with %I, %L).
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping, Sequence

FACTS = ("encoding", "collate", "ctype", "provider", "locale", "properties")
"""What is told of a database beside its dump; `properties` are statements, which may have a secret in a setting."""

DATABASES = r"""
SELECT json_build_object('version', current_setting('server_version'), 'databases', coalesce(json_agg(json_build_object(
    'name', datname, 'bytes', pg_database_size(d.oid), 'encoding', pg_encoding_to_char(encoding),
    'collate', datcollate, 'ctype', datctype, 'provider', to_jsonb(d) ->> 'datlocprovider',
    'locale', coalesce(to_jsonb(d) ->> 'datlocale', to_jsonb(d) ->> 'daticulocale'),
    'properties', (SELECT json_agg(line ORDER BY part, line) FROM (
        SELECT 1 AS part, format('ALTER DATABASE :"database_name" OWNER TO %I', pg_get_userbyid(datdba)) AS line
        UNION ALL SELECT 2, format('ALTER DATABASE :"database_name" CONNECTION LIMIT %s', datconnlimit)
            WHERE datconnlimit >= 0
        UNION ALL SELECT 3, 'ALTER DATABASE :"database_name" IS_TEMPLATE true' WHERE datistemplate
        UNION ALL SELECT 4, format('COMMENT ON DATABASE :"database_name" IS %L', said)
            FROM shobj_description(d.oid, 'pg_database') said WHERE said IS NOT NULL
        UNION ALL SELECT 5, 'REVOKE ALL ON DATABASE :"database_name" FROM PUBLIC' WHERE datacl IS NOT NULL
        UNION ALL SELECT 6, format('GRANT %s ON DATABASE :"database_name" TO %s%s', privilege_type,
                CASE grantee WHEN 0 THEN 'PUBLIC' ELSE quote_ident(pg_get_userbyid(grantee)) END,
                CASE WHEN is_grantable THEN ' WITH GRANT OPTION' ELSE '' END)
            FROM aclexplode(datacl)
        UNION ALL SELECT 7, CASE WHEN listed THEN format('SELECT pg_catalog.set_config(%L, %L, false); ', name, value)
                ELSE '' END
            || CASE setrole WHEN 0 THEN 'ALTER DATABASE :"database_name"'
                ELSE format('ALTER ROLE %I IN DATABASE :"database_name"', pg_get_userbyid(setrole)) END
            || CASE WHEN listed THEN format(' SET %I FROM CURRENT', name) ELSE format(' SET %I TO %L', name, value) END
            FROM (SELECT setrole, split_part(one, '=', 1) AS name, substr(one, strpos(one, '=') + 1) AS value,
                    split_part(one, '=', 1) IN ('search_path', 'temp_tablespaces', 'local_preload_libraries',
                        'session_preload_libraries') AS listed
                FROM pg_db_role_setting, unnest(setconfig) one WHERE setdatabase = d.oid) settings
    ) properties)
) ORDER BY datname), '[]')) FROM pg_database d
WHERE datallowconn AND datconnlimit >= -1 AND datname NOT IN ('template0', 'template1') AND datname !~ :'ours';
"""
"""Left out are those that a restore keeps. A setting that is a list is stored as text: only set_config takes that."""
EXTENSIONS = "SELECT coalesce(json_object_agg(extname, extversion), '{}') FROM pg_extension WHERE extname <> 'plpgsql';"
ROLES = "SELECT coalesce(json_agg(rolname), '[]') FROM pg_roles;"
STARTED = "SELECT pg_postmaster_start_time(), current_setting('listen_addresses') <> '';"
IS_THERE = "SELECT 1 FROM pg_database WHERE datname = :'name';"
TABLES = r"""
SELECT count(*) FROM pg_class c JOIN pg_namespace n ON n.oid = relnamespace
WHERE relkind IN ('r', 'p', 'm', 'f') AND nspname NOT IN ('pg_catalog', 'information_schema')
    AND nspname !~ '^pg_(toast|temp)'
    AND NOT EXISTS (SELECT FROM pg_depend WHERE classid = 'pg_class'::regclass AND objid = c.oid AND deptype = 'e');
"""
"""How many tables somebody has made, not an extension."""
BEFORE_TIMESCALE = "CREATE EXTENSION timescaledb WITH VERSION :'version'; SELECT timescaledb_pre_restore();"
AFTER_TIMESCALE = "SELECT timescaledb_post_restore();"
"""https://docs.timescale.com: "Logical backup with pg_dump and pg_restore"; the same version on both sides."""

_ROLE = re.compile(
    r'(?:CREATE ROLE|ALTER ROLE|COMMENT ON ROLE|SECURITY LABEL FOR .+? ON ROLE) ("(?:[^"]|"")+"|\w+)', re.DOTALL
)
_GRANT = re.compile(r'GRANT ("(?:[^"]|"")+"|\w+) TO ("(?:[^"]|"")+"|\w+)', re.DOTALL)
_WORD = re.compile(r"""'(?:[^']|'')*'|"(?:[^"]|"")*"|--[^\n]*|^\\[^\n]*|;|[^'"\-\\;]+|.""", re.DOTALL | re.MULTILINE)


def create(known: Mapping[str, object]) -> str:
    """Return the statement that makes a database with this encoding and these locales; they are psql's variables."""
    words = ["CREATE DATABASE :\"database_name\" TEMPLATE template0 ENCODING :'encoding'"]
    words.append("LC_COLLATE :'collate' LC_CTYPE :'ctype'")
    match known["provider"]:
        case "i":
            words.append("LOCALE_PROVIDER icu ICU_LOCALE :'locale'")
        case "b":
            words.append("LOCALE_PROVIDER builtin BUILTIN_LOCALE :'locale'")
        case _:
            pass
    return " ".join(words)


def of_missing_roles(script: str, there: Collection[str]) -> Sequence[str]:
    """Return the statements of `pg_dumpall --globals-only` that make roles which are not there, and what they are.

    Left out are those about roles that are there, and tablespaces.
    """
    found = []
    for statement in _statements(script):
        if role := _ROLE.match(statement):
            if _plain(role[1]) not in there:
                found.append(statement)
        elif grant := _GRANT.match(statement):
            if _plain(grant[2]) not in there:
                found.append(statement)
        elif statement.startswith("SET "):
            found.append(statement)
    return found


def _statements(script: str) -> Iterator[str]:
    """Split a script at its semicolons; comments and psql's own commands are left out."""
    words: list[str] = []
    for word in _WORD.findall(script):
        if word == ";":
            yield f"{''.join(words).strip()};"
            words = []
        elif not word.startswith(("--", "\\")):
            words.append(word)


def _plain(name: str) -> str:
    return name[1:-1].replace('""', '"') if name.startswith('"') else name
