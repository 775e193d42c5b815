"""How a request gets to OpenBao and what its answer means: hvac, with nothing taken from the environment.

hvac and requests would read VAULT_ADDR, VAULT_TOKEN, ~/.vault-token, VAULT_CACERT, VAULT_CLIENT_CERT, HTTPS_PROXY,
REQUESTS_CA_BUNDLE, ~/.netrc and more; a redirection would carry the log-in to another host. None of this happens here.
Loads hvac, which costs some megabytes: import it where OpenBao is configured.
"""

from __future__ import annotations

import json
import random
import re
import socket
import ssl
import time
import urllib.parse
from collections.abc import Callable, Iterator, Mapping
from http import HTTPStatus
from pathlib import Path
from typing import Any

import hvac
import hvac.adapters
import requests
import urllib3.connection
import urllib3.connectionpool

from homelab_agent.core.errors import describe
from homelab_agent.secrets import health
from homelab_agent.secrets.errors import (
    Broken,
    Busy,
    CaFaulty,
    CannotAsk,
    NotOpenBao,
    Sealed,
    Slow,
    SocketForbidden,
    Standby,
    TlsRefused,
    TokenFaulty,
    Uninitialized,
    Unreachable,
)
from homelab_agent.secrets.settings import SecretsSettings

ATTEMPTS = 3
"""How often something is asked that fails for a cause that may pass."""

_PASSES = (Unreachable, Busy, Broken, Standby)
"""What may be over in a moment: a restart, an election, a burst."""
_FIRST_PAUSE_SECONDS = 0.1
_INLINE_FAILED = "X-Vault-Inline-Auth-Failed"
_HEALTH = "/v1/sys/health"


class Answered(Exception):
    """The server said no, with `status` and `errors`; for `session` to explain. `data` is what came with it.

    `to_log_in` tells that it was the log-in, sent with the request, that was refused.
    """

    def __init__(self, response: requests.Response, body: Mapping[str, Any]) -> None:
        self.status = int(response.status_code)
        self.errors = " ".join("; ".join(str(one) for one in body.get("errors") or ()).split())
        self.data: Mapping[str, Any] | None = body.get("data")
        # A role that is locked out for a while (server 2.7) is told so without the header.
        self.to_log_in = _INLINE_FAILED in response.headers or "perform inline authentication" in self.errors
        super().__init__(self.status, self.errors)


class Transport:
    """Makes clients of one server; `settings` say where it is and how to know it."""

    def __init__(self, settings: SecretsSettings) -> None:
        self.url = settings.url.rstrip("/")
        self._namespace = settings.namespace
        self._seconds = settings.timeout
        self._ca = settings.ca

    def client(
        self,
        *,
        token: str = "",
        headers: Mapping[str, str] | None = None,
        attempts: int = ATTEMPTS,
        in_namespace: bool = True,
    ) -> hvac.Client:
        """Return a new client with connections of its own, which sends `token` and `headers` with each request.

        What is the server's own, as its health, is in no namespace.
        For one thread. Its methods raise `CannotAsk` errors or `Answered`, and no others. A request, with its
        repetitions, is given up after `settings.timeout`; where that long is needed to connect, or for each piece of
        an answer that trickles in, later: see `client.Client`. Raises `CaFaulty` and `TokenFaulty`.
        """
        if not re.fullmatch(r"[!-~]*", token):
            raise TokenFaulty
        return hvac.Client(
            url="http://localhost" if self.url.startswith("unix:") else self.url,
            token=token,
            namespace=(in_namespace and self._namespace) or None,
            session=_session(headers or {}),
            cert=(),  # not None: that would be what VAULT_CLIENT_CERT says
            verify=True,  # by the context of `_Doors`, whatever VAULT_CACERT says
            allow_redirects=False,
            adapter=_Adapter,
            doors=self._doors,
            where=self.url,
            seconds=self._seconds,
            attempts=attempts,
        )

    def _doors(self) -> requests.adapters.HTTPAdapter:
        """Return what opens connections, with the certificates as they are now."""
        if self.url.startswith("unix:"):
            return _UnixDoors(self.url.removeprefix("unix:"))
        return _TlsDoors(self._context()) if self.url.startswith("https:") else requests.adapters.HTTPAdapter()

    def _context(self) -> ssl.SSLContext:
        """Return what knows the server: by `ca` alone where it is given, else by what the system trusts."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)  # not create_default_context, which heeds SSLKEYLOGFILE
        if self._ca is None:
            paths = ssl.get_default_verify_paths()  # as OpenSSL was built, whatever SSL_CERT_FILE says
            file, directory = Path(paths.openssl_cafile), Path(paths.openssl_capath)
            ca, capath = file if file.exists() else None, directory if directory.is_dir() else None
        else:
            ca, capath = self._ca, None
        try:
            if ca or capath:
                context.load_verify_locations(ca, capath)
        except OSError as error:  # ssl.SSLError among them
            raise CaFaulty(url=self.url, ca=ca, cause=error) from None
        return context


def _session(headers: Mapping[str, str]) -> requests.Session:
    session = requests.Session()
    session.trust_env = False
    session.headers.update(headers)
    return session


class _TlsDoors(requests.adapters.HTTPAdapter):
    """Opens connections whose other end is known by `context`, and by nothing that requests brings along."""

    def __init__(self, context: ssl.SSLContext) -> None:
        self._context = context
        super().__init__()

    def build_connection_pool_key_attributes(self, request: Any, verify: Any, cert: Any = None) -> Any:
        """Return what tells one pool of connections from another; the context is the same for all."""
        host, _ = super().build_connection_pool_key_attributes(request, verify, cert)
        return host, {"ssl_context": self._context}

    def cert_verify(self, conn: Any, url: str, verify: Any, cert: Any) -> None:
        """Add no certificates of requests' own to the context."""


class _UnixDoors(requests.adapters.HTTPAdapter):
    """Opens connections to a unix socket, whichever host the URL names."""

    def __init__(self, path: str) -> None:
        self._pool = urllib3.connectionpool.HTTPConnectionPool("localhost")
        self._pool.ConnectionCls = _connection_to(path)
        super().__init__()

    def get_connection_with_tls_context(self, *_: Any, **__: Any) -> Any:
        """Return the pool that each request takes its connection from."""
        return self._pool

    def close(self) -> None:
        """Close all connections."""
        self._pool.close()
        super().close()


def _connection_to(path: str) -> type[urllib3.connection.HTTPConnection]:
    class UnixConnection(urllib3.connection.HTTPConnection):
        def _new_conn(self) -> socket.socket:
            connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
            try:
                connection.settimeout(self.timeout)
                connection.connect(path)
            except BaseException:
                connection.close()
                raise
            return connection

    return UnixConnection


class _Adapter(hvac.adapters.JSONAdapter):  # type: ignore[misc] # hvac has no types
    """Sends what hvac's methods make, again where that may help, and raises our errors, not hvac's.

    A body is returned as a dict, one that is streamed as a response.
    """

    def __init__(
        self,
        *,
        doors: Callable[[], requests.adapters.HTTPAdapter],
        where: str,
        seconds: float,
        attempts: int,
        **rest: Any,
    ) -> None:
        super().__init__(**rest)
        self._doors = doors
        self._where = where
        self._seconds = seconds
        self._attempts = attempts
        self._mount()

    def request(
        self,
        method: str,
        url: str,
        headers: dict[str, str] | None = None,
        raise_exception: bool = True,  # noqa: FBT001, FBT002 - as hvac calls it
        **rest: Any,
    ) -> Any:
        """Return the answer; raises `CannotAsk` errors, and `Answered` unless told not to."""
        deadline = time.monotonic() + self._seconds
        attempt = 0
        while True:
            attempt += 1
            outcome = self._try(method, url, headers, rest, deadline, judge=raise_exception)
            if not isinstance(outcome, CannotAsk):
                return outcome
            pause = random.uniform(0, _FIRST_PAUSE_SECONDS * 2**attempt)  # noqa: S311 - not a secret
            passes = isinstance(outcome, _PASSES) and not isinstance(outcome, SocketForbidden)
            if not passes or attempt >= self._attempts or time.monotonic() + pause >= deadline:
                raise outcome
            time.sleep(pause)

    def _try(
        self,
        method: str,
        url: str,
        headers: dict[str, str] | None,
        rest: dict[str, Any],
        deadline: float,
        *,
        judge: bool,
    ) -> Any:
        """Return the answer, or the error that may pass: what requests raised would hold the log-in in its headers."""
        left = max(deadline - time.monotonic(), 0.01)
        try:
            response = hvac.adapters.RawAdapter.request(
                self, method, url, headers=headers, raise_exception=False, **{**rest, "timeout": left}
            )
            return self._judged(response, is_stream=bool(rest.get("stream"))) if judge else response
        except requests.Timeout:
            return Slow(url=self._where, seconds=self._seconds)
        except CannotAsk as error:
            return error
        except requests.RequestException as error:
            failed = error
        try:
            return self._failed(failed)
        except CaFaulty as error:
            return error

    def _mount(self) -> None:
        self.session.mount(urllib.parse.urlsplit(self.base_uri).scheme + "://", self._doors())

    def _failed(self, error: requests.RequestException) -> CannotAsk:
        """Return what kept the answer away: what the system or OpenSSL said; others' words may quote a header."""
        roots = [
            one for one in _chain(error) if isinstance(one, OSError) and not isinstance(one, requests.RequestException)
        ]
        cause = describe(roots[-1]) if roots else type(error).__name__
        if isinstance(error, requests.exceptions.SSLError):
            self._mount()  # a new authority is known from the next request on, without a restart
            return TlsRefused(url=self._where, cause=cause)
        is_forbidden = bool(roots) and isinstance(roots[-1], PermissionError)
        return (SocketForbidden if is_forbidden else Unreachable)(url=self._where, cause=cause)

    def _judged(self, response: requests.Response, *, is_stream: bool) -> Any:
        """Return what a good answer holds; raises `Answered` for a no, `CannotAsk` for one that is none."""
        if is_stream and not response.ok:
            _ = response.content  # read to its end, so that the connection is nobody's any more
        if response.is_redirect:
            raise Standby(url=self._where, cause=f"it answers {response.status_code}")
        if response.status_code == HTTPStatus.TOO_MANY_REQUESTS:
            raise Busy(url=self._where)
        if response.status_code >= HTTPStatus.INTERNAL_SERVER_ERROR:
            raise self._why(response)
        if response.ok and (is_stream or response.status_code == HTTPStatus.NO_CONTENT):
            return response
        body = _body(response)
        if body is None:
            raise NotOpenBao(url=self._where, cause=_beginning(response))
        if not response.ok:
            raise Answered(response, body)
        return body

    def _why(self, response: requests.Response) -> CannotAsk:
        """Return what is wrong with a server that answered with an error of its own."""
        asked = self.session.get(f"{self.base_uri}{_HEALTH}", timeout=self._seconds, allow_redirects=False)
        body = _body(asked)
        match health.told(body).state if body is not None else None:
            case health.State.SEALED:
                return Sealed(url=self._where)
            case health.State.UNINITIALIZED:
                return Uninitialized(url=self._where)
            case health.State.STANDBY:
                return Standby(url=self._where)
        errors = "; ".join((_body(response) or {}).get("errors") or ())
        return Broken(url=self._where, status=response.status_code, cause=" ".join(errors.split()))


def ask_health(client: hvac.Client, url: str) -> health.Server:
    """Return how the server stands; raises `CannotAsk`."""
    response = client.sys.read_health_status(method="GET")
    body = _body(response)
    if body is None or "initialized" not in body:
        raise NotOpenBao(url=url, cause=_beginning(response))
    return health.told(body)


def _body(response: requests.Response) -> dict[str, Any] | None:
    try:
        body = response.json()
    except (json.JSONDecodeError, requests.RequestException):
        return None
    return body if isinstance(body, dict) else None


def _beginning(response: requests.Response) -> str:
    return " ".join(response.text[:100].split())


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    seen: set[int] = set()
    while error is not None and id(error) not in seen:
        seen.add(id(error))
        yield error
        error = error.__cause__ or error.__context__
