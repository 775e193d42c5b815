"""Which containers are a database that is known: by image, program, variables and labels; pure.

That it is one by mistake costs more than that it is not: an application that has POSTGRES_PASSWORD is none. SQLite is a
file in some container, and only the configuration can tell where.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import PurePosixPath
from types import MappingProxyType
from typing import Literal, TypeAlias, get_args

from homelab_agent.backup.inventory import Container, Mount

Kind: TypeAlias = Literal["postgres", "mariadb", "mongodb"]
LABEL = "homelab-agent.backup.database"
"""Says it outright: one of the kinds, or `none`."""

_IMAGES: Mapping[Kind, re.Pattern[str]] = MappingProxyType(
    {
        "postgres": re.compile(
            r"postgres|postgresql|postgres-(server|vectorchord|alpine)|postgis|pgvector|pgvecto-rs|vectorchord-postgres"
            r"|timescaledb(-ha|-docker|-docker-ha)?|spilo-\d+|cloudnative-pg|edb-postgres"
        ),
        "mariadb": re.compile(r"mariadb(-server|-galera)?|mysql(-server|-community-server)?|percona(-server)?"),
        "mongodb": re.compile(r"mongo|mongodb(-community-server|-enterprise-server)?|percona-server-mongodb"),
    }
)
_PROGRAMS: Mapping[str, Kind] = MappingProxyType(
    {"postgres": "postgres", "mariadbd": "mariadb", "mysqld": "mariadb", "mysqld_safe": "mariadb", "mongod": "mongodb"}
)
_VARIABLES: Mapping[Kind, tuple[re.Pattern[str], str]] = MappingProxyType(
    {
        "postgres": (re.compile("POSTGRES(QL)?_"), "5432/tcp"),
        "mariadb": (re.compile("(MARIADB|MYSQL)_"), "3306/tcp"),
        "mongodb": (re.compile("MONGO(DB)?_"), "27017/tcp"),
    }
)
_TITLES: Mapping[str, Kind] = MappingProxyType({"MariaDB Database": "mariadb", "PostgreSQL": "postgres"})
_USERS: Mapping[Kind, tuple[tuple[str, ...], str]] = MappingProxyType(
    {
        "postgres": (("POSTGRES_USER", "POSTGRESQL_USERNAME", "PGUSER"), "postgres"),
        "mariadb": ((), "root"),
        "mongodb": (("MONGO_INITDB_ROOT_USERNAME",), ""),
    }
)
_FILES: Mapping[Kind, tuple[str, ...]] = MappingProxyType(
    {
        "postgres": ("/var/lib/postgresql", "/home/postgres/pgdata", "/bitnami/postgresql"),
        "mariadb": ("/var/lib/mysql", "/bitnami/mariadb", "/bitnami/mysql", "/config/databases"),
        "mongodb": ("/data/db", "/data/configdb", "/bitnami/mongodb"),
    }
)


@dataclass(frozen=True, slots=True)
class Database:
    """What a container is: `user` is whom the database knows as its master, "" where it asks nobody's name.

    `files` are the directories in the container where it keeps what a dump has, too.
    """

    kind: Kind
    user: str
    files: tuple[PurePosixPath, ...]

    def keeps_in(self, mount: Mount) -> bool:
        """Return whether the mount is where the database's own files are, or a part of them."""
        target = PurePosixPath(mount.target)
        return any(target.is_relative_to(own) or own.is_relative_to(target) for own in self.files)


def recognise(container: Container) -> Database | None:
    """Return what database a container is; None where it is none, or none that is known."""
    kind = _kind(container)
    return None if kind is None else known(kind, container)


def known(kind: Kind, container: Container) -> Database:
    """Return what is known of a container of which is said that it is a database of that kind."""
    variables = container.variables
    names, usual = _USERS[kind]
    user = next((variables[name] for name in names if variables.get(name)), usual)
    files = [*_FILES[kind], *filter(None, [variables.get("PGDATA") if kind == "postgres" else ""])]
    return Database(kind, user, tuple(dict.fromkeys(map(PurePosixPath, files))))


def _kind(container: Container) -> Kind | None:
    said = container.labels.get(LABEL, "")
    if said:
        return next((kind for kind in get_args(Kind) if kind == said), None)
    repository = repository_of(container.image)
    for kind, pattern in _IMAGES.items():
        if pattern.fullmatch(repository):
            return kind
    for program in container.programs:
        if program in _PROGRAMS:
            return _PROGRAMS[program]
    if "PGDATA" in container.variables:  # an image's own variable; applications have no use for it
        return "postgres"
    for kind, (pattern, port) in _VARIABLES.items():
        if port in container.ports and any(map(pattern.match, container.variables)):
            return kind
    return _TITLES.get(container.labels.get("org.opencontainers.image.title", ""))


def repository_of(image: str) -> str:
    """Return the last name of an image as it was asked for: `postgres` of `house:5000/library/postgres:16@sha256:…`."""
    return image.partition("@")[0].rpartition("/")[2].partition(":")[0].lower()
