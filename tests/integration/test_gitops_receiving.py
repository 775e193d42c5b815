"""The webhook over real connections: who gets in, what it costs to keep the others out, and what a kill leaves."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import random
import signal
import subprocess
import sys
import threading
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import pytest

from homelab_agent.core.capability import Capability
from homelab_agent.core.door import PUBLIC_PATH as PATH
from homelab_agent.core.foundation import Foundation
from homelab_agent.gitops import event as events
from homelab_agent.gitops.delivery import Verdict
from homelab_agent.gitops.event import Other, Ping, PullRequest, Push
from homelab_agent.web.settings import WebSettings
from tests import hooks, payloads
from tests.clock import MovableClock, until
from tests.hooks import Hooks
from tests.neighbours import payloads as examples
from tests.neighbours.disk import Disks
from tests.website import FUNNEL, HOST, TAILNET, Answer, Site, serving

SEED = int(os.environ.get("SEED", "20261128"))
DEADLINE = 0.6
MIB = 1024 * 1024


@dataclass(slots=True)
class Receiving:
    """A site that receives webhooks of `octo/homelab` from the public side."""

    site: Site
    hook: Hooks

    async def post(self, headers: Mapping[str, str], body: bytes, *, through: Mapping[str, str] = FUNNEL) -> Answer:
        return await self.site.ask("POST", PATH, headers={**through, **headers}, body=body)

    async def deliver(self, name: str, payload: payloads.Payload, *, secret: str = payloads.SECRET, guid: str = "",
                      through: Mapping[str, str] = FUNNEL) -> Answer:  # fmt: skip
        body = payloads.encode(payload)
        return await self.post(payloads.headers(name, body, secret=secret, guid=guid), body, through=through)

    async def recorded(self) -> list[str]:
        return [record.guid for record in await self.hook.inbox.newest(10_000)]


@contextlib.asynccontextmanager
async def receiving(directory: Path, *repositories: dict[str, Any], **more: Any) -> AsyncIterator[Receiving]:
    made: list[Hooks] = []

    def build(base: Foundation) -> Capability:
        made.append(hooks.assemble(base, hooks.settings(*repositories, **more)))
        return made[0].capability()

    settings = WebSettings(listen="127.0.0.1:0", hosts=[HOST], receive_deadline=DEADLINE)
    async with serving(directory, [build], settings=settings) as site:
        site.base.door.open()
        yield Receiving(site, made[0])


@pytest.fixture
async def public(tmp_path: Path) -> AsyncIterator[Receiving]:
    section = hooks.repository(secrets=[hooks.secret_in(tmp_path)])
    async with receiving(tmp_path / "state", section) as opened:
        yield opened


def head(headers: Mapping[str, str], *, length: int) -> bytes:
    """Return the head of a request from the public side; its body is still to come."""
    lines = "".join(f"{name}: {value}\r\n" for name, value in {**FUNNEL, **headers}.items())
    return f"POST {PATH} HTTP/1.1\r\n{lines}Content-Length: {length}\r\n\r\n".encode()


async def test_a_push_from_the_public_side_is_accepted_and_told_of(public: Receiving) -> None:
    push = payloads.push()
    answer = await public.deliver("push", push, guid="72d3162e-cc78-11e3-81ab-4c9367dc0958")
    assert answer.status == 202
    assert answer.json() == {
        "delivery": "72d3162e-cc78-11e3-81ab-4c9367dc0958",
        "repository": "homelab",
        "attempt": 1,
        "status": "open",
        "detail": "",
    }
    assert public.hook.woken == ["homelab"]
    (attempt,) = await public.hook.inbox.open_attempts("homelab")
    assert attempt.after == push["after"]
    record = await public.hook.inbox.get(attempt.guid)
    assert record.source == FUNNEL["X-Forwarded-For"]


async def test_the_vector_that_github_publishes_is_a_good_signature_of_what_is_no_json(public: Receiving) -> None:
    headers = payloads.headers("push", b"Hello, World!")
    assert headers["X-Hub-Signature-256"].endswith("757107ea0eb2509fc211221cce984b8a37570b6d7586c22c46f4379c8b043e17")
    answer = await public.post(headers, b"Hello, World!")
    assert (answer.status, answer.json()["type"]) == (400, "urn:homelab-agent:problem:not-json")
    assert (await public.post(headers, b"Hello, World?")).status == 401


async def test_a_ping_is_verified_and_then_told_what_the_hook_lacks(public: Receiving) -> None:
    body = payloads.encode(payloads.ping())
    unsigned = payloads.headers("ping", body)
    del unsigned["X-Hub-Signature-256"]
    assert (await public.post(unsigned, body)).status == 401
    assert (await public.deliver("ping", payloads.ping(), secret="guess")).status == 401
    assert await public.recorded() == []
    pong = await public.deliver("ping", payloads.ping())
    assert (pong.status, pong.json()["status"]) == (200, "pong")
    assert pong.json()["detail"] == "the hook is set up as it should be"
    lacking = await public.deliver("ping", payloads.ping(events=("issues",), insecure_ssl="1"))
    assert "choose the event push" in lacking.json()["detail"]
    assert "enable SSL verification" in lacking.json()["detail"]
    assert public.hook.woken == []


async def test_what_is_not_for_us_is_taken_and_ignored_with_the_reason(public: Receiving) -> None:
    for name, payload, reason in (
        ("push", payloads.push(ref="refs/heads/topic"), "refs/heads/topic was pushed"),
        ("push", payloads.push(ref="refs/tags/v1"), "refs/tags/v1 was pushed"),
        ("push", payloads.deletion(), "was deleted"),
        ("push", payloads.push(full_name="octo/other"), "octo/other is not in the configuration"),
        ("push", payloads.push(number=1), "has the id 1"),
        ("pull_request", payloads.pull_request(merged=False), "closed without being merged"),
        ("pull_request", payloads.pull_request(action="opened", merged=False), "opened, not closed"),
        ("issues", {"action": "opened", "repository": payloads.repository()}, "issues is not acted upon"),
        ("ping", payloads.push(after=payloads.sha("x")), "its body is not that of one"),
        ("push", {}, "its body is not that of one"),
    ):
        answer = await public.deliver(name, payload)
        assert (answer.status, answer.json()["status"]) == (202, "ignored"), answer
        assert reason in answer.json()["detail"]
    assert public.hook.woken == []
    assert (await public.deliver("pull_request", payloads.pull_request())).json()["status"] == "open"
    assert public.hook.woken == ["homelab"]


async def test_a_hook_that_sends_forms_is_told_what_to_choose(public: Receiving) -> None:
    body = b"payload=%7B%7D"
    headers = {**payloads.headers("push", body), "Content-Type": "application/x-www-form-urlencoded"}
    answer = await public.post(headers, body)
    assert answer.status == 415
    assert answer.json()["repair"] == "in the hook's settings at the forge, choose the content type application/json"


async def test_a_redelivery_is_answered_with_what_became_of_it(public: Receiving) -> None:
    push, guid = payloads.push(), "0b989ba4-242f-11e5-81e1-c7b6966d2516"
    inbox = public.hook.inbox

    async def end(word: Any) -> None:
        await inbox.close([(one, Verdict(word, "said so")) for one in await inbox.open_attempts("homelab")])

    seen = []
    for word in (None, None, "fetch_failed", "ok", None):
        if word:
            await end(word)
        answer = await public.deliver("push", push, guid=guid)
        assert answer.status == 202
        seen.append((answer.json()["attempt"], answer.json()["status"]))
    assert seen == [(1, "open"), (1, "open"), (2, "open"), (2, "ok"), (2, "ok")]
    assert (await public.deliver("push", push)).json()["status"] == "duplicate"
    assert (await public.deliver("push", payloads.push(), guid=guid)).status == 409


async def test_without_a_secret_everyone_is_refused(tmp_path: Path) -> None:
    async with receiving(tmp_path, hooks.repository()) as closed:
        for secret in ("", payloads.SECRET, "development"):
            assert (await closed.deliver("push", payloads.push(), secret=secret)).status == 401
        assert await closed.recorded() == []


async def test_the_reason_of_a_refusal_is_told_to_nobody_outside(public: Receiving) -> None:
    body = payloads.encode(payloads.push())
    good = payloads.headers("push", body)
    told = set()
    for value in (None, "", "sha256=", good["X-Hub-Signature-256"].upper(), "sha256=" + "0" * 64):
        headers = {**good, "X-Hub-Signature-256": value} if value is not None else dict(good)
        if value is None:
            del headers["X-Hub-Signature-256"]
        answer = await public.post(headers, body)
        problem = answer.json()
        del problem["request_id"]
        told.add((answer.status, json.dumps(problem)))
    assert len(told) == 1


async def test_a_nuisance_is_told_to_wait_and_a_push_from_there_gets_through(public: Receiving) -> None:
    statuses = [(await public.deliver("push", payloads.push(), secret="guess")).status for _ in range(35)]
    assert statuses == [401] * 30 + [429] * 5
    throttled = await public.deliver("push", payloads.push(), secret="guess")
    assert 1 <= int(throttled.headers["Retry-After"]) <= 3
    assert (await public.deliver("push", payloads.push())).status == 202
    elsewhere = {**FUNNEL, "X-Forwarded-For": "203.0.113.5"}
    assert (await public.deliver("push", payloads.push(), secret="guess", through=elsewhere)).status == 401


async def test_from_the_tailnet_and_from_here_the_signature_counts_as_well(public: Receiving) -> None:
    here = {"Host": "127.0.0.1"}
    for through in (TAILNET, here):
        assert (await public.deliver("push", payloads.push(), through=through)).status == 202
        assert (await public.deliver("push", payloads.push(), secret="guess", through=through)).status == 401
    token = await public.site.token()
    assert (await public.deliver("push", payloads.push(), secret="guess", through={**here, **token})).status == 401


async def test_what_became_of_the_deliveries_is_for_the_operator_only(public: Receiving) -> None:
    push = payloads.push()
    guid = (await public.deliver("push", push)).json()["delivery"]
    await public.deliver("push", payloads.push(ref="refs/heads/topic"))
    listed = (await public.site.local("GET", "/api/gitops/deliveries?limit=1"))["deliveries"]
    assert [(one["ref"], one["attempts"][0]["verdict"]) for one in listed] == [("refs/heads/topic", "ignored")]
    of_one = await public.site.local("GET", "/api/gitops/deliveries?repository=homelab")
    assert len(of_one["deliveries"]) == 2
    assert (await public.site.local("GET", "/api/gitops/deliveries?repository=nobody"))["deliveries"] == []
    one = await public.site.local("GET", f"/api/gitops/deliveries/{guid}")
    assert (one["guid"], one["key_name"], one["after_sha"]) == (guid, "main", push["after"])
    assert one["headers"]["X-GitHub-Hook-ID"] == "1"
    assert one["received_at"].endswith("Z")
    whole = await public.site.ask("GET", f"/api/gitops/deliveries/{guid}/payload", unix=True)
    assert whole.json() == push
    for path in ("", f"/{guid}", f"/{guid}/payload"):
        assert (await public.site.ask("GET", f"/api/gitops/deliveries{path}", headers=FUNNEL)).status == 404
        assert (await public.site.ask("GET", f"/api/gitops/deliveries{path}", headers=TAILNET)).status == 401
    assert (await public.site.ask("GET", "/api/gitops/deliveries/never-seen", unix=True)).status == 404
    assert (await public.site.ask("GET", "/api/gitops/deliveries?limit=0", unix=True)).status == 400


# What strangers cost.


async def pour(site: Site, begin: bytes, piece: bytes, size: int) -> tuple[bytes, int]:
    """Send `begin` and so many bytes, unless the server closes before; return what it said, and the peak of RSS."""
    reader, writer = await site.connect()
    process, peak = psutil.Process(), 0
    writer.write(begin)
    listening = asyncio.ensure_future(reader.read())
    with contextlib.suppress(ConnectionError):
        for _ in range(size // len(piece)):
            if listening.done():
                break
            writer.write(piece)
            await asyncio.wait_for(writer.drain(), 20)
            peak = max(peak, int(process.memory_info().rss))
            await asyncio.sleep(0)
    try:
        return await asyncio.wait_for(listening, 20), peak
    except ConnectionError:
        return b"", peak
    finally:
        writer.close()


async def test_two_hundred_megabytes_of_a_stranger_are_refused_and_cost_no_memory(public: Receiving) -> None:
    forged = payloads.headers("push", b"", secret="guess")
    size, piece = 200 * MIB, bytes(64 * 1024)
    chunk = b"%x\r\n%b\r\n" % (len(piece), piece)
    lines = "".join(f"{name}: {value}\r\n" for name, value in {**FUNNEL, **forged}.items())
    chunked = f"POST {PATH} HTTP/1.1\r\n{lines}Transfer-Encoding: chunked\r\n\r\n".encode()
    unsigned = {name: value for name, value in forged.items() if not name.startswith("X-Hub")}
    await pour(public.site, head(unsigned, length=MIB), piece, MIB)
    before = psutil.Process().memory_info().rss
    for begin, part, status in (
        (head(forged, length=size), piece, b"413"),
        (head(unsigned, length=size), piece, b"413"),
        (head(unsigned, length=25 * MIB), piece, b"401"),
        (chunked, chunk, b"411"),
    ):
        answer, peak = await pour(public.site, begin, part, size)
        assert answer.startswith(b"HTTP/1.1 " + status) or not answer, answer[:100]
        assert peak - before < 12 * MIB, (status, peak - before)
    assert await public.recorded() == []
    assert (await public.deliver("push", payloads.push())).status == 202


async def test_a_declared_size_over_the_bound_is_refused_before_any_of_it_is_sent(public: Receiving) -> None:
    answer = await public.site.send(head(payloads.headers("push", b""), length=200 * MIB))
    assert answer.startswith(b"HTTP/1.1 413 ")
    assert b"application/problem+json" in answer


async def test_forged_bodies_of_the_largest_size_are_given_back(public: Receiving) -> None:
    forged = payloads.headers("push", b"", secret="guess")
    resident = []
    for _ in range(4):
        answer, peak = await pour(public.site, head(forged, length=25 * MIB), bytes(64 * 1024), 25 * MIB)
        assert answer.startswith(b"HTTP/1.1 401 ")
        resident.append(psutil.Process().memory_info().rss)
        assert peak - resident[0] < 40 * MIB
    assert resident[-1] - resident[0] < 12 * MIB


async def drip(site: Site, begin: bytes, drop: bytes) -> bytes:
    """Send `begin`, then `drop` again and again until the server cuts that; return what it said."""
    reader, writer = await site.connect()
    writer.write(begin)
    listening = asyncio.ensure_future(reader.read())
    async with asyncio.timeout(20):
        while not listening.done():
            writer.write(drop)
            await asyncio.wait({listening}, timeout=0.05)
    writer.close()
    return b"" if listening.exception() else listening.result()


async def test_a_head_that_drips_is_cut(public: Receiving) -> None:
    lines = "".join(f"{name}: {value}\r\n" for name, value in FUNNEL.items())
    answer = await drip(public.site, f"POST {PATH} HTTP/1.1\r\n{lines}".encode(), b"X-Drop: x\r\n")
    assert b"HTTP/1.1 2" not in answer
    assert (await public.deliver("push", payloads.push())).status == 202


async def test_a_body_that_drips_is_cut_and_others_are_served_meanwhile(public: Receiving) -> None:
    body = payloads.encode(payloads.push())
    dripping = asyncio.ensure_future(drip(public.site, head(payloads.headers("push", body), length=len(body)), b"x"))
    assert (await public.deliver("push", payloads.push())).status == 202
    answer = await dripping
    assert answer.startswith(b"HTTP/1.1 408 ")
    assert len(await public.recorded()) == 1


# Whatever is sent.


class Forger:
    """Makes deliveries up that are not signed, the same for the same seed."""

    def __init__(self) -> None:
        self._dice = random.Random(SEED)
        self._whole = [payloads.push(), payloads.ping(), payloads.pull_request(), payloads.deletion()]

    def request(self) -> bytes:
        dice = self._dice
        name, body = dice.choice(["push", "ping", "pull_request", "x"]), self._body()
        headers = list(payloads.headers(name, body, secret="guess").items())
        headers = [(name, self._value(value)) for name, value in headers if dice.random() > 0.1]
        if dice.random() < 0.3:
            digits = "".join(dice.choices("0123456789abcdefABCDEF", k=dice.choice([0, 40, 63, 64, 65, 128])))
            headers.append(("X-Hub-Signature-256", dice.choice(["sha256=", "sha1=", "SHA256=", ""]) + digits))
        more = [
            ("Expect", "100-continue"),
            ("Content-Encoding", "gzip"),
            ("X_Hub_Signature_256", "x"),
            ("Accept", "*/*"),
        ]
        headers += [dice.choice(more), ("Connection", "close"), ("Host", HOST)]
        headers.append(("X-Forwarded-For", f"198.51.{dice.randrange(256)}.{dice.randrange(256)}"))
        if dice.random() < 0.95:
            length = len(body) if dice.random() < 0.9 else dice.choice([0, len(body) + 1, 26_214_401, 10**12])
            headers.append(("Content-Length", str(length)))
        lines = [f"POST {PATH} HTTP/1.1", *(f"{name}: {value}" for name, value in headers)]
        return "\r\n".join([*lines, "", ""]).encode("latin-1", "replace") + body

    def _value(self, value: str) -> str:
        match self._dice.randrange(12):
            case 0:
                return value[: self._dice.randrange(len(value) + 1)]
            case 1:
                return value + self._dice.choice(["\xff", " ", "\t", ";", "%00", "\x7f"])
            case 2:
                return value.swapcase()
            case _:
                return value

    def _body(self) -> bytes:
        dice = self._dice
        body = bytearray(payloads.encode(dice.choice(self._whole)))
        for _ in range(dice.randrange(4)):
            body[dice.randrange(len(body))] = dice.randrange(256)
        return bytes(body[: dice.randrange(len(body))]) if dice.random() < 0.2 else bytes(body)


async def test_hundreds_of_forged_deliveries_are_refused_and_nothing_else_happens(public: Receiving) -> None:
    print(f"SEED={SEED}")
    forger, seen = Forger(), set()

    async def worker() -> None:
        for _ in range(40):
            raw = forger.request()
            answer = await public.site.send(raw)
            status = answer.removeprefix(b"HTTP/1.1 100 Continue\r\n\r\n")[9:12]
            assert status[:1] == b"4" or not answer, (answer, raw)
            seen.add(status)

    await asyncio.gather(*(worker() for _ in range(16)))
    assert {b"400", b"401", b"408", b"413", b"415"} <= seen
    assert await public.recorded() == []
    assert public.hook.woken == []


async def test_every_signed_body_has_an_answer_that_is_no_accident(public: Receiving) -> None:
    print(f"SEED={SEED}")
    dice = random.Random(SEED)
    whole = {"push": payloads.push(), "ping": payloads.ping(), "pull_request": payloads.pull_request(), "x": {}}
    junk: list[Any] = [None, True, -1, 2**70, 1.5, "", "x" * 5000, "\x00\u202e", [], {}, [[[]]], {"id": 1}, "\ud800"]
    for _ in range(400):
        name = dice.choice(list(whole))
        payload = json.loads(json.dumps(whole[name]))
        for _ in range(dice.randrange(3)):
            place = payload
            while place and dice.random() < 0.7 and isinstance(inner := dice.choice(list(place.values())), dict):
                place = inner
            if place:
                place[dice.choice(list(place))] = dice.choice(junk)
        body = json.dumps(payload).encode()
        answer = await public.post(payloads.headers(name, body), body)
        assert answer.status in {200, 202}, (answer, body)


# GitHub's own examples.


def test_every_example_of_github_is_understood() -> None:
    kinds: dict[str, set[str]] = {}
    for name, found in examples.examples().items():
        for payload in found:
            event = events.understand(name, json.dumps(payload).encode())
            assert event.origin is not None or not payload.get("repository"), name
            kinds.setdefault(name, set()).add(type(event).__name__)
    assert kinds["push"] == {Push.__name__}
    assert kinds["ping"] == {Ping.__name__}
    assert kinds["pull_request"] == {PullRequest.__name__}
    assert all(kind == {Other.__name__} for name, kind in kinds.items() if name not in {"push", "ping", "pull_request"})


async def test_githubs_examples_are_answered_as_deliveries(public: Receiving) -> None:
    statuses = set()
    for name in ("push", "ping", "pull_request", "release", "workflow_run", "create", "delete"):
        for payload in examples.examples()[name]:
            answer = await public.deliver(name, payload)
            assert answer.status in {200, 202}, answer
            statuses.add(answer.json()["status"])
    assert statuses <= {"ignored", "duplicate"}
    assert public.hook.woken == []


# What a door does that is shut meanwhile.


@contextlib.asynccontextmanager
async def posting(public: Receiving, body: bytes) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    """Send the head of a push from the public side, and its body but for the last byte."""
    reader, writer = await public.site.connect()
    writer.write(head(payloads.headers("push", body, guid="shut-meanwhile"), length=len(body)) + body[:-1])
    try:
        yield reader, writer
    finally:
        writer.close()


async def cut(reader: asyncio.StreamReader) -> bool:
    """Return whether a connection ends without an answer."""
    with contextlib.suppress(ConnectionError):
        return await asyncio.wait_for(reader.read(), 10) == b""
    return True


async def taken_once(public: Receiving, body: bytes) -> bool:
    """Send the push again, through a door that is open again; return whether it is taken, or was, and once."""
    public.site.base.door.open()
    again = await public.post(payloads.headers("push", body, guid="shut-meanwhile"), body)
    attempts = await public.hook.inbox.open_attempts("homelab")
    return again.status == 202 and [(one.guid, one.number) for one in attempts] == [("shut-meanwhile", 1)]


async def test_a_push_that_is_being_committed_when_the_door_is_shut_is_neither_lost_nor_taken_twice(
    public: Receiving,
) -> None:
    body = payloads.encode(payloads.push())
    await public.deliver("push", payloads.push(ref="refs/heads/topic"), guid="the-first")  # who it is is written, too
    disk = threading.Event()
    held = asyncio.ensure_future(public.site.base.state.write(lambda _connection: disk.wait(20)))
    async with posting(public, body) as (reader, writer):
        writer.write(body[-1:])
        await until(lambda: public.hook.receiver._unfinished, "it is being committed")
        public.site.base.door.shut()
        assert await cut(reader)
    assert await public.recorded() == ["the-first"]
    disk.set()
    assert await held
    await until(lambda: public.hook.woken == ["homelab"], "it is committed")
    assert await taken_once(public, body)


async def test_a_push_that_is_committed_and_not_answered_when_the_door_is_shut_is_known(public: Receiving) -> None:
    body = payloads.encode(payloads.push())
    once = iter([public.site.base.door.shut])
    public.hook.receiver._wake = lambda _repository: next(once, lambda: None)()
    async with posting(public, body) as (reader, writer):
        writer.write(body[-1:])
        assert await cut(reader)
    assert await public.recorded() == ["shut-meanwhile"]
    assert await taken_once(public, body)


async def test_a_push_whose_end_had_not_come_when_the_door_is_shut_was_never_there(public: Receiving) -> None:
    body = payloads.encode(payloads.push())
    share = public.hook.verifier._budget._small
    free = share.left
    async with posting(public, body) as (reader, _):
        await until(lambda: share.left < free, "its body is read")
        public.site.base.door.shut()
        assert await cut(reader)
    await until(lambda: share.left == free, "it is given up")
    assert await public.recorded() == []
    assert await taken_once(public, body)


# What a disk and a kill do.


async def test_a_full_disk_accepts_nothing_says_when_to_come_again_and_is_over_by_itself(
    disk: Disks, tmp_path: Path
) -> None:
    small = disk(megabytes=4)
    section = hooks.repository(secrets=[hooks.secret_in(tmp_path)])
    async with receiving(small.point, section) as public:
        small.fill()
        noise = random.Random(1).randbytes(200_000).hex()
        for _ in range(3):
            answer = await public.deliver("push", payloads.push(padding=noise))
            assert (answer.status, answer.headers["Retry-After"]) == (503, "60")
            assert str(small.point).encode() not in answer.body
        assert await public.recorded() == []
        assert public.hook.woken == []
        small.free()
        assert (await public.deliver("push", payloads.push())).status == 202
        assert len(await public.recorded()) == 1


CHILD = """
import asyncio, os, signal, sys
from pathlib import Path
from tests import hooks
from tests.website import serving

def die(_repository):
    os.kill(os.getpid(), signal.SIGKILL)

async def main(directory):
    section = hooks.settings(hooks.repository(secrets=[hooks.secret_in(directory)]))
    made = lambda base: hooks.assemble(base, section, wake=die).capability()
    async with serving(directory / "state", [made]) as site:
        site.base.door.open()
        print(site.port, flush=True)
        await asyncio.sleep(60)

asyncio.run(main(Path(sys.argv[1])))
"""


def test_killed_between_the_commit_and_the_answer_it_has_the_delivery(tmp_path: Path) -> None:
    argv = [sys.executable, "-c", CHILD, str(tmp_path)]
    sent = payloads.encode(payloads.push())
    with subprocess.Popen(argv, stdout=subprocess.PIPE, text=True, cwd=Path(__file__).parents[2]) as child:
        assert child.stdout is not None
        port = int(child.stdout.readline())
        headers = {**FUNNEL, **payloads.headers("push", sent, guid="killed-in-between")}
        with pytest.raises((ConnectionError, OSError)):
            _post(port, headers, sent)
        assert child.wait(20) == -signal.SIGKILL
    asyncio.run(_see_what_a_kill_left(tmp_path / "state", sent))


def _post(port: int, headers: Mapping[str, str], body: bytes) -> bytes:
    import http.client

    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=20)
    try:
        connection.putrequest("POST", PATH, skip_host=True)
        for name, value in {**headers, "Content-Length": str(len(body))}.items():
            connection.putheader(name, value)
        connection.endheaders(body)
        return connection.getresponse().read()
    finally:
        connection.close()


async def _see_what_a_kill_left(directory: Path, sent: bytes) -> None:
    async with hooks.foundation(directory, MovableClock()) as base:
        hook = hooks.assemble(base, hooks.settings())
        assert base.state.lost == ""
        assert await hook.inbox.waiting() == ["homelab"]
        (attempt,) = await hook.inbox.open_attempts("homelab")
        assert (attempt.guid, attempt.number) == ("killed-in-between", 1)
        assert (await hook.inbox.content(attempt.guid))[1] == sent
