"""What stands in the environment is none of the client's business, and what it knows is nobody else's."""

from __future__ import annotations

import asyncio
import base64
import json
import os
import re
import socket
import subprocess
import sys
import traceback
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from structlog.testing import capture_logs

from homelab_agent.core.errors import AgentError
from homelab_agent.secrets.client import Client
from homelab_agent.secrets.settings import SecretsSettings
from homelab_agent.secrets.wrapping import NAME
from tests.impostor import Impostor, answering
from tests.neighbours.openbao import OpenBao
from tests.openbao_client import Home

POSTGRES = "secret/homelab/postgres"

OURS = """
import asyncio, sys
from pathlib import Path
from typing import Any
from homelab_agent.core.clock import SystemClock
from homelab_agent.core.errors import AgentError
from homelab_agent.core.journal.redaction import Redactor
from homelab_agent.core.secret import Secrets
from homelab_agent.secrets.client import Client
from homelab_agent.secrets.settings import SecretsSettings

settings, secrets = SecretsSettings.model_validate_json(sys.argv[1]), Secrets(Redactor())
client = Client(settings, directory=Path(sys.argv[2]), secret_id=secrets.find(settings.secret_id), token=None,
                clock=SystemClock(), hide=secrets.hide)
try:
    print(asyncio.run(client.read("secret/homelab/postgres")).number)
except AgentError as error:
    print(type(error).__name__, error)
"""
POWERLESS = ("setpriv", "--inh-caps=-all", "--bounding-set=-all")
"""Leaves root what it owns, and no more."""

PLAIN = """
import hvac
client = hvac.Client()
client.sys.read_health_status(method="GET")
"""


@pytest.fixture
def home(openbao: OpenBao, tmp_path: Path) -> Home:
    openbao.put("homelab/postgres", password="first-of-them")
    return Home(openbao, tmp_path)


def child(program: str, *argv: object, env: dict[str, str], wrap: Sequence[str] = ()) -> str:
    """Run a Python program in an environment and return what it printed."""
    words = [*wrap, sys.executable, "-c", program, *map(str, argv)]
    own = {"PATH": os.environ["PATH"], "PYTHONPATH": str(Path(__file__).parents[2])}
    done = subprocess.run(words, env={**own, **env}, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def traps(home: Path, impostor: Impostor, ca: Path) -> dict[str, str]:
    """Return an environment in which whatever reads any of it goes astray; `ca` is the right one."""
    home.mkdir()
    (home / ".vault-token").write_text("token-from-home")
    (home / ".netrc").write_text("machine 127.0.0.1 login netrc-user password netrc-password\n")
    (home / ".netrc").chmod(0o600)
    wrong = {
        name: str(home / "absent.pem")
        for name in ("VAULT_CACERT", "VAULT_CAPATH", "BAO_CACERT", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE")
    }
    astray = {
        name: impostor.url
        for proxy in ("http_proxy", "https_proxy", "all_proxy")
        for name in (proxy, proxy.upper(), "VAULT_ADDR", "BAO_ADDR", "VAULT_AGENT_ADDR", "VAULT_HTTP_PROXY")
    }
    return {
        **wrong,
        **astray,
        "HOME": str(home),
        "VAULT_TOKEN": "token-from-environment",
        "BAO_TOKEN": "token-from-environment",
        "VAULT_NAMESPACE": "astray",
        "BAO_NAMESPACE": "astray",
        "VAULT_CLIENT_CERT": str(home / "absent.pem"),
        "VAULT_CLIENT_KEY": str(home / "absent.pem"),
        "VAULT_SKIP_VERIFY": "true",
        "SSL_CERT_FILE": str(ca),
        "SSLKEYLOGFILE": str(home / "keys"),
    }


async def test_nothing_is_taken_from_the_environment(openbao_tls: OpenBao, tmp_path: Path) -> None:
    openbao_tls.put("homelab/postgres", password="first-of-them")
    home = Home(openbao_tls, tmp_path)
    given = home.settings(login="inline").model_dump_json()
    distrusting = home.settings(login="inline", ca=None).model_dump_json()
    with answering(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}") as impostor:
        env = traps(tmp_path / "home", impostor, openbao_tls.ca or tmp_path)
        said = [await asyncio.to_thread(child, OURS, one, tmp_path, env=env) for one in (given, distrusting)]
        assert impostor.requests == []
        assert said[0] == "1\n"
        assert said[1].startswith("TlsRefused"), "SSL_CERT_FILE names the right one, but nobody asked it"
        assert not (tmp_path / "home" / "keys").exists()
        for name in ("VAULT_CLIENT_CERT", "VAULT_CLIENT_KEY"):  # by these hvac alone does not even get so far
            del env[name]
        await asyncio.to_thread(child, PLAIN, env=env)
    (head,) = impostor.requests  # hvac by itself takes all of it
    assert b"X-Vault-Token: token-from-environment" in head
    assert b"Authorization: Basic " in head


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can be locked out by giving up its capabilities")
async def test_a_socket_that_the_agent_may_not_use_is_told_with_the_group_to_join(tmp_path: Path) -> None:
    closed = tmp_path / "closed"
    closed.mkdir(0o700)
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(closed / "openbao.sock"))
        os.chown(closed, 65534, 65534)
        (tmp_path / "secret-id").touch(0o600)
        settings = SecretsSettings(
            url=f"unix:{closed}/openbao.sock", role_id="r", secret_id=f"file:{tmp_path}/secret-id", login="inline"
        )
        (tmp_path / "secret-id").write_text("any-of-them")
        said = await asyncio.to_thread(child, OURS, settings.model_dump_json(), tmp_path, env={}, wrap=POWERLESS)
    assert said.startswith("SocketForbidden")


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can be locked out by giving up its capabilities")
async def test_a_secret_id_that_cannot_be_put_in_its_place_is_told_with_the_directory(home: Home) -> None:
    home.write(home.secret_id, home.openbao.wrapped_secret_id())
    async with home.asking(login="inline", wrapped=True) as client:
        await client.read(POSTGRES)
    (home.directory / NAME).rename(home.directory / f"{NAME}.new")
    home.directory.chmod(0o500)
    given = home.settings(login="inline", wrapped=True).model_dump_json()
    said = await asyncio.to_thread(child, OURS, given, home.directory, env={}, wrap=POWERLESS)
    home.directory.chmod(0o700)
    assert said.startswith("SecretIdNotKept")
    assert await asyncio.to_thread(child, OURS, given, home.directory, env={}) == "1\n"


def test_hvac_is_loaded_when_openbao_is_asked_and_not_before() -> None:
    child(
        "import sys, homelab_agent.secrets.client, homelab_agent.secrets.service, homelab_agent.agent\n"
        "assert not {'hvac', 'requests', 'urllib3'} & set(sys.modules)\n"
        "import homelab_agent.secrets.session\n"
        "assert 'hvac' in sys.modules",
        env={},
    )


async def test_neither_token_nor_secret_id_nor_value_is_in_what_is_said(home: Home) -> None:
    """Whatever goes wrong, by every way to log in: errors with their traces, log lines, what is printed of a client."""
    bao = home.openbao
    token = bao.log_in()
    home.write(home.token, token)
    home.write(home.directory / "wrapped", bao.wrapped_secret_id())
    ways: Sequence[dict[str, Any]] = (
        {"login": "inline"},
        {"login": "approle"},
        {"token": f"file:{home.token}"},
        {"login": "inline", "wrapped": True, "secret_id": f"file:{home.directory}/wrapped"},
    )
    clients = [home.client(timeout=2, **way) for way in ways]
    said: list[str] = []
    everything = (POSTGRES, "secret/homelab/absent", "secret/other/x", "kv1/x")

    async def ask(client: Client, paths: Sequence[str]) -> None:
        said.append(f"{client!r} {client.standing()} {await client.status()!r}")
        for path in paths:
            try:
                said.append(repr(await client.read(path)))
            except AgentError as error:
                said.append("".join(traceback.format_exception(error)) + error.repair + repr(error.fields))

    with capture_logs() as logged:
        for trouble, paths in (
            (lambda: None, everything),
            (bao.seal, everything),
            (bao.unseal, everything),
            (bao.freeze, [POSTGRES]),
            (bao.thaw, everything),
            (bao.delete_role, everything),
            (bao.revoke, everything),
            (bao.kill, [POSTGRES]),
        ):
            await asyncio.to_thread(trouble)
            await asyncio.gather(*(ask(client, paths) for client in clients))
        for client in clients:
            await client.close()
    text = "\n".join([*said, *map(repr, logged)])
    assert all(name in text for name in ("Sealed", "Slow", "LogInRefused", "TokenRefused", "Unreachable", "Denied"))
    kept = json.loads((home.directory / NAME).read_text())["secret_id"]
    for secret in (token, bao.secret_id, "first-of-them", kept, (home.directory / "wrapped").read_text()):
        for form in (secret, base64.b64encode(secret.encode()).decode()[:-4], json.dumps(secret)):
            assert form not in text
    assert re.search(r"\bs\.\w{20}", token)
    assert not re.search(r"\bs\.\w{20}", text), "those that nobody but the client knows"
