"""The neighbour `openbao`: it is the real one in production's shape, and each breakage does what it says."""

from __future__ import annotations

import http.client
import ssl
import subprocess
import sys
from pathlib import Path

import pytest

from tests.neighbours import openbao as neighbour
from tests.neighbours.openbao import OpenBao, Refused
from tests.neighbours.ports import listens
from tests.waiting import until

PATH = "homelab/postgres"


def value(openbao: OpenBao, token: str, path: str = f"secret/data/{PATH}", *, namespace: str = "") -> str:
    data = openbao.ask("GET", path, token=token, namespace=namespace)["data"]
    return str((data["data"] if path.startswith("secret/data/") else data)["password"])


def refusal(openbao: OpenBao, token: str, path: str = f"secret/data/{PATH}") -> int:
    with pytest.raises(Refused) as refused:
        value(openbao, token, path)
    return refused.value.status


def test_it_is_the_real_one_in_the_shape_of_production(openbao: OpenBao) -> None:
    version = neighbour.NEIGHBOUR.version()
    print(f"OpenBao {version}")
    status = openbao.ask("GET", "sys/seal-status", token="")
    assert status["version"] == version
    assert (status["type"], status["storage_type"], status["sealed"]) == ("static", "raft", False)
    assert openbao.socket.stat().st_mode & 0o777 == 0o660
    assert listens(openbao.at.port)
    assert openbao.health == 200


def test_a_secret_has_versions_that_are_read_deleted_had_back_destroyed_and_forgotten(openbao: OpenBao) -> None:
    token = openbao.log_in()
    assert [openbao.put(PATH, password=word) for word in ("one", "two", "three")] == [1, 2, 3]
    assert value(openbao, token) == "three"
    openbao.delete(PATH)
    assert refusal(openbao, token) == 404
    openbao.undelete(PATH, 3)
    assert value(openbao, token) == "three"
    openbao.destroy(PATH, 3)
    openbao.delete(PATH, 2)
    versions = openbao.ask("GET", f"secret/metadata/{PATH}", token=token)["data"]["versions"]
    assert [bool(versions[number]["deletion_time"]) for number in "123"] == [False, True, False]
    assert [versions[number]["destroyed"] for number in "123"] == [False, False, True]
    openbao.forget(PATH)
    assert openbao.put(PATH, password="anew") == 1


def test_a_secret_without_versions_is_read_once_the_policy_permits_it(openbao: OpenBao) -> None:
    openbao.put_v1("postgres", password="plain")
    token = openbao.log_in()
    assert refusal(openbao, token, "kv1/postgres") == 403
    openbao.permit('path "kv1/*" { capabilities = ["read"] }')
    assert value(openbao, token, "kv1/postgres") == "plain"


def test_sealed_it_says_so_and_started_again_it_has_all_values(openbao: OpenBao) -> None:
    openbao.put(PATH, password="kept")
    token = openbao.log_in()
    openbao.seal()
    assert openbao.health == 503
    assert refusal(openbao, token) == 503
    openbao.unseal()
    assert openbao.health == 200
    assert value(openbao, token) == "kept", "a token outlives a restart"


def test_killed_it_is_gone_and_frozen_it_answers_nobody(openbao: OpenBao) -> None:
    openbao.put(PATH, password="kept")
    token = openbao.log_in()
    openbao.kill()
    assert openbao.health == 0
    with pytest.raises(OSError, match=r"refused|No such file"):
        value(openbao, token)
    openbao.start()
    assert value(openbao, token) == "kept"
    openbao.freeze()
    connection = http.client.HTTPConnection("127.0.0.1", openbao.at.port, timeout=0.5)
    connection.request("GET", "/v1/sys/health")
    with pytest.raises(TimeoutError):
        connection.getresponse()
    connection.close()
    openbao.thaw()
    assert value(openbao, token) == "kept"


def test_a_token_ends_when_it_is_revoked_or_the_lease_of_its_role_is_over(openbao: OpenBao) -> None:
    openbao.put(PATH, password="x")
    first, second, third = (openbao.log_in() for _ in range(3))
    openbao.revoke(first)
    assert refusal(openbao, first) == 403
    openbao.revoke()
    assert refusal(openbao, second) == refusal(openbao, third) == 403
    openbao.role(token_ttl="1s", token_max_ttl="1s")
    short = openbao.log_in()
    until(lambda: is_refused(openbao, short), "its lease is over")


def is_refused(openbao: OpenBao, token: str) -> bool:
    try:
        value(openbao, token)
    except Refused as why:
        return why.status == 403
    return False


def test_without_its_role_nobody_logs_in_or_renews_but_a_token_lives_on(openbao: OpenBao) -> None:
    openbao.put(PATH, password="x")
    token = openbao.log_in()
    openbao.delete_role()
    with pytest.raises(Refused, match="400"):
        openbao.log_in()
    with pytest.raises(Refused, match="does not exist"):
        openbao.ask("POST", "auth/token/renew-self", {}, token=token)
    assert value(openbao, token) == "x"


def test_a_narrowed_policy_holds_at_once(openbao: OpenBao) -> None:
    openbao.put(PATH, password="x")
    token = openbao.log_in()
    assert value(openbao, token) == "x"
    openbao.policy('path "secret/data/homelab/other" { capabilities = ["read"] }')
    assert refusal(openbao, token) == 403


def test_a_secret_id_may_be_used_once_or_be_wrapped(openbao: OpenBao) -> None:
    once = openbao.new_secret_id(num_uses=1)
    openbao.log_in(once)
    with pytest.raises(Refused, match="400"):
        openbao.log_in(once)
    wrapped = openbao.wrapped_secret_id()
    answer = openbao.ask("POST", "sys/wrapping/unwrap", {}, token=wrapped)
    assert openbao.log_in(answer["data"]["secret_id"])
    with pytest.raises(Refused, match="wrapping token is not valid"):
        openbao.ask("POST", "sys/wrapping/unwrap", {}, token=wrapped)


def test_a_namespace_has_a_role_and_values_of_its_own(openbao: OpenBao) -> None:
    secret_id = openbao.namespace("team")
    openbao.put(PATH, password="outside")
    openbao.put(PATH, namespace="team", password="inside")
    token = openbao.log_in(secret_id, namespace="team")
    assert value(openbao, token, namespace="team") == "inside"
    assert refusal(openbao, token) == 403


def test_what_it_was_asked_is_seen_but_not_what_the_operator_does(openbao: OpenBao) -> None:
    openbao.put(PATH, password="never-in-the-log")
    token = openbao.log_in()
    for _ in range(3):
        value(openbao, token)
    assert refusal(openbao, token, "secret/data/else") == 403
    assert refusal(openbao, "s.nobody") == 403
    assert openbao.reads(f"secret/data/{PATH}") == 4
    last, *others = reversed(openbao.requests())
    assert last.role == ""
    assert "permission denied" in last.error
    assert [(request.operation, request.path, bool(request.error)) for request in reversed(others)] == [
        ("update", "auth/approle/login", False),
        *[("read", f"secret/data/{PATH}", False)] * 3,
        ("read", "secret/data/else", True),
    ]
    assert "never-in-the-log" not in openbao.log.read_text()


def test_over_tls_it_is_believed_by_who_knows_its_authority_only(openbao_tls: OpenBao) -> None:
    assert openbao_tls.url.startswith("https://")
    assert openbao_tls.ca is not None
    believing = ssl.create_default_context(cafile=openbao_tls.ca)
    connection = http.client.HTTPSConnection("127.0.0.1", openbao_tls.at.port, timeout=20, context=believing)
    connection.request("GET", "/v1/sys/health")
    assert connection.getresponse().status == 200
    connection.close()
    stranger = http.client.HTTPSConnection("127.0.0.1", openbao_tls.at.port, timeout=20)
    with pytest.raises(ssl.SSLCertVerificationError):
        stranger.request("GET", "/v1/sys/health")


def test_each_test_finds_it_as_it_was_in_the_beginning(openbao_server: OpenBao) -> None:
    with openbao_server.emptied():
        openbao_server.namespace("team")
        openbao_server.namespace("other")
        openbao_server.put("homelab/deep/down", password="x")
        openbao_server.put_v1("deep/down", password="x")
        openbao_server.permit('path "*" { capabilities = ["read"] }')
        openbao_server.ask("POST", "sys/mounts/more", {"type": "kv"})
        openbao_server.ask("POST", "sys/auth/userpass", {"type": "userpass"})
        token, secret_id = openbao_server.log_in(), openbao_server.new_secret_id()
        openbao_server.delete_role()
        openbao_server.freeze()
    with openbao_server.emptied():
        assert openbao_server.requests() == []
        for path in ("secret/metadata", "kv1", "sys/namespaces"):
            assert openbao_server.names(path) == []
        assert refusal(openbao_server, token) == 403
        with pytest.raises(Refused, match="400"):
            openbao_server.log_in(secret_id)
        token = openbao_server.log_in()
        assert refusal(openbao_server, token, "kv1/postgres") == 403
        assert {"more/"}.isdisjoint(openbao_server.ask("GET", "sys/mounts")["data"])
        assert {"userpass/"}.isdisjoint(openbao_server.ask("GET", "sys/auth")["data"])


SCRIPT = """
from tests.neighbours import openbao
with openbao.running() as server:
    print(server.directory, server.at.port, flush=True)
    input()
"""


@pytest.mark.parametrize("is_killed", [False, True])
def test_it_is_gone_with_all_its_files_when_the_tests_are_over_or_killed(*, is_killed: bool) -> None:
    run = subprocess.Popen([sys.executable, "-c", SCRIPT], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    with run:
        assert run.stdout is not None
        directory, port = run.stdout.readline().split()
        assert listens(int(port))
        if is_killed:
            run.kill()
        else:
            run.communicate("\n", timeout=20)
    until(lambda: not listens(int(port)), "the server has ended")
    until(lambda: not Path(directory).exists(), "its files are gone")
