"""OpenBao's own program, and what it answers once it serves: for who sets it up, not for who reads secrets."""

from __future__ import annotations

import asyncio
import re
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from homelab_agent.core import process
from homelab_agent.core.errors import AgentError
from homelab_agent.secrets.errors import CannotAsk
from homelab_agent.secrets.settings import SecretsSettings

if TYPE_CHECKING:
    from homelab_agent.secrets.transport import Transport

SINCE, BELOW = (2, 7), (3,)
"""The versions that `openbao.hcl` is written for."""

NAMES = ("bao", "openbao")
OPERATOR = "operator"
AGENT = "homelab-agent"

_ASK_SECONDS = 10.0


class BaoMissing(AgentError):
    """OpenBao is not installed: there is no program {names}."""

    repair = "install OpenBao's own package (https://openbao.org/docs/install/), or name the program: --bao PATH"


class BaoUnsuitable(AgentError):
    """{program} is {found}; what is needed is OpenBao 2.7 or a later 2."""

    repair = "install OpenBao's own package (https://openbao.org/docs/install/), or name another one: --bao PATH"


class SecretIdUnreadable(AgentError):
    """The secret id in {file} cannot be read."""

    repair = "ls -l {file}; it belongs to who gives this command"


class AgentNotTaken(AgentError):
    """OpenBao lets the operator in, but does not take the agent's secret id."""

    repair = "see whether the role is there and the operator may do all: bao read auth/approle/role/homelab-agent"


@dataclass(frozen=True, slots=True)
class Program:
    """The program `bao`: where it is, and its version."""

    path: Path
    version: str


async def find(named: Path | None = None) -> Program:
    """Return the program that is named, else the first that PATH has.

    Raises `BaoMissing`, and `BaoUnsuitable` for one of another version, or of another kind, such as Vault's.
    """
    names = (str(named),) if named is not None else NAMES
    found = await asyncio.to_thread(lambda: next(filter(None, map(process.find, names)), None))
    if found is None:
        raise BaoMissing(names=" or ".join(names))
    try:
        said = (await process.run([found, "version"], deadline=_ASK_SECONDS)).stdout.decode(errors="replace").strip()
    except (process.ProgramWillNotStart, process.DeadlinePassed) as error:
        raise BaoUnsuitable(program=found, found="no program that runs", cause=error) from error
    version = re.match(r"OpenBao v((\d+)\.(\d+)[\w.+-]*)", said)
    if version is None:
        raise BaoUnsuitable(program=found, found=said[:60] or "silent")
    if not SINCE <= (int(version[2]), int(version[3])) < BELOW:
        raise BaoUnsuitable(program=found, found=f"version {version[1]}")
    return Program(Path(found), version[1])


def read_secret_id(file: Path) -> str:
    """Return the secret id in a file, without the end of its line, as the agent reads it."""
    try:
        return file.read_text().rstrip("\r\n")
    except (OSError, UnicodeDecodeError) as error:
        raise SecretIdUnreadable(file=file, cause=error) from None


class Server:
    """A server that is set up here, asked over its unix socket; all of it blocks. Loads hvac when it is first asked."""

    def __init__(self, socket: Path) -> None:
        self.url = f"unix:{socket}"

    @property
    def is_active(self) -> bool:
        """Whether it answers, unsealed. It does not before it has initialised itself, or was cut short in that."""
        from homelab_agent.secrets import health, transport

        try:
            server = transport.ask_health(self._transport().client(attempts=1), self.url)
        except CannotAsk:
            return False
        return server.state is health.State.ACTIVE

    def lets_in(self, role: str, file: Path) -> bool:
        """Whether a role logs in with the secret id in a file; raises `CannotAsk`, and `SecretIdUnreadable`.

        After five refusals it lets nobody of that role in for a quarter of an hour.
        """
        from homelab_agent.secrets.transport import Answered

        try:
            token = self._log_in(role, file)
        except Answered:
            return False
        self._let_go(token)
        return True

    def register_agent(self, operator: Path, agent: Path) -> None:
        """Let the agent's role in with the secret id in its file, as the operator.

        The role's other secret ids remain. Raises as `lets_in`, and `AgentNotTaken`.
        """
        from homelab_agent.secrets.transport import Answered

        try:
            token = self._log_in(OPERATOR, operator)
            try:
                client = self._transport().client(token=token)
                client.auth.approle.create_custom_secret_id(AGENT, read_secret_id(agent))
            finally:
                self._let_go(token)
        except Answered as refusal:
            raise AgentNotTaken(cause=refusal.errors or f"it answers {refusal.status}") from None

    def _log_in(self, role: str, file: Path) -> str:
        answer = self._transport().client().auth.approle.login(role, read_secret_id(file), use_token=False)
        return str(answer["auth"]["client_token"])

    def _let_go(self, token: str) -> None:
        """End a token. One that may not end itself, or whose server is gone, ends by its age."""
        from homelab_agent.secrets.transport import Answered

        with suppress(Answered, CannotAsk):
            self._transport().client(token=token).auth.token.revoke_self()

    def _transport(self) -> Transport:
        from homelab_agent.secrets.transport import Transport

        unused = "file:-"  # whom it is asked as is said with each request
        return Transport(SecretsSettings(url=self.url, role_id=AGENT, secret_id=unused, timeout=_ASK_SECONDS))
