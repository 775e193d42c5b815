"""MongoDB for the tests: FerretDB, which speaks its wire protocol over a PostgreSQL, as one Go program of our own.

What differs from MongoDB, as far as we meet it: there are no transactions, change streams and sessions; who logs in
does so by PLAIN; keys hold no dot, numbers are finite and texts have no NUL. What it cannot hold, and connections that
are cut at a given moment, come from `op_msg.py`. Its other backend, SQLite, knows no log-in, and looks through all of a
collection for each document that is marked.
"""

from __future__ import annotations

import functools
import itertools
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pymongo
from pymongo.collection import Collection

from tests.neighbours import golang, postgres, postgres_kinds
from tests.neighbours.guard import guarded
from tests.neighbours.listener import Listener
from tests.neighbours.neighbour import Neighbour
from tests.neighbours.ports import free_port
from tests.neighbours.postgres import Postgres

VERSION = "1.24.2"
_MODULE = "github.com/FerretDB/FerretDB"
_PATIENCE_MS = 20_000


@functools.cache
def program() -> Path:
    """Return FerretDB; raises `Missing` without Go."""
    return golang.built("ferretdb", ".", module="ferretdb")


class MongoDB(Listener):
    """One server; `database` is one test's own, `url` and `password` let in who comes."""

    def __init__(self, directory: Path, behind: Postgres) -> None:
        """`behind` is the PostgreSQL of its own, on a port, where the documents are."""
        port = free_port()
        self.database = ""
        self._behind = behind
        self._numbers = itertools.count(1)
        super().__init__(
            "FerretDB",
            [
                program(),
                "-listen",
                f"127.0.0.1:{port}",
                "-postgres",
                behind.url.replace(f":{quoted(behind.password)}@", "@"),
            ],
            port=port,
            log=directory / "ferretdb.log",
            env={"HOME": str(directory), "PATH": "/usr/bin:/bin"},
        )

    @property
    def user(self) -> str:
        """Who logs in."""
        return self._behind.role

    @property
    def password(self) -> str:
        """With what, at present."""
        return self._behind.password

    @property
    def url(self) -> str:
        """Return what goes into a source's `url`, without the password."""
        return self.url_at(f"127.0.0.1:{self.port}")

    def url_at(self, address: str) -> str:
        """Return the same for who reaches it by another host and port."""
        return f"mongodb://{self.user}@{address}/?authMechanism=PLAIN"

    @contextmanager
    def collection(self, name: str = "articles") -> Iterator[Collection[dict[str, Any]]]:
        """Give the collection as the tests' own client sees it."""
        with pymongo.MongoClient[dict[str, Any]](
            f"mongodb://{self.user}:{quoted(self.password)}@127.0.0.1:{self.port}/?authMechanism=PLAIN",
            serverSelectionTimeoutMS=_PATIENCE_MS,
            tz_aware=True,
            datetime_conversion="DATETIME_AUTO",
        ) as client:
            yield client[self.database][name]

    def insert(self, documents: Sequence[Mapping[str, Any]]) -> None:
        """Put documents into the collection; they get their ids here."""
        with self.collection() as articles:
            for first in range(0, len(documents), 1000):
                articles.insert_many([dict(one) for one in documents[first : first + 1000]])

    def statuses(self) -> dict[Any, str]:
        """Return how each document is marked, by id."""
        with self.collection() as articles:
            return {one["_id"]: one.get("status", "") for one in articles.find({}, {"status": 1})}

    def change_password(self, password: str) -> None:
        """Let nobody in with the old one any more, and end every connection."""
        self._behind.change_password(password)
        self.restart()  # it keeps what has logged in at PostgreSQL by name and password

    @contextmanager
    def emptied(self) -> Iterator[None]:
        """Give an empty database until the context ends, then mend what was broken and drop what was made."""
        self.up()
        self.database = f"reading_{next(self._numbers)}"
        try:
            yield
        finally:
            self._behind.heal()
            self.up()
            if self.password != postgres.PASSWORD:
                self.change_password(postgres.PASSWORD)
            with self.collection() as articles:
                articles.database.client.drop_database(self.database)


@contextmanager
def started() -> Iterator[MongoDB]:
    """Give a server that is nobody's yet, with a PostgreSQL of its own. Raises `Missing`."""
    program()
    with (
        postgres.running(postgres_kinds.WHEEL, tcp=True) as behind,
        guarded("mongodb") as directory,
        MongoDB(directory, behind).lasting() as server,
    ):
        server.start()
        yield server


def quoted(password: str) -> str:
    """Return a password as it stands in an address."""
    return quote(password, safe="")


def obtain() -> None:
    """Build it."""
    program()


def _version() -> str:
    program()
    return VERSION


NEIGHBOUR = Neighbour("FerretDB", f"Go module {_MODULE} v{VERSION}", version=_version, obtain=obtain)
