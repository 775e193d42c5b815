"""The API over real sockets: who gets in, what the answers say, what a stop does."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from homelab_agent.core.capability import Capability
from homelab_agent.core.errors import AgentError
from homelab_agent.core.health import Check, Finding
from homelab_agent.core.http import Answer as HandlerAnswer
from homelab_agent.core.http import Audience, Event, Events, Json, Request, Response, Route
from homelab_agent.core.jobs.run import Job, Outcome, Run
from homelab_agent.web.settings import WebSettings
from tests.clock import until
from tests.website import HOST, TAILNET, Answer, Site, serving

BROWSER = {"Accept": "text/html,application/xhtml+xml"}


class DiskOnFire(AgentError):
    """The disk is on fire."""

    repair = "use the extinguisher"


class Workshop:
    """A capability with routes and jobs that tests hold on to."""

    def __init__(self) -> None:
        self.go_on = asyncio.Event()

    async def slow(self, _request: Request) -> HandlerAnswer:
        await self.go_on.wait()
        return Json({"done": True})

    async def echo(self, request: Request) -> HandlerAnswer:
        return Response(b"".join([chunk async for chunk in request.chunks()]), content_type="text/plain")

    async def said(self, request: Request) -> HandlerAnswer:
        return Json({"said": await request.json(), "query": dict(request.query), "match": dict(request.match)})

    async def fail(self, _request: Request) -> HandlerAnswer:
        raise DiskOnFire(cause="smoke in /dev/sda")

    async def crash(self, _request: Request) -> HandlerAnswer:
        message = "secret detail"
        raise ZeroDivisionError(message)

    async def broken(self, _request: Request) -> HandlerAnswer:
        async def source() -> AsyncIterator[Event]:
            yield Event("first", 1)
            message = "secret detail"
            raise ZeroDivisionError(message)

        return Events(source())

    async def work(self, run: Run) -> Outcome:
        run.progress(1, 2, "files")
        ends = {asyncio.ensure_future(event.wait()) for event in (self.go_on, run.cancelled)}
        _, left = await asyncio.wait(ends, return_when=asyncio.FIRST_COMPLETED)
        for one in left:
            one.cancel()
        return Outcome(ok=not run.cancelled.is_set(), detail="worked")

    def capability(self) -> Capability:
        return Capability(
            name="workshop",
            jobs=[Job("work", self.work, deadline=30)],
            routes=[
                Route("GET", "/slow", self.slow),
                Route("GET", "/late", self.slow, deadline=0.1),
                Route("POST", "/echo", self.echo, body_max=1000),
                Route("POST", "/said/{what}", self.said),
                Route("GET", "/fail", self.fail),
                Route("GET", "/crash", self.crash),
                Route("GET", "/broken", self.broken, deadline=None),
                Route("POST", "/api/webhook/gitops", self.echo, audience=Audience.PUBLIC, login=False),
            ],
            checks=[Check("workshop"), Check("workshop.door")],
            summary=lambda: "open",
            exposition=lambda: b"workshop_doors 1\n",
        )


@pytest.fixture
def workshop() -> Workshop:
    return Workshop()


@pytest.fixture
async def site(tmp_path: Path, workshop: Workshop) -> AsyncIterator[Site]:
    async with serving(tmp_path, [workshop.capability()]) as site:
        yield site


async def test_on_loopback_reading_is_free_and_changing_is_not(site: Site) -> None:
    assert (await site.ask("GET", "/api/health")).status == 200
    refused = await site.ask("POST", "/echo", body=b"x")
    assert refused.status == 401
    assert refused.headers["Content-Type"] == "application/problem+json"
    assert refused.json()["repair"] == "homelab-agent web login"
    assert (await site.ask("POST", "/echo", body=b"x", headers=await site.token())).body == b"x"


async def test_from_the_tailnet_reading_needs_a_login_too(site: Site) -> None:
    for headers in (TAILNET, {"Host": HOST}, {**TAILNET, "Tailscale-User-Login": "me@example.org"}):
        assert (await site.ask("GET", "/api/health", headers=headers)).status == 401
        assert (await site.ask("GET", "/api/health/live", headers=headers)).json() == {"status": "alive"}
    assert (await site.ask("GET", "/api/health", headers={**TAILNET, **await site.token()})).status == 200


async def test_over_the_unix_socket_no_login_is_needed(site: Site) -> None:
    answer = await site.ask("POST", "/echo", body=b"x", unix=True)
    assert (answer.status, answer.body) == (200, b"x")


async def test_what_is_local_is_not_for_a_token(site: Site) -> None:
    for method, path in (("POST", "/api/login-links"), ("GET", "/api/tokens"), ("POST", "/api/tokens")):
        assert (await site.ask(method, path, headers=await site.token())).status == 403


async def test_a_strange_host_and_another_site_are_refused(site: Site) -> None:
    assert (await site.ask("GET", "/api/health", headers={"Host": "rebound.example"})).status == 421
    foreign = {**await site.token(), "Origin": "https://evil.example"}
    assert (await site.ask("POST", "/echo", headers=foreign, body=b"x")).status == 403


async def test_an_error_is_a_problem_with_cause_and_repair(site: Site) -> None:
    failed = await site.ask("GET", "/fail")
    problem = failed.json()
    assert problem == {
        "type": "urn:homelab-agent:problem:disk-on-fire",
        "title": "The disk is on fire.",
        "status": 500,
        "detail": "smoke in /dev/sda",
        "repair": "use the extinguisher",
        "request_id": failed.headers["X-Request-Id"],
    }


async def test_a_crash_shows_neither_traceback_nor_version(site: Site) -> None:
    for headers in ({}, BROWSER):
        crashed = await site.ask("GET", "/crash", headers=headers)
        assert crashed.status == 500
        for secret in (b"Traceback", b"ZeroDivision", b"secret detail", b"aiohttp", b"Python/"):
            assert secret not in crashed.body
        assert "Server" not in crashed.headers


async def test_a_stream_whose_source_fails_ends_and_shows_nothing(site: Site) -> None:
    answer = await site.ask("GET", "/broken")
    assert answer.status == 200
    assert answer.body.startswith(b"retry: ")
    assert answer.body.endswith(b"event: first\ndata: 1\n\n")
    assert (await site.ask("GET", "/api/health/live")).status == 200


async def test_a_request_id_of_ones_own_is_not_taken(site: Site) -> None:
    answer = await site.ask("GET", "/api/health/live", headers={"X-Request-Id": "mine"})
    assert answer.headers["X-Request-Id"] != "mine"


async def test_unknown_paths_and_methods(site: Site) -> None:
    assert (await site.ask("GET", "/nowhere")).status == 404
    assert (await site.ask("GET", "/api/health/")).status == 404
    wrong = await site.ask("DELETE", "/api/health")
    assert (wrong.status, wrong.headers["Allow"]) == (405, "GET, HEAD")
    assert (await site.ask("GET", "/api/runs/%ff")).status == 400
    assert (await site.ask("GET", "/api/runs/..%2f..")).status == 404


async def test_head_is_get_without_the_body(site: Site) -> None:
    head = await site.ask("HEAD", "/api/health")
    assert (head.status, head.body) == (200, b"")
    assert (await site.ask("HEAD", "/events")).status == 200


async def test_a_body_over_the_routes_size_is_refused_early(site: Site) -> None:
    token = await site.token()
    assert (await site.ask("POST", "/echo", headers=token, body=b"x" * 1000)).status == 200
    assert (await site.ask("POST", "/echo", headers=token, body=b"x" * 1001)).status == 413
    huge = (
        b"POST /echo HTTP/1.1\r\nHost: 127.0.0.1\r\nAuthorization: " + token["Authorization"].encode()
    ) + b"\r\nContent-Length: 200000000\r\n\r\n"
    assert (await site.send(huge + b"x" * 100_000)).startswith(b"HTTP/1.1 413 ")
    chunked = huge.replace(b"Content-Length: 200000000", b"Transfer-Encoding: chunked")
    assert (await site.send(chunked + b"7d1\r\n" + b"x" * 2001 + b"\r\n0\r\n\r\n")).startswith(b"HTTP/1.1 413 ")


@pytest.mark.parametrize("body", [b"", b"{", b"\xff", b'{"a": NaN}', b'"\\ud800"', b"[" * 60_000, b"9" * 5000])
async def test_what_is_not_json_is_a_bad_request(site: Site, body: bytes) -> None:
    answer = await site.ask("POST", "/said/x", headers=await site.token(), body=body)
    assert answer.status == 400
    assert "not JSON" in answer.json()["detail"]


async def test_a_handler_sees_query_and_placeholders_decoded(site: Site) -> None:
    path = "/said/a%2Fb%20%C3%BC?x=1&x=2&y=%C3%BC"
    answer = await site.ask("POST", path, headers=await site.token(), body=b'{"n": 1}')
    assert answer.json() == {"said": {"n": 1}, "query": {"x": "1", "y": "ü"}, "match": {"what": "a/b ü"}}


async def test_a_compressed_body_is_not_taken(site: Site) -> None:
    headers = {**await site.token(), "Content-Encoding": "gzip"}
    assert (await site.ask("POST", "/echo", headers=headers, body=b"\x1f\x8b")).status == 415


async def test_a_handler_that_takes_too_long_is_stopped(site: Site) -> None:
    answer = await site.ask("GET", "/late")
    assert answer.status == 503
    assert "0.1 s" in answer.json()["detail"]


async def test_health_says_every_finding_and_fails_when_one_does(site: Site) -> None:
    site.base.health.report("workshop.door", Finding.degraded("the door jams", "oil it"))
    degraded = await site.ask("GET", "/api/health")
    assert (degraded.status, degraded.json()["status"]) == (200, "degraded")
    found = next(one for one in degraded.json()["findings"] if one["check"] == "workshop.door")
    assert (found["state"], found["detail"], found["repair"]) == ("degraded", "the door jams", "oil it")
    site.base.health.report("workshop", Finding.failed("burnt down"))
    assert (await site.ask("GET", "/api/health")).status == 503
    assert (await site.ask("GET", "/api/health/live")).status == 200
    assert (await site.ask("GET", "/api/health/ready")).json() == {"ready": True}


async def test_the_start_page_is_json_for_a_program(site: Site) -> None:
    site.base.health.report("workshop", Finding.failed("burnt down", "build it anew"))
    overview = (await site.ask("GET", "/")).json()
    assert overview["host"] == "testhost"
    assert overview["state"] == "failed"
    assert overview["needs"][0] | {"since": ""} == {
        "check": "workshop",
        "state": "failed",
        "detail": "burnt down",
        "repair": "build it anew",
        "since": "",
    }
    assert overview["capabilities"][0] == {"name": "workshop", "state": "failed", "summary": "open"}
    assert overview["caller"] == {"audience": "loopback", "login": ""}
    assert overview["now"].endswith("Z")


async def test_the_start_page_is_html_for_a_browser(site: Site) -> None:
    page = await site.ask("GET", "/", headers=BROWSER)
    assert page.headers["Content-Type"].startswith("text/html")
    policy = page.headers["Content-Security-Policy"]
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy
    style = page.body.decode().partition('rel="stylesheet" href="')[2].partition('"')[0]
    sheet = await site.ask("GET", style)
    assert sheet.status == 200
    assert "immutable" in sheet.headers["Cache-Control"]
    again = await site.ask("GET", style, headers={"If-None-Match": sheet.headers["ETag"]})
    assert (again.status, again.body) == (304, b"")
    assert (await site.ask("GET", "/static/..%2f..%2fservice.py")).status == 404


async def test_the_metrics_are_the_rooms_and_the_agents(site: Site) -> None:
    answer = await site.ask("GET", "/metrics")
    assert answer.headers["Content-Type"].startswith("text/plain")
    assert b"workshop_doors 1\n" in answer.body


async def test_reload_is_for_the_command_line(tmp_path: Path) -> None:
    async def reload() -> object:
        return {"applied": ["log.level"], "needs_restart": []}

    async with serving(tmp_path, reload=reload) as site:
        assert await site.local("POST", "/api/reload") == {"applied": ["log.level"], "needs_restart": []}
        assert (await site.ask("POST", "/api/reload", headers=await site.token())).status == 403


async def test_a_new_host_name_applies_at_once(site: Site) -> None:
    new = {"Host": "new.example", **await site.token()}
    assert (await site.ask("GET", "/api/health", headers=new)).status == 421
    assert site.web.reload is not None
    site.web.reload(WebSettings(listen="127.0.0.1:0", hosts=["new.example"]))
    assert (await site.ask("GET", "/api/health", headers=new)).status == 200
    assert (await site.ask("GET", "/api/health/live", headers={"Host": HOST})).status == 421


async def test_beyond_loopback_reading_needs_a_login_even_from_here(tmp_path: Path) -> None:
    async with serving(tmp_path, settings=WebSettings(listen="0.0.0.0:0")) as site:
        assert (await site.ask("GET", "/api/health")).status == 401
        assert (await site.ask("GET", "/api/health/live")).status == 200
        assert (await site.ask("GET", "/api/health", headers=await site.token())).status == 200
        assert (await site.ask("GET", "/api/health", unix=True)).status == 200


async def log_in(site: Site, headers: dict[str, str]) -> Answer:
    link = await site.local("POST", "/api/login-links")
    form = {"Content-Type": "application/x-www-form-urlencoded", **headers}
    secret = link["path"].partition("=")[2]
    return await site.ask("POST", "/login", headers=form, body=f"token={secret}".encode())


async def test_a_link_is_confirmed_by_its_button_and_not_by_a_preview(site: Site) -> None:
    link = await site.local("POST", "/api/login-links")
    assert link["urls"][0].startswith(f"http://127.0.0.1:{site.port}/login?link=")
    assert f"https://{HOST}{link['path']}" in link["urls"]
    for _ in range(3):
        preview = await site.ask("GET", link["path"], headers=BROWSER)
        assert preview.status == 200
        assert b'action="/login"' in preview.body
        assert "Set-Cookie" not in preview.headers
    secret = link["path"].partition("=")[2]
    form = {"Content-Type": "application/x-www-form-urlencoded"}
    done = await site.ask("POST", "/login", headers=form, body=f"token={secret}".encode())
    assert (done.status, done.headers["Location"]) == (303, "/")
    again = await site.ask("POST", "/login", headers={**form, **BROWSER}, body=f"token={secret}".encode())
    assert again.status == 401
    assert b"not valid" in again.body


async def test_a_cookie_opens_what_a_login_opens_until_it_is_given_back(site: Site) -> None:
    done = await log_in(site, TAILNET)
    sent = done.headers["Set-Cookie"]
    assert {"HttpOnly", "SameSite=Strict", "Secure"} <= set(sent.split("; "))
    headers = {**TAILNET, "Cookie": sent.partition(";")[0]}
    assert (await site.ask("GET", "/", headers=headers)).json()["caller"] == {
        "audience": "tailnet",
        "login": "cookie",
    }
    assert (await site.ask("POST", "/echo", headers=headers, body=b"x")).status == 200
    foreign = {**headers, "Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "no-cors"}
    assert (await site.ask("POST", "/echo", headers=foreign, body=b"x")).status == 403
    out = await site.ask("POST", "/logout", headers=headers)
    assert "Max-Age=0" in out.headers["Set-Cookie"]
    assert (await site.ask("GET", "/", headers=headers)).status == 401


async def test_a_browser_without_a_login_is_told_how_to_log_in(site: Site) -> None:
    page = await site.ask("GET", "/", headers={**TAILNET, **BROWSER})
    assert page.status == 401
    assert b"homelab-agent web login" in page.body


async def test_guessing_links_ends_soon(site: Site) -> None:
    statuses = [(await site.ask("GET", f"/login?link={number}")).status for number in range(12)]
    assert statuses == [401] * 10 + [429] * 2
    assert (await site.ask("GET", "/api/health")).status == 200


async def events(site: Site, path: str, headers: dict[str, str] | None = None) -> list[dict[str, str]]:
    """Return the fields of each event until the server ends the stream."""
    text = (await site.ask("GET", path, headers=headers)).body.decode()
    blocks = [block for block in text.split("\n\n") if "event: " in block]
    return [dict(line.split(": ", 1) for line in block.splitlines()) for block in blocks]


async def test_a_run_is_started_followed_and_resumed(site: Site, workshop: Workshop) -> None:
    begun = await site.ask("POST", "/api/jobs/work/run", headers=await site.token())
    run_id = begun.json()["run"]
    assert (begun.status, begun.headers["Location"]) == (202, f"/api/runs/{run_id}")
    following = asyncio.ensure_future(events(site, f"/api/runs/{run_id}/events"))
    twice = await site.ask("POST", "/api/jobs/work/run", headers=await site.token())
    assert twice.status == 409
    workshop.go_on.set()
    seen = await asyncio.wait_for(following, 10)
    assert json.loads(seen[-1]["data"])["state"] == "ok"
    last = {"Last-Event-ID": seen[-1]["id"]}
    assert (await site.ask("GET", f"/api/runs/{run_id}/events", headers=last)).status == 204
    resumed = await events(site, f"/api/runs/{run_id}/events", {"Last-Event-ID": seen[0]["id"]})
    assert [event["id"] for event in resumed] == [seen[-1]["id"]]
    assert (await site.ask("GET", f"/api/runs/{run_id}")).json()["detail"] == "worked"
    listed = (await site.ask("GET", "/api/runs?job=work&limit=1")).json()["runs"]
    assert [run["id"] for run in listed] == [run_id]
    jobs = (await site.ask("GET", "/api/jobs")).json()["jobs"]
    assert jobs[0]["last"]["state"] == "ok"


async def test_a_run_can_be_cancelled_once(site: Site) -> None:
    run_id = (await site.local("POST", "/api/jobs/work/run"))["run"]
    assert (await site.ask("POST", f"/api/runs/{run_id}/cancel", unix=True)).status == 202
    seen = await asyncio.wait_for(events(site, f"/api/runs/{run_id}/events"), 20)
    assert json.loads(seen[-1]["data"])["state"] == "cancelled"
    assert (await site.ask("POST", f"/api/runs/{run_id}/cancel", unix=True)).status == 409


async def test_there_is_no_such_run_or_job(site: Site) -> None:
    for method, path in (
        ("GET", "/api/runs/x"),
        ("GET", "/api/runs/x/events"),
        ("POST", "/api/runs/x/cancel"),
        ("POST", "/api/jobs/x/run"),
    ):
        assert (await site.ask(method, path, unix=True)).status == 404
    assert (await site.ask("GET", "/api/runs?limit=0")).status == 400
    assert (await site.ask("GET", "/api/runs?limit=%C2%B2")).status == 400


async def test_the_page_is_told_of_a_change(site: Site) -> None:
    reader, writer = await site.connect()
    writer.write(b"GET /events HTTP/1.1\r\nHost: localhost\r\n\r\n")
    first = await asyncio.wait_for(reader.readuntil(b"</div>"), 5)
    assert b"event: overview" in first
    site.base.health.report("workshop", Finding.failed("burnt down"))
    await asyncio.wait_for(reader.readuntil(b"burnt down"), 5)
    writer.close()


async def test_a_stop_finishes_what_is_under_way_and_ends_streams(site: Site, workshop: Workshop) -> None:
    stream = asyncio.ensure_future(site.ask("GET", "/events"))
    under_way = asyncio.ensure_future(site.ask("GET", "/slow"))
    idle, idle_writer = await site.connect()
    await site.until_connections(3)
    site.task.cancel()
    assert (await asyncio.wait_for(stream, 5)).status == 200
    assert await asyncio.wait_for(idle.read(), 5) == b""
    with pytest.raises(ConnectionRefusedError):
        await site.connect()
    workshop.go_on.set()
    assert (await asyncio.wait_for(under_way, 5)).json() == {"done": True}
    await until(site.task.done, "the server has stopped")
    assert not (site.directory / "agent.sock").exists()
    idle_writer.close()


async def test_nothing_of_aiohttp_is_said_even_to_what_is_not_http(site: Site) -> None:
    for raw in (
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n",
        b"GET / HTTP/9.9\r\n\r\n",
        b"GET /\x00 HTTP/1.1\r\nHost: localhost\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: localhost\r\nX: " + b"x" * 9000 + b"\r\n\r\n",
        b"POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n",
        b"CONNECT x:1 HTTP/1.1\r\nHost: localhost\r\n\r\n",
        b"GET http://evil.example/ HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: localhost\r\nHost: localhost\r\n\r\n",
    ):
        answer = await site.send(raw)
        assert answer.startswith((b"HTTP/1.1 4", b"HTTP/1.0 4")), raw
        assert b"Server:" not in answer
        assert b"aiohttp" not in answer
        assert b"application/problem+json" in answer
