"""Images for Docker made of this host's own files: BusyBox, or any of its programs with the libraries they need."""

from __future__ import annotations

import io
import re
import subprocess
import tarfile
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import MappingProxyType
from typing import IO, Protocol

from tests.neighbours import neighbour

BUSYBOX = "busybox:latest"
_ELF = b"\x7fELF"


def busybox(docker: Engine, tag: str = BUSYBOX, *, changes: Sequence[str] = ("CMD sh",)) -> str:
    """Import Debian's static BusyBox with all its applets under that tag; return the image's id.

    `changes` are lines of a Dockerfile: CMD, ENTRYPOINT, ENV, EXPOSE, HEALTHCHECK, LABEL, USER, VOLUME, WORKDIR.
    """
    program = neighbour.program("busybox", "apt install busybox-static")
    applets = subprocess.run([program, "--list-full"], capture_output=True, text=True, check=True).stdout.split()
    with _tree() as tree:
        tree.add(program, as_path="bin/busybox")
        for applet in applets:
            if applet not in tree:
                tree.link(applet, "/bin/busybox")
        return tree.into(docker, tag, changes)


class Engine(Protocol):
    """What runs `docker` with these words and returns what it printed; `given` is its standard input."""

    def __call__(self, *words: str, seconds: float = 60, given: IO[bytes] | None = None) -> str: ...


def of_host(
    docker: Engine,
    tag: str,
    paths: Iterable[str | Path],
    *,
    changes: Sequence[str] = (),
    placed: Mapping[str, Path] = MappingProxyType({}),
    directories: Mapping[str, int] = MappingProxyType({}),
    users: Mapping[str, int] = MappingProxyType({}),
) -> str:
    """Import these programs, files and directories of the host, at the same paths; return the image's id.

    With each program, and each library below a directory, comes what it loads when it starts. What it only opens
    later (time zones, Python's modules, certificates) is to be named. `placed` are files and directories that have
    another path there than here, `directories` empty ones with their owner, `users` more accounts.
    """
    with _tree(users) as tree:
        for link in ("bin", "sbin", "lib", "lib64"):
            if (top := Path("/", link)).is_symlink():
                tree.link(link, str(top.readlink()))
        for directory, owner in directories.items():
            tree.directory(directory, owner)
        for inside, source in placed.items():
            tree.place(inside.strip("/"), source)
        for path in paths:
            tree.add_with_libraries(Path(path))
        return tree.into(docker, tag, changes)


def of_package(package: str) -> list[Path]:
    """Return the programs, files and links that a Debian package has installed here."""
    listed = subprocess.run(["dpkg", "-L", package], capture_output=True, text=True, check=False)
    if listed.returncode:
        message = f"the Debian package {package} is not installed: apt install {package}"
        raise neighbour.Missing(message)
    unneeded = ("/usr/share/doc/", "/usr/share/man/", "/usr/share/locale/", "/usr/share/lintian/")
    paths = [
        Path(line) for line in listed.stdout.splitlines() if line.startswith("/") and not line.startswith(unneeded)
    ]
    return [path for path in paths if path.is_symlink() or path.is_file()]


class Tree:
    """A root file system in the making."""

    def __init__(self, file: IO[bytes], tar: tarfile.TarFile, users: Mapping[str, int]) -> None:
        self._file = file
        self._tar = tar
        self._names: set[str] = set()
        more = "".join(f"{name}:x:{number}:{number}::/:/bin/sh\n" for name, number in users.items())
        for directory, mode in {"tmp": 0o1777, "run": 0o755, "root": 0o700, "etc": 0o755}.items():
            self._entry(directory, tarfile.DIRTYPE, mode=mode)
        self.text("etc/passwd", "root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534:nobody:/:/bin/false\n" + more)
        self.text("etc/group", "root:x:0:\nnogroup:x:65534:\n")

    def __contains__(self, name: str) -> bool:
        return name in self._names

    def text(self, name: str, content: str) -> None:
        """Write a small file."""
        self._entry(name, tarfile.REGTYPE, content=content.encode())

    def link(self, name: str, target: str) -> None:
        """Make a symbolic link."""
        self._entry(name, tarfile.SYMTYPE, target=target)

    def add(self, path: Path, *, as_path: str = "") -> bool:
        """Add a file, a link or an empty directory of the host's; return whether it was not there yet."""
        name = as_path or str(path).lstrip("/")
        if name in self._names:
            return False
        self._names.add(name)
        self._tar.add(path, arcname=name, recursive=False)
        return True

    def add_with_libraries(self, path: Path) -> None:
        """Add a file with what it loads, a link with where it leads, a directory with what is in it."""
        # Beside a link of the host's, as /lib is, there can be no directory of that name: by its real place.
        path = path.parent.resolve() / path.name
        if not self.add(path):
            return
        if path.is_symlink():
            self.add_with_libraries(path.parent / path.readlink())
        elif path.is_dir():
            for inner in sorted(path.iterdir()):
                self.add_with_libraries(inner)
        elif path.is_file():
            for library in _libraries(path):
                self.add_with_libraries(library)

    def directory(self, path: str, owner: int) -> None:
        """Make an empty directory that is somebody's, and those above it."""
        name = path.strip("/")
        for above in reversed(Path(name).parents[:-1]):
            if str(above) not in self._names:
                self._entry(str(above), tarfile.DIRTYPE, mode=0o755)
        self._entry(name, tarfile.DIRTYPE, mode=0o700, owner=owner)

    def place(self, name: str, source: Path) -> None:
        """Add a file, with what it loads, or a directory with all that is in it, at another path than here."""
        if source.is_dir() and not source.is_symlink():
            for inner in sorted(source.iterdir()):
                self.place(f"{name}/{inner.name}".lstrip("/"), inner)
        elif self.add(source, as_path=name) and not source.is_symlink():
            for library in _libraries(source):
                self.add_with_libraries(library)

    def into(self, docker: Engine, tag: str, changes: Sequence[str]) -> str:
        """Import it under that tag; return the image's id."""
        self._tar.close()
        self._file.seek(0)
        words = [word for change in changes for word in ("--change", change)]
        return docker("import", *words, "-", tag, given=self._file)

    def _entry(
        self, name: str, kind: bytes, *, mode: int = 0o644, target: str = "", content: bytes = b"", owner: int = 0
    ) -> None:
        self._names.add(name)
        entry = tarfile.TarInfo(name)
        entry.uid = entry.gid = owner
        entry.type, entry.mode, entry.linkname, entry.size = kind, mode, target, len(content)
        self._tar.addfile(entry, io.BytesIO(content))


@contextmanager
def _tree(users: Mapping[str, int] = MappingProxyType({})) -> Iterator[Tree]:
    with tempfile.TemporaryFile() as file, tarfile.open(fileobj=file, mode="w") as tar:
        yield Tree(file, tar, users)


def _libraries(path: Path) -> list[Path]:
    """Return what the dynamic loader would load with this file, itself included; nothing for what it cannot."""
    with path.open("rb") as file:
        if file.read(4) != _ELF:
            return []
    said = subprocess.run(["ldd", path], capture_output=True, text=True, check=False).stdout
    return [Path(found) for found in re.findall(r"(?:=> |^\s)(/\S+) \(0x", said, flags=re.MULTILINE)]
