"""Every request passes here, in one order, before and after a room's handler:

1. it gets an id, and loses every header with `_` in its name,
2. its audience is decided from connection and headers, and whether it is to be refused (`audience.decide`),
3. if it is the public's: nothing while the public door is shut, at an open one nothing but the webhook
   (`audience.public_rule`); the gate's own probe is let in as far as step 6, and answered there,
4. its route is found: 404, or 405 with what the path takes,
5. its cookie or token is recognised (`login.Logins.recognise`), and the route's audience and log-in are
   enforced (`audience.permit`),
6. its body's declared size is held against the route's `body_max`; the rest of it while it is read,
7. the handler runs, within the route's deadline,
8. its answer, or the problem it ran into, is written; one to the public ends with the door, wherever it is.
"""  # noqa: D400, D415 - the list is the sentence's end

from __future__ import annotations

import asyncio
import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass

from aiohttp import web

from homelab_agent.core import journal
from homelab_agent.core.door import PROBE_HEADER, PublicDoor
from homelab_agent.core.errors import AgentError, describe
from homelab_agent.core.http import Answer, Audience, BodyTooLarge, Caller, Events, Json, Response, Route
from homelab_agent.core.uuid7 import uuid7
from homelab_agent.web import audience, problem, sse, wire
from homelab_agent.web.audience import Refusal
from homelab_agent.web.incoming import Asked, Incoming
from homelab_agent.web.limits import Guard
from homelab_agent.web.login import Logins
from homelab_agent.web.pages import Pages
from homelab_agent.web.problem import Problem
from homelab_agent.web.router import Missing, Router

_ALWAYS = {"X-Content-Type-Options": "nosniff", "Referrer-Policy": "no-referrer", "Cache-Control": "no-store"}
_NOBODY = Caller(Audience.PUBLIC, "")
_log = journal.logger("web")


class Refused(Exception):
    """A request ends here, with `trouble` as its answer."""

    def __init__(self, trouble: Problem) -> None:
        super().__init__(trouble.title)
        self.trouble = trouble


@dataclass(frozen=True, slots=True)
class Policy:
    """What of the configuration decides about requests; replaced as a whole when it is reloaded."""

    hosts: frozenset[str]
    login_always: bool
    receive_deadline: float


class Application:
    """Serves the routes of all rooms."""

    def __init__(self, routes: Sequence[Route], logins: Logins, pages: Pages, policy: Policy, door: PublicDoor) -> None:
        self._router = Router(routes)
        self._logins = logins
        self._pages = pages
        self._door = door
        self.policy = policy

    async def prepare(self) -> None:
        """Make ready to serve."""
        await self._logins.load()

    async def __call__(self, request: web.BaseRequest) -> web.StreamResponse:
        """Serve one request; tell the connection's guard when its head is complete and it is answered."""
        if not isinstance(request, Incoming) or (guard := request.guard) is None:
            raise ConnectionResetError
        guard.begin()
        try:
            return await self._serve(request, guard)
        finally:
            guard.end(body_complete=request.content.is_eof())

    async def _serve(self, incoming: Incoming, guard: Guard) -> web.StreamResponse:
        """Answer a request; it is under way until its answer is written, which is not left to aiohttp therefore."""
        asked = Asked(
            incoming,
            audience.without_underscores(incoming.headers.items()),
            uuid7(),
            _NOBODY,
            receive_deadline=self.policy.receive_deadline,
        )
        response = await self._respond(incoming, asked, guard)
        if guard.is_last:
            response.force_close()
        await response.prepare(incoming)
        await response.write_eof()
        if asked.is_visit and incoming.transport is not None:
            self._door.answered(incoming.writer.output_size)
        return response

    async def _respond(self, incoming: Incoming, asked: Asked, guard: Guard) -> web.StreamResponse:
        try:
            answer = await self._answer(incoming, asked, guard)
            if isinstance(answer, Events):
                return await sse.stream(incoming, answer, guard.over, {"X-Request-Id": asked.id})
            return outgoing(answer, asked.id)
        except Refused as refused:
            trouble = refused.trouble
        except AgentError as error:
            trouble = problem.of_error(error)
        except ConnectionError:
            raise
        except Exception as error:  # noqa: BLE001 - whatever a handler raises, the caller gets an answer
            _log.exception("web.failed", path=asked.raw_path[:200], request_id=asked.id, cause=describe(error))
            trouble = problem.unexpected()
        _report(trouble, asked)
        return await self._explain(trouble, asked)

    async def _answer(self, incoming: Incoming, asked: Asked, guard: Guard) -> Answer:
        self._admit(incoming, asked, guard)
        found = self._router.find(asked.method, asked.raw_path)
        if isinstance(found, Missing):
            raise Refused(problem.missing(found.methods))
        route = found.route
        asked.match = found.match
        asked.body_max = route.body_max
        asked.caller = self._recognise(asked, route)
        _refuse(audience.permit(route, asked.caller, login_always=self.policy.login_always))
        if (asked.declared or 0) > route.body_max:
            raise BodyTooLarge(limit=route.body_max)
        if asked.headers.get("Content-Encoding", "identity").lower() != "identity":
            _refuse(Refusal(415, "A body is not taken compressed.", close=True))
        if asked.nonce:
            return Response(status=204, headers={PROBE_HEADER: asked.nonce})
        try:
            async with asyncio.timeout(route.deadline) as clock:
                return await route.handler(asked)
        except TimeoutError:
            if not clock.expired() or route.deadline is None:
                raise
            raise Refused(problem.late(route.deadline)) from None

    def _admit(self, incoming: Incoming, asked: Asked, guard: Guard) -> None:
        """Decide who is calling, and whether anything is answered; raises `Refused`."""
        headers, hosts = list(asked.headers.items()), self.policy.hosts | self._door.names
        caller, refusal = audience.decide(incoming.connection, asked.method, headers, hosts)
        if caller.audience is Audience.PUBLIC:
            asked.caller = caller
            self._let_in(asked, guard)
            refusal = refusal or audience.public_rule(asked.method, asked.raw_path, nonce=asked.nonce)
        _refuse(refusal)
        asked.caller = caller
        if not asked.raw_path.startswith("/"):
            _refuse(Refusal(400, "The request's target is not a path.", close=True))

    def _let_in(self, asked: Asked, guard: Guard) -> None:
        """Let the public in while its door is open; whatever its state the gate's own probe, which is no visit."""
        nonce = asked.headers.get(PROBE_HEADER, "")
        if self._door.is_probe(nonce):
            asked.nonce = nonce
            return
        if not self._door.is_open:
            _refuse(audience.SHUT)
        guard.admit_public()
        self._door.visited(asked.caller.address)
        asked.is_visit = True

    def _recognise(self, asked: Asked, route: Route) -> Caller:
        caller = asked.caller
        if caller.login or not route.login:
            return caller
        login = self._logins.recognise(
            authorization=asked.headers.get("Authorization", ""),
            cookie=asked.headers.get("Cookie", ""),
            source=caller.address,
        )
        return dataclasses.replace(caller, login=login)

    async def _explain(self, trouble: Problem, asked: Asked) -> web.StreamResponse:
        """Answer with a problem: JSON for a program, a page for a browser."""
        if asked.caller.audience is not Audience.PUBLIC and "text/html" in asked.headers.get("Accept", ""):
            answer = await self._pages.problem(trouble, asked.id)
        else:
            body = wire.dump(trouble.members(asked.id))
            answer = Response(body, trouble.status, problem.CONTENT_TYPE)
        response = outgoing(answer, asked.id)
        response.headers.update(trouble.headers)
        if trouble.close:
            response.force_close()
        return response


def malformed(status: int) -> web.StreamResponse:
    """Return the answer to what is not a request that can be read."""
    trouble = problem.malformed(status)
    request_id = uuid7()
    answer = Response(wire.dump(trouble.members(request_id)), status, problem.CONTENT_TYPE)
    response = outgoing(answer, request_id)
    response.force_close()
    return response


def outgoing(answer: Json | Response, request_id: str) -> web.Response:
    """Return a whole answer as aiohttp sends it."""
    if isinstance(answer, Json):
        answer = Response(wire.dump(answer.data), answer.status, headers=answer.headers)
    headers = {**_ALWAYS, "Content-Type": answer.content_type, "X-Request-Id": request_id, **answer.headers}
    return web.Response(body=answer.body, status=answer.status, headers=headers)


def _refuse(refusal: Refusal | None) -> None:
    if refusal is not None:
        raise Refused(problem.of_refusal(refusal))


def _report(trouble: Problem, asked: Asked) -> None:
    """Log who was refused what; not what is everyday, nor what the whole internet may cause."""
    everyday = trouble.status in {404, 405} or asked.caller.audience is Audience.PUBLIC
    if everyday and not journal.writes("debug"):
        return
    (_log.debug if everyday else _log.info)(
        "web.refused",
        status=trouble.status,
        why=trouble.kind,
        method=asked.method,
        path=asked.raw_path[:200],
        source=asked.caller.address,
        name=asked.caller.name,
        request_id=asked.id,
    )
