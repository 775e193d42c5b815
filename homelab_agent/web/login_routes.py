"""Logging in and out, and the tokens; links and tokens are made over the unix socket only."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any
from urllib.parse import parse_qs

from homelab_agent.core.http import Answer, Audience, BadRequest, Json, Request, Response, Route
from homelab_agent.web import wire
from homelab_agent.web.credentials import Credential
from homelab_agent.web.login import LinkNotValid, Logins, session_of, set_cookie
from homelab_agent.web.pages import Pages


@dataclass(frozen=True, slots=True)
class LoginApi:
    """The handlers; `origins` says under which URLs the agent is reached, the nearest first."""

    logins: Logins
    pages: Pages
    origins: Callable[[], Sequence[str]]
    session_age: float

    def routes(self) -> list[Route]:
        """Return the routes."""
        local = Audience.LOCAL
        return [
            Route("POST", "/api/login-links", self.make_link, audience=local),
            Route("GET", "/api/tokens", self.tokens, audience=local),
            Route("POST", "/api/tokens", self.add_token, audience=local),
            Route("POST", "/api/tokens/{name}/revoke", self.revoke_token, audience=local),
            Route("GET", "/login", self.confirm, login=False),
            Route("POST", "/login", self.log_in, login=False, body_max=4096),
            Route("POST", "/logout", self.log_out, login=False, body_max=4096),
        ]

    async def make_link(self, _request: Request) -> Answer:
        """Make a one-time link."""
        secret, link = await self.logins.new_link()
        path = f"/login?link={secret}"
        data = {
            "path": path,
            "urls": [f"{origin}{path}" for origin in self.origins()],
            "expires_at": _time(link.expires_at),
        }
        return Json(data, status=201)

    async def confirm(self, request: Request) -> Answer:
        """Show what the link's button does; a preview that only looks does not use the link up."""
        link = request.query.get("link", "")
        if not link:
            return await self.pages.login()
        self.logins.failures.check(request.caller.address)
        if not self.logins.is_link(link):
            self.logins.failures.add(request.caller.address)
            raise LinkNotValid
        return await self.pages.confirm(link, days=max(1, round(self.session_age / 86400)))

    async def log_in(self, request: Request) -> Answer:
        """Use the link up, and give the browser its cookie."""
        body = b"".join([chunk async for chunk in request.chunks()])
        session = await self.logins.claim(_field(request, body, "token"), request.caller.address)
        cookie = set_cookie(session, secure=_is_https(request), age=self.session_age)
        return _home(cookie)

    async def log_out(self, request: Request) -> Answer:
        """End the browser's session."""
        await self.logins.log_out(session_of(request.headers.get("Cookie", "")))
        return _home(set_cookie("", secure=_is_https(request), age=0))

    async def tokens(self, _request: Request) -> Answer:
        """Give the tokens' names."""
        return Json({"tokens": [_token(token) for token in self.logins.tokens()]})

    async def add_token(self, request: Request) -> Answer:
        """Make a token; this answer is the only place where it ever stands."""
        name = _name(await request.json())
        return Json({"name": name, "token": await self.logins.add_token(name)}, status=201)

    async def revoke_token(self, request: Request) -> Answer:
        """Make a token invalid."""
        await self.logins.revoke_token(request.match["name"])
        return Json({"revoked": request.match["name"]})


def _home(cookie: str) -> Response:
    return Response(status=303, content_type="text/plain", headers={"Location": "/", "Set-Cookie": cookie})


def _is_https(request: Request) -> bool:
    return request.headers.get("X-Forwarded-Proto", "").lower() == "https"


def _field(request: Request, body: bytes, name: str) -> str:
    """Return one field of a form, or of JSON."""
    if "json" in request.headers.get("Content-Type", ""):
        said = wire.load(body)
        value = said.get(name) if isinstance(said, dict) else None
        return value if isinstance(value, str) else ""
    try:
        return parse_qs(body.decode("ascii"), max_num_fields=8).get(name, [""])[0]
    except ValueError:
        raise BadRequest(cause="the form cannot be read") from None


def _name(said: Any) -> str:
    name = said.get("name") if isinstance(said, dict) else None
    if not isinstance(name, str):
        raise BadRequest(cause='the body is {"name": "..."}')
    return name


def _token(token: Credential) -> dict[str, object]:
    return {"name": token.name, "created_at": _time(token.created_at)}


def _time(seconds: int | None) -> datetime | None:
    return None if seconds is None else datetime.fromtimestamp(seconds, UTC)
