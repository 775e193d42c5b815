"""The command line's way to the running agent: HTTP over its unix socket, with the standard library alone."""

from __future__ import annotations

import http.client
import json
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

from homelab_agent.core.errors import AgentError, Exit
from homelab_agent.core.http import Event

ANSWER_SECONDS = 30.0
_EXIT_BY_STATUS = {409: Exit.BUSY, 422: Exit.CONFIGURATION, 503: Exit.BUSY}


class AgentNotRunning(AgentError):
    """No agent answers at {socket}."""

    repair = "homelab-agent run (or: systemctl start homelab-agent); another place: --socket PATH"
    exit_code = Exit.UNREACHABLE


class AgentSocketForbidden(AgentError):
    """You may not talk to the agent at {socket}."""

    repair = "sudo, or add yourself to the socket's group: sudo usermod -aG homelab $USER (then log in again)"
    exit_code = Exit.UNREACHABLE


class RemoteProblem(AgentError):
    """{title}"""  # noqa: D400, D415 - the message is the agent's own

    def __init__(self, *, title: str, status: int, cause: str = "", repair: str = "") -> None:
        super().__init__(title=title, cause=cause)
        self.repair = repair
        self.status = status
        self.exit_code = _EXIT_BY_STATUS.get(status, Exit.FAILED)


class UnixConnection(http.client.HTTPConnection):
    """HTTP over the unix socket at `path`; what is waited for longer than `timeout` seconds raises `TimeoutError`."""

    def __init__(self, path: Path, timeout: float | None) -> None:
        super().__init__("localhost", timeout=timeout)
        self._path = path

    def connect(self) -> None:
        """Connect; raises OSError."""
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        self.sock.connect(str(self._path))


class Client:
    """Asks the agent that listens at `socket`; what it takes longer than `patience` seconds for is no answer."""

    def __init__(self, socket: Path, *, patience: float = ANSWER_SECONDS) -> None:
        self._socket = socket
        self._patience = patience

    def get(self, path: str, **query: object) -> Any:
        """Return the answer's JSON; raises `AgentNotRunning` or `RemoteProblem`."""
        wanted = {key: value for key, value in query.items() if value not in {None, ""}}
        return self._ask("GET", f"{path}?{urlencode(wanted)}" if wanted else path)

    def post(self, path: str, body: object = None) -> Any:
        """Send `body` as JSON and return the answer's; raises `AgentNotRunning` or `RemoteProblem`."""
        return self._ask("POST", path, None if body is None else json.dumps(body).encode())

    def events(self, path: str, *, after: str = "") -> Iterator[Event]:
        """Yield the server-sent events of `path` until the agent ends them; those after the one with the id `after`.

        Raises `AgentNotRunning`, also when they are cut off, or `RemoteProblem`.
        """
        connection, response = self._open("GET", path, None, None, after)
        try:
            yield from _parse_events(line.decode().rstrip("\r\n") for line in response)
        except (OSError, http.client.HTTPException) as error:
            raise AgentNotRunning(socket=self._socket, cause=error) from error
        finally:
            connection.close()

    def _ask(self, method: str, path: str, body: bytes | None = None) -> Any:
        connection, response = self._open(method, path, body, self._patience)
        try:
            text = response.read()
        except (OSError, http.client.HTTPException) as error:
            raise AgentNotRunning(socket=self._socket, cause=error) from error
        finally:
            connection.close()
        return json.loads(text) if text else None

    def _open(
        self, method: str, path: str, body: bytes | None, timeout: float | None, after: str = ""
    ) -> tuple[http.client.HTTPConnection, http.client.HTTPResponse]:
        connection = UnixConnection(self._socket, timeout)
        headers = {"Accept": "application/json, text/event-stream"}
        if after:
            headers["Last-Event-ID"] = after
        if body is not None:
            headers["Content-Type"] = "application/json"
        try:
            connection.request(method, path, body, headers)
            response = connection.getresponse()
        except PermissionError as error:
            raise AgentSocketForbidden(socket=self._socket, cause=error) from error
        except (OSError, http.client.HTTPException) as error:
            connection.close()
            raise AgentNotRunning(socket=self._socket, cause=error) from error
        if response.status >= 400:
            problem = _problem(response)
            connection.close()
            raise problem
        return connection, response


def _problem(response: http.client.HTTPResponse) -> RemoteProblem:
    text = response.read()
    try:
        said = json.loads(text)
    except ValueError:
        said = {"title": text.decode(errors="replace") or response.reason}
    return RemoteProblem(
        title=str(said.get("title", response.reason)),
        status=response.status,
        cause=str(said.get("detail", "")),
        repair=str(said.get("repair", "")),
    )


def _parse_events(lines: Iterator[str]) -> Iterator[Event]:
    """Parse the event stream format of the HTML standard, section 9.2.6."""
    name, data, event_id = "message", "", ""
    for line in lines:
        field, _, value = line.partition(":")
        value = value.removeprefix(" ")
        match field:
            case "event":
                name = value
            case "data":
                data += value
            case "id":
                event_id = value
            case "" if line == "":
                if data:
                    yield Event(name, json.loads(data), event_id)
                name, data = "message", ""
            case _:
                continue
