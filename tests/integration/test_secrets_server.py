"""OpenBao as deploy/openbao sets it up: what the agent may do there and nothing else, and a new unseal key."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.neighbours import openbao as neighbour
from tests.neighbours.openbao import OpenBao, Refused
from tests.waiting import until

ROOT = Path(__file__).parents[2]

ALLOWED = {
    ("GET", "secret/data/homelab/x"),
    ("GET", "secret/metadata/homelab/x"),
    ("LIST", "secret/metadata/homelab/x"),
    ("GET", "sys/storage/raft/snapshot"),
    ("GET", "auth/token/lookup-self"),
    ("POST", "auth/token/renew-self"),
    ("POST", "auth/token/revoke-self"),
}
"""What the policy is for; the last is not asked here, for it ends the token."""

OF_EVERYBODY = {
    "sys/internal/ui/mounts": 200,  # says to any token what it may see, and nothing else
    "sys/internal/ui/namespaces": 200,
    "sys/internal/ui/resultant-acl": 200,
    "identity/oidc/provider/x/userinfo": 401,  # wants another kind of token
    "sys/wrapping/rewrap": 400,  # these want a wrapping token, which whoever has it may unwrap
    "sys/wrapping/unwrap": 400,
}
NO_SUCH_METHOD = 405
ELSEWHERE = 307


def status(openbao: OpenBao, method: str, path: str, token: str, namespace: str = "") -> int:
    """Return the status of a request with an empty body where the method has one."""
    headers = {"X-Vault-Token": token, **({"X-Vault-Namespace": namespace} if namespace else {})}
    if method == "PATCH":
        headers["Content-Type"] = "application/merge-patch+json"
    return openbao.exchange(method, path, {} if method in {"POST", "PUT", "PATCH"} else None, headers)[0]


def all_requests(openbao: OpenBao) -> Iterator[tuple[str, str]]:
    """Give method and path of all that the server has, by its own account, but what nobody needs a token for."""
    paths = openbao.ask("GET", "sys/internal/specs/openapi")["paths"]
    for template, about in paths.items():
        if about.get("x-vault-unauthenticated"):
            continue
        path = re.sub(r"\{[^}]*\}", "x", template.removeprefix("/"))
        for method in ("get", "post", "put", "delete", "patch"):
            if method in about:
                yield method.upper(), path
        yield "LIST", path


def test_the_agent_may_do_what_it_is_for(openbao: OpenBao) -> None:
    openbao.put("homelab/x", password="y")
    openbao.put("homelab/x/below", password="y")
    token = openbao.log_in()
    for method, path in sorted(ALLOWED - {("POST", "auth/token/revoke-self")}):
        assert status(openbao, method, path, token) == 200, (method, path)
    assert status(openbao, "POST", "auth/token/revoke-self", token) == 204


def test_every_other_path_that_the_server_has_is_denied(openbao: OpenBao) -> None:
    openbao.put("homelab/x", password="y")
    openbao.put("x", password="y")
    openbao.put_v1("x", password="y")
    token = openbao.log_in()
    asked = [one for one in all_requests(openbao) if one not in ALLOWED]
    answers = {one: status(openbao, *one, token) for one in asked}
    kinds = {path.split("/")[0] for _, path in asked}
    print(f"{len(answers)} requests, of {sorted(kinds)}")
    assert len(answers) > 500
    assert {"sys", "auth", "secret", "kv1", "identity", "cubbyhole"} <= kinds
    usual = {403, NO_SUCH_METHOD, ELSEWHERE}
    assert {one: code for one, code in answers.items() if code not in {*usual, OF_EVERYBODY.get(one[1])}} == {}
    for path in {path for (_, path), code in answers.items() if code == ELSEWHERE}:
        assert status(openbao, "GET", f"{path}/", token) == 403, path
    assert openbao.ask("GET", "secret/data/x")["data"]["data"] == {"password": "y"}


@pytest.mark.parametrize(
    "path",
    [
        "secret/data/homelab",
        "secret/data/homelabs/x",
        "secret/data/other",
        "secret/data/homelab/../other",
        "secret/data",
        "secret/metadata",
        "secret/metadata/homelabs",
        "kv1/homelab/x",
        "sys/policies/acl/homelab-agent",
        "auth/approle/role/homelab-agent/role-id",
        "auth/approle/role/operator/secret-id",
    ],
)
def test_its_neighbours_paths_are_denied_by_every_method(openbao: OpenBao, path: str) -> None:
    for secret in ("homelab", "homelabs/x", "other"):
        openbao.put(secret, password="y")
    token = openbao.log_in()
    for method in ("GET", "LIST", "SCAN", "POST", "PUT", "PATCH", "DELETE"):
        assert status(openbao, method, path, token) == (ELSEWHERE if ".." in path else 403), method


def test_what_it_reads_it_cannot_change_or_remove(openbao: OpenBao) -> None:
    openbao.put("homelab/x", password="y")
    token = openbao.log_in()
    for method in ("POST", "PUT", "PATCH", "DELETE"):
        for part in ("data", "metadata", "delete", "undelete", "destroy", "subkeys"):
            assert status(openbao, method, f"secret/{part}/homelab/x", token) == 403, (method, part)
    for path in ("snapshot", "snapshot-force", "remove-peer"):
        assert status(openbao, "POST", f"sys/storage/raft/{path}", token) == 403, path
    assert openbao.ask("GET", "secret/data/homelab/x")["data"]["metadata"]["version"] == 1


def test_in_another_namespace_its_token_is_worth_nothing(openbao: OpenBao) -> None:
    openbao.namespace("team")
    openbao.put("homelab/x", namespace="team", password="y")
    token = openbao.log_in()
    of_itself = {one for one in ALLOWED if one[1].startswith("auth/token/")}
    for method, path in sorted(ALLOWED - of_itself):
        refused = 400 if path == "sys/storage/raft/snapshot" else 403  # which no other namespace has
        assert status(openbao, method, path, token, "team") == refused, (method, path)
        assert status(openbao, method, f"team/{path}", token) == refused, (method, path)


def test_an_unseal_key_is_followed_by_a_new_one_as_the_guide_says() -> None:
    """With both keys, `sys/rotate/root`, then with the new one alone; the old one opens nothing any more."""
    with neighbour.running() as openbao:
        openbao.put("homelab/x", password="kept")
        new = openbao.directory / "unseal-key-2"
        new.write_text(os.urandom(32).hex())
        old = f'current_key_id = "1"\n  current_key    = "file://{openbao.directory}/unseal-key"'
        both = old.replace("current", "previous").replace("previous_key    =", "previous_key =")
        alone = f'current_key_id = "2"\n  current_key    = "file://{new}"'
        text = openbao.configuration.read_text()
        assert old in text
        openbao.configuration.write_text(text.replace(old, f"{alone}\n  {both}"))
        openbao.restart()
        openbao.ask("POST", "sys/rotate/root")
        openbao.configuration.write_text(text.replace(old, alone))
        openbao.restart()
        assert openbao.ask("GET", "secret/data/homelab/x")["data"]["data"] == {"password": "kept"}
        openbao.stop()
        openbao.configuration.write_text(text)
        openbao.spawn()
        with pytest.raises(Refused, match="503"):
            sealed(openbao)
        openbao.close()
        openbao.configuration.write_text(text.replace(old, alone))


def sealed(openbao: OpenBao) -> None:
    """Ask for a secret once it answers."""
    until(lambda: openbao.health, "it answers")
    openbao.log_in()


def test_what_is_delivered_is_what_is_installed_and_tested() -> None:
    for name in ("openbao.hcl", "agent.policy.hcl", "openbao.service"):
        assert (ROOT / "deploy/openbao" / name).resolve() == ROOT / "homelab_agent/secrets/deploy" / name
