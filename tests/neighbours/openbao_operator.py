"""What an operator does with OpenBao: over its unix socket, logged in with the role that it was set up with."""

from __future__ import annotations

import http.client
import json
import socket
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

from tests.waiting import until

AGENT = "homelab-agent"
"""The role that is the agent's, its role_id, and its policy."""

OPERATOR = "operator"
_ROLE = f"auth/approle/role/{AGENT}"
_POLICY = f"sys/policies/acl/{AGENT}"
_OWN_MOUNTS = {"cubbyhole/", "identity/", "secret/", "sys/", "kv1/"}


class Refused(Exception):
    """It answered with an error: the HTTP status and what it said."""

    def __init__(self, status: int, errors: list[str]) -> None:
        super().__init__(f"{status}: {'; '.join(errors)}")
        self.status = status


class Operator:
    """Asks the server at `socket`; `role_id` and `secret_id` are those of the agent's role as it has begun with it."""

    def __init__(self, socket: Path, *, operator: str, agent: str) -> None:
        """Take the secret ids of the two roles."""
        self.socket = socket
        self.role_id = AGENT
        self.secret_id = agent
        self._operator = operator
        self._token = ""
        self._pristine: dict[str, Any] = {}

    def ask(self, method: str, path: str, said: object = None, *, token: str | None = None, namespace: str = "") -> Any:
        """Ask over the unix socket, as the operator where no token is given; return the answer, None for none.

        Raises `Refused`, and OSError where nobody answers.
        """
        return self._ask(method, path, said, token=self.authority() if token is None else token, namespace=namespace)

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
        headers = {"X-Vault-Token": self.authority(), "X-Vault-Wrap-TTL": ttl}
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

    def mount(self, path: str, namespace: str = "") -> None:
        """Mount a store with versions, and wait until it answers: the server prepares it after it has said yes."""

        def answers() -> bool:
            with suppress(Refused):
                return bool(self.ask("GET", f"{path}/config", namespace=namespace))
            return False

        self.ask("POST", f"sys/mounts/{path}", {"type": "kv", "options": {"version": "2"}}, namespace=namespace)
        until(answers, f"the store at {path} answers")

    def namespace(self, name: str) -> str:
        """Make a namespace that has what the root namespace has for the agent; return a secret_id of its role there."""
        self.ask("POST", f"sys/namespaces/{name}", {})
        self.mount("secret", namespace=name)
        self.ask("POST", "sys/auth/approle", {"type": "approle"}, namespace=name)
        self.ask("POST", _POLICY, {"policy": self._pristine["policy"]}, namespace=name)
        self.ask("POST", _ROLE, self._pristine["role"] | {"role_id": AGENT}, namespace=name)
        return self.new_secret_id(namespace=name)

    def restore(self, snapshot: Path) -> None:
        """Have all as it was in a snapshot of a store with the same unseal key; it is sealed for some seconds."""
        headers = {"X-Vault-Token": self.authority()}
        status, body = self.exchange("POST", "sys/storage/raft/snapshot", snapshot.read_bytes(), headers)
        assert status < 300, body

    def add_kv1(self) -> None:
        """Add what only tests have, a mount without versions at kv1/, and remember how all is before a test."""
        self.ask("POST", "sys/mounts/kv1", {"type": "kv", "options": {"version": "1"}})
        self._pristine = {
            "policy": self.ask("GET", _POLICY)["data"]["policy"],
            "role": self.ask("GET", _ROLE)["data"],
        }

    def empty(self) -> None:
        """Remove all secrets, and have all else as it was in the beginning."""
        for kind, own in (("mounts", _OWN_MOUNTS), ("auth", {"approle/", "token/"})):
            for name in set(self.ask("GET", f"sys/{kind}")["data"]) - own:
                self.ask("DELETE", f"sys/{kind}/{name}")
        for name in self.names("sys/namespaces"):
            self.ask("DELETE", f"sys/namespaces/{name}")
        until(lambda: not self.names("sys/namespaces"), "its namespaces are gone")  # it says so before they are
        for mount in ("secret/metadata", "kv1"):
            for path in self.names(mount):
                self.ask("DELETE", f"{mount}/{path}")
        self.revoke()
        self.delete_role()
        self.role(**self._pristine["role"], role_id=self.role_id)
        self.ask("POST", f"{_ROLE}/custom-secret-id", {"secret_id": self.secret_id})
        self.policy(self._pristine["policy"])

    def names(self, path: str) -> list[str]:
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

    def authority(self) -> str:
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
        status, body = self.exchange(method, path, said, headers)
        answer = json.loads(body) if body.strip() else None
        if status >= 300:
            raise Refused(status, (answer or {}).get("errors") or [])
        return answer

    def exchange(self, method: str, path: str, said: object, headers: dict[str, str]) -> tuple[int, bytes]:
        """Send what is said, bytes as they are, and anything else as JSON; return status and body."""
        connection = http.client.HTTPConnection("openbao", timeout=20)
        connection.sock = socket.socket(socket.AF_UNIX)
        with connection.sock:
            connection.sock.settimeout(20)
            connection.sock.connect(str(self.socket))
            body = said if said is None or isinstance(said, bytes) else json.dumps(said)
            connection.request(method, f"/v1/{path}", body, headers)
            answer = connection.getresponse()
            return answer.status, answer.read()
