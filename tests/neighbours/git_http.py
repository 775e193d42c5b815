"""git over smart HTTP: a web server of the tests' own that hands each request to Debian's `git http-backend`.

`python -m tests.neighbours.git_http DIRECTORY PORT` serves DIRECTORY/owner/name.git. Who may come and what goes wrong
is said by the `Rules` in each repository, read anew for each request; who asks for what is not there, or not for him,
is answered as by GitHub. The protocol: https://git-scm.com/docs/http-protocol, https://git-scm.com/docs/git-http-backend.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import hmac
import json
import os
import re
import signal
import sys
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path

from aiohttp import StreamReader, web

RECORD = "requests"
"""The file in the served directory that tells of each request, a line of JSON each."""

_PATH = re.compile(r"/(?P<name>[\w-]+/[\w.-]+)\.git/.*", re.ASCII)
_CHUNK = 65536
_PAUSES_A_SECOND = 20


@dataclass(frozen=True, slots=True)
class Rules:
    """What holds for one repository: `token` is the password with which one may push, and read what is private.

    `answer` is the status with which requests are refused, where not 0: those with `only` in their path or query.
    Answers come no faster than `bytes_per_second`, where not 0.
    """

    token: str
    private: bool = False
    answer: int = 0
    only: str = ""
    bytes_per_second: int = 0

    @classmethod
    def of(cls, repository: Path) -> Rules | None:
        """Return those of a bare repository; None where there is none."""
        try:
            return cls(**json.loads((repository / "homelab-agent.json").read_text()))
        except FileNotFoundError:
            return None

    def keep(self, repository: Path) -> None:
        """Let them hold from the next request on."""
        new = repository / "homelab-agent.json.new"
        new.write_text(json.dumps(asdict(self)))
        new.rename(repository / "homelab-agent.json")


@dataclass(frozen=True, slots=True)
class Request:
    """One request: `target` is path and query, `encoding` that of the body, `user` whom it says it comes from."""

    method: str
    target: str
    status: int
    encoding: str
    user: str


class Site:
    """The repositories below `root`."""

    def __init__(self, root: Path) -> None:
        self._root = root

    async def answer(self, request: web.Request) -> web.StreamResponse:
        """Refuse, or start a backend and pass both ways what is said, while it is said."""
        found = _PATH.fullmatch(request.path)
        rules = Rules.of(self._root / f"{found['name']}.git") if found else None
        refusal = _refusal(request, rules)
        if rules is None or refusal:
            status, text = refusal or (404, "")
            self._record(request, status)
            asking = {"WWW-Authenticate": 'Basic realm="GitHub"'} if status == 401 else {}
            return web.Response(status=status, text=text, headers=asking)
        backend = await asyncio.create_subprocess_exec(
            "git",
            "http-backend",
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            env={**os.environ, **self._variables(request)},
        )
        feeding = asyncio.create_task(_feed(request.content, backend))
        try:
            return await self._relay(request, backend, rules)
        finally:
            feeding.cancel()
            with suppress(ProcessLookupError):
                backend.kill()
            await backend.wait()

    def _variables(self, request: web.Request) -> dict[str, str]:
        """Return what a CGI program is told (RFC 3875, section 4.1), and what git wants to know besides."""
        given = {
            "GIT_PROJECT_ROOT": str(self._root),
            "GIT_HTTP_EXPORT_ALL": "1",
            "REQUEST_METHOD": request.method,
            "PATH_INFO": request.path,
            "QUERY_STRING": request.query_string,
            "REMOTE_ADDR": request.remote or "",
            "REMOTE_USER": _user(request)[0],
            "CONTENT_TYPE": request.headers.get("Content-Type", ""),
            "CONTENT_LENGTH": request.headers.get("Content-Length", ""),
            "GIT_PROTOCOL": request.headers.get("Git-Protocol", ""),
            "HTTP_CONTENT_ENCODING": request.headers.get("Content-Encoding", ""),
        }
        return {name: value for name, value in given.items() if value}

    async def _relay(
        self, request: web.Request, backend: asyncio.subprocess.Process, rules: Rules
    ) -> web.StreamResponse:
        assert backend.stdout is not None
        head = (await backend.stdout.readuntil(b"\r\n\r\n")).decode("latin-1").strip()
        headers = dict(line.split(": ", 1) for line in head.split("\r\n"))
        response = web.StreamResponse(status=int(headers.pop("Status", "200").split()[0]), headers=headers)
        self._record(request, response.status)
        await response.prepare(request)
        pace = rules.bytes_per_second
        while piece := await backend.stdout.read(max(1, pace // _PAUSES_A_SECOND) if pace else _CHUNK):
            await response.write(piece)
            if pace:
                await asyncio.sleep(len(piece) / pace)
        await response.write_eof()
        return response

    def _record(self, request: web.Request, status: int) -> None:
        encoding = request.headers.get("Content-Encoding", "")
        asked = Request(request.method, request.path_qs, status, encoding, _user(request)[0])
        with (self._root / RECORD).open("a") as file:
            file.write(json.dumps(asdict(asked)) + "\n")


def _user(request: web.Request) -> tuple[str, str]:
    """Return name and password, both empty where none are given."""
    scheme, _, given = request.headers.get("Authorization", "").partition(" ")
    with suppress(binascii.Error, UnicodeDecodeError):
        if scheme.lower() == "basic":
            name, _, password = base64.b64decode(given).decode().partition(":")
            return name, password
    return "", ""


def _refusal(request: web.Request, rules: Rules | None) -> tuple[int, str] | None:
    """Return status and text for a request that git shall not hear of; None for one that it shall."""
    name, password = _user(request)
    if rules is None:
        return (404, "Repository not found.") if name else (401, "")
    if rules.answer and rules.only in request.path_qs:
        return rules.answer, "This is what the test asked for."
    if name and not hmac.compare_digest(password.encode(), rules.token.encode()):
        return 401, "Invalid username or token."
    if not name and (rules.private or "git-receive-pack" in request.path_qs):
        return 401, ""
    return None


async def _feed(body: StreamReader, backend: asyncio.subprocess.Process) -> None:
    """Give the backend the body, piece by piece, to its end or until the backend wants no more."""
    assert backend.stdin is not None
    with suppress(BrokenPipeError, ConnectionResetError):
        async for piece in body.iter_any():
            backend.stdin.write(piece)
            await backend.stdin.drain()
    backend.stdin.close()


async def _serve(site: Site, port: int) -> None:
    """Serve until SIGTERM."""
    application = web.Application()
    application.router.add_route("*", "/{path:.*}", site.answer)
    # The backend unpacks a body itself, as it does behind any web server.
    runner = web.AppRunner(application, auto_decompress=False, shutdown_timeout=1.0)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", port).start()
    ended = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, ended.set)
    await ended.wait()
    await runner.cleanup()


if __name__ == "__main__":
    asyncio.run(_serve(Site(Path(sys.argv[1])), int(sys.argv[2])))
