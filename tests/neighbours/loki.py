"""The real Loki with the configuration that compose/loki delivers; logcli, and Promtail with journal support.

Each is built from its Go module: Loki as compose/docker-compose.yml pins it, Promtail 3.6.3, the last line of versions
that has it (the pinned 3.5.12 is not to be had as a module). Two modules, for no version of Loki has both.

On two free cores, once: Loki and logcli take five minutes, Promtail four; on busy ones four times that. The module
cache grows by 2.5 GB, Go's build cache by 3 GB, the programs are 360 MB.
"""

from __future__ import annotations

import functools
import http.client
import json
import shutil
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlencode

from tests.neighbours import golang
from tests.neighbours.guard import guarded
from tests.neighbours.neighbour import Missing, Neighbour, version_of
from tests.neighbours.ports import free_port
from tests.neighbours.server import Server

VERSION = "3.7.7"
PROMTAIL_VERSION = "3.6.3"
CONFIGURATION = Path(__file__).parents[2] / "compose/loki/loki.yaml"
_MODULE = "github.com/grafana/loki/v3"
_LIBSYSTEMD = Path("/usr/include/systemd/sd-journal.h")
_NANOSECONDS = 1_000_000_000


def _flags(version: str) -> str:
    return f"-ldflags=-s -w -X {_MODULE}/pkg/util/build.Version={version}"


@functools.cache
def program() -> Path:
    """Return Loki; raises `Missing` without Go."""
    return golang.built("loki", f"{_MODULE}/cmd/loki", module="loki", flags=(_flags(VERSION),))


@functools.cache
def logcli() -> Path:
    """Return Loki's own client; raises `Missing` without Go."""
    return golang.built("logcli", f"{_MODULE}/cmd/logcli", module="loki", flags=(_flags(VERSION),))


@functools.cache
def promtail() -> Path:
    """Return Promtail, which reads journals; raises `Missing` without Go or libsystemd's headers."""
    need_libsystemd()
    return golang.built(
        "promtail",
        f"{_MODULE}/clients/cmd/promtail",
        module="promtail",
        flags=(_flags(PROMTAIL_VERSION), "-tags", "promtail_journal_enabled"),
        env={"CGO_ENABLED": "1"},
    )


def need_libsystemd() -> None:
    """Raise `Missing` where what reads a journal cannot be built."""
    if not _LIBSYSTEMD.exists():
        message = f"{_LIBSYSTEMD} is missing: apt install libsystemd-dev gcc pkg-config"
        raise Missing(message)


@dataclass(frozen=True, slots=True)
class Line:
    """One line as Loki gives it back; `labels` are those of its stream with its structured metadata, and what the
    query parsed of it.
    """

    nanoseconds: int
    text: str
    labels: Mapping[str, str]


class Loki(Server):
    """One server with its data in a directory; it listens on a port of the loopback interface."""

    def __init__(self, directory: Path) -> None:
        self.port = free_port()
        self._data = directory / "data"
        rpc = free_port()
        at = {
            "common.path-prefix": self._data,
            "common.storage.filesystem.chunk-directory": self._data / "chunks",
            "common.storage.filesystem.rules-directory": self._data / "rules",
            "compactor.working-directory": self._data / "compactor",
            "server.http-listen-address": "127.0.0.1",
            "server.http-listen-port": self.port,
            "server.grpc-listen-port": rpc,
            "frontend.scheduler-address": f"127.0.0.1:{rpc}",
            "querier.scheduler-address": f"127.0.0.1:{rpc}",
        }
        super().__init__(
            "Loki",
            [
                program(),
                f"-config.file={CONFIGURATION}",
                "-config.expand-env=true",
                *(f"-{name}={value}" for name, value in at.items()),
            ],
            ready=self._is_ready,
            log=directory / "loki.log",
            env={"HOME": str(directory), "PATH": "/usr/bin:/bin"},
        )

    @property
    def url(self) -> str:
        """Where it is asked, and told."""
        return f"http://127.0.0.1:{self.port}"

    def push(self, lines: Sequence[str], *, metadata: Mapping[str, str] | None = None, **labels: str) -> None:
        """Give it lines of now, one nanosecond after the other, as a stream of these labels."""
        now = time.time_ns()
        values = [[str(now + number), line, dict(metadata or {})] for number, line in enumerate(lines)]
        self._ask("POST", "/loki/api/v1/push", {"streams": [{"stream": labels, "values": values}]})

    def query(self, query: str, *, seconds: float = 3600, limit: int = 5000) -> list[Line]:
        """Return the lines of the last so many seconds that LogQL gives, oldest first."""
        now = time.time_ns() + _NANOSECONDS
        words = {
            "query": query,
            "start": now - int(seconds * _NANOSECONDS),
            "end": now,
            "limit": limit,
            "direction": "forward",
        }
        return lines_of(self._ask("GET", f"/loki/api/v1/query_range?{urlencode(words)}"))

    def instant(self, query: str) -> list[tuple[dict[str, str], float]]:
        """Return what a metric query gives now: labels and number."""
        found = self._ask("GET", f"/loki/api/v1/query?{urlencode({'query': query})}")["data"]["result"]
        return [(one["metric"], float(one["value"][1])) for one in found]

    def label_values(self, label: str) -> list[str]:
        """Return the values that a label has."""
        return sorted(self._ask("GET", f"/loki/api/v1/label/{quote(label)}/values").get("data") or ())

    def logcli(self, *words: str) -> str:
        """Run logcli against it and return what it printed; fail when it fails."""
        done = subprocess.run(
            [logcli(), "--quiet", f"--addr={self.url}", *words], capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, f"logcli {' '.join(words)}: {done.stderr}"
        return done.stdout

    # How it is mended; see `Server` for how it breaks

    def up(self) -> None:
        """Start it where it has ended, and let it go on where it is frozen."""
        if self.runs:
            self.thaw()
        else:
            self.start()

    @contextmanager
    def emptied(self) -> Iterator[None]:
        """Be one test's own, without a line."""
        self.close()
        shutil.rmtree(self._data, ignore_errors=True)
        self.start()
        yield

    def _is_ready(self) -> bool:
        with suppress(OSError, http.client.HTTPException, AssertionError):
            self._ask("GET", "/ready")
            return True
        return False

    def _ask(self, method: str, path: str, content: object = None) -> Any:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=20)
        try:
            body = None if content is None else json.dumps(content)
            connection.request(method, path, body, {"Content-Type": "application/json"} if body else {})
            answer = connection.getresponse()
            said = answer.read()
        finally:
            connection.close()
        assert answer.status < 300, f"{method} {path}: {answer.status} {said.decode(errors='replace')}"
        return json.loads(said) if answer.headers.get_content_type() == "application/json" and said else said.decode()


def lines_of(answer: Mapping[str, Any]) -> list[Line]:
    """Return the lines in an answer of Loki's to `query_range`, oldest first."""
    found = [
        Line(int(value[0]), value[1], stream["stream"])
        for stream in answer["data"]["result"]
        for value in stream["values"]
    ]
    return sorted(found, key=lambda line: line.nanoseconds)


@contextmanager
def started() -> Iterator[Loki]:
    """Give a server that is nobody's yet. Raises `Missing`."""
    program()
    with guarded("loki") as directory, Loki(directory).lasting() as server:
        server.start()
        yield server


def obtain() -> None:
    """Build Loki and its client."""
    program()
    logcli()


def obtain_promtail() -> None:
    """Build Promtail."""
    promtail()


NEIGHBOURS = (
    Neighbour(
        "Loki", f"Go module {_MODULE} v{VERSION}", version=lambda: version_of([program(), "-version"]), obtain=obtain
    ),
    Neighbour(
        "Promtail",
        f"Go module {_MODULE} v{PROMTAIL_VERSION}",
        version=lambda: version_of([promtail(), "-version"]),
        obtain=obtain_promtail,
    ),
)
