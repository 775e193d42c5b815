"""From a request to its receipt: who is refused, what is remembered, who is woken."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from prometheus_client import CollectorRegistry

from homelab_agent.core.clock import SystemClock
from homelab_agent.core.foundation import Foundation
from homelab_agent.core.http import Audience, Caller, HttpError
from homelab_agent.gitops.allowance import SMALL_BODY, Crowded
from homelab_agent.gitops.delivery import Verdict
from homelab_agent.gitops.inbox import GuidTaken, NoSuchDelivery
from homelab_agent.gitops.receiver import NotKept, Unlabelled
from homelab_agent.gitops.verifier import (
    LengthMissing,
    NotFromThere,
    NotJsonType,
    SignatureRefused,
    TooManyRefused,
)
from tests import hooks, payloads
from tests.clock import MovableClock, until
from tests.fixtures.disk import Closable
from tests.hooks import Hooks, Sent, sent

MIB = 1024 * 1024


@pytest.fixture
def clock() -> MovableClock:
    return MovableClock()


@pytest.fixture
async def base(tmp_path: Path, clock: MovableClock) -> AsyncIterator[Foundation]:
    async with hooks.foundation(tmp_path / "state", clock) as opened:
        yield opened


@pytest.fixture
def secret(tmp_path: Path) -> dict[str, Any]:
    return hooks.secret_in(tmp_path)


@pytest.fixture
def hook(base: Foundation, secret: dict[str, Any]) -> Hooks:
    return hooks.assemble(base, hooks.settings(hooks.repository(secrets=[secret])))


def again(base: Foundation, *repositories: dict[str, Any], **more: Any) -> Hooks:
    """Return what a new start of the agent puts together, with another configuration."""
    return hooks.assemble(replace(base, registry=CollectorRegistry()), hooks.settings(*repositories, **more))


def counted(base: Foundation, outcome: str) -> float:
    return base.registry.get_sample_value("homelab_agent_gitops_deliveries_total", {"outcome": outcome}) or 0.0


def tampered(request: Sent) -> Sent:
    request.body += b" "
    return request


async def test_a_signed_push_is_open_and_somebody_is_woken(hook: Hooks, base: Foundation) -> None:
    push = payloads.push()
    receipt = await hook.receiver.receive(sent("push", push, guid="72d3162e-cc78-11e3-81ab-4c9367dc0958"))
    assert (receipt.guid, receipt.repository) == ("72d3162e-cc78-11e3-81ab-4c9367dc0958", "homelab")
    assert (receipt.status, receipt.attempt) == ("open", 1)
    assert hook.woken == ["homelab"]
    (attempt,) = await hook.inbox.open_attempts("homelab")
    assert (attempt.ref, attempt.after, attempt.event) == ("refs/heads/main", push["after"], "push")
    record = await hook.inbox.get(receipt.guid)
    assert (record.key_name, record.source) == ("main", hooks.SOURCE)
    assert counted(base, "accepted") == 1


async def test_what_is_kept_of_the_headers_is_no_signature(hook: Hooks) -> None:
    request = sent("push", payloads.push())
    more = {"X-Gitea-Signature": "s", "X-Forgejo-Signature": "s", "X-Gitea-Event": "push", "Authorization": "Bearer x"}
    request.headers = {**request.headers, **more}
    receipt = await hook.receiver.receive(Sent(request.headers, request.body))
    headers, body = await hook.inbox.content(receipt.guid)
    assert body == request.body
    assert set(headers) == {
        "User-Agent",
        "Content-Type",
        "X-GitHub-Delivery",
        "X-GitHub-Event",
        "X-GitHub-Hook-ID",
        "X-Gitea-Event",
    }


async def test_nothing_of_a_body_is_read_for_a_signature_of_the_wrong_form(hook: Hooks) -> None:
    for header in ("", "sha1=" + "0" * 40, "sha256=" + "F" * 64):
        request = sent("push", payloads.push())
        request.headers["X-Hub-Signature-256"] = header  # type: ignore[index]
        with pytest.raises(SignatureRefused):
            await hook.receiver.receive(request)
        assert request.read == 0


async def test_what_is_no_json_by_its_type_is_refused_with_what_to_choose_at_the_forge(hook: Hooks) -> None:
    for kind in ("application/x-www-form-urlencoded", "text/plain", "", "multipart/form-data; boundary=x"):
        request = sent("push", payloads.push())
        request.headers["Content-Type"] = kind  # type: ignore[index]
        with pytest.raises(NotJsonType) as caught:
            await hook.receiver.receive(request)
        assert caught.value.status == 415
        assert "content type application/json" in caught.value.repair
        assert ("form" in caught.value.cause) == ("form" in kind)
        assert request.read == 0
    request = sent("push", payloads.push())
    request.headers["Content-Type"] = "Application/JSON; charset=utf-8"  # type: ignore[index]
    assert (await hook.receiver.receive(request)).status == "open"


async def test_a_body_of_unknown_length_is_not_waited_for(hook: Hooks) -> None:
    request = sent("push", payloads.push())
    request.declared = None
    with pytest.raises(LengthMissing) as caught:
        await hook.receiver.receive(request)
    assert caught.value.status == 411


async def test_a_changed_body_another_secret_and_no_secret_sound_alike(
    hook: Hooks, base: Foundation, secret: dict[str, Any]
) -> None:
    requests = [
        tampered(sent("push", payloads.push())),
        sent("push", payloads.push(), secret="guess"),
        Sent({**payloads.headers("push", b"{}"), "X-Hub-Signature-256": ""}, b"{}"),
    ]
    told = set()
    for request in requests:
        with pytest.raises(SignatureRefused) as caught:
            await hook.receiver.receive(request)
        told.add((caught.value.status, str(caught.value)))
    with pytest.raises(SignatureRefused) as caught:
        await again(base, hooks.repository()).receiver.receive(sent("push", payloads.push()))
    told.add((caught.value.status, str(caught.value)))
    assert told == {(401, "The signature is not one that is accepted here.")}
    assert hook.woken == []
    assert await hook.inbox.newest(9) == []


async def test_where_no_secret_is_configured_the_signature_of_an_empty_one_opens_nothing(base: Foundation) -> None:
    hook = hooks.assemble(base, hooks.settings(hooks.repository()))
    with pytest.raises(SignatureRefused):
        await hook.receiver.receive(sent("push", payloads.push(), secret=""))
    assert "every delivery is refused" in (await hook.verifier.probe()).detail


async def test_the_operator_hears_why_the_last_one_was_refused(hook: Hooks) -> None:
    assert "refused" not in (await hook.verifier.probe()).detail
    with pytest.raises(SignatureRefused):
        await hook.receiver.receive(tampered(sent("push", payloads.push())))
    detail = (await hook.verifier.probe()).detail
    assert f"deliveries refused: 1, the last at 2026-11-24 12:00 UTC from {hooks.SOURCE}" in detail
    assert "a signature that fits no secret" in detail


async def test_of_several_secrets_it_is_known_which_one_it_was_and_an_old_one_ends(
    base: Foundation, clock: MovableClock, tmp_path: Path
) -> None:
    last_day = clock.read().wall.date() + timedelta(days=1)
    pair = [hooks.secret_in(tmp_path, "one", name="new"),
            hooks.secret_in(tmp_path, "two", name="old", expires=last_day)]  # fmt: skip
    hook = hooks.assemble(base, hooks.settings(hooks.repository(secrets=pair)))
    for value, name in (("one", "new"), ("two", "old")):
        receipt = await hook.receiver.receive(sent("push", payloads.push(), secret=value))
        assert (await hook.inbox.get(receipt.guid)).key_name == name
    clock.step(86400)
    assert (await hook.receiver.receive(sent("push", payloads.push(), secret="two"))).status == "open"
    clock.step(86400)
    with pytest.raises(SignatureRefused) as caught:
        await hook.receiver.receive(sent("push", payloads.push(), secret="two"))
    assert str(caught.value) == "The signature is not one that is accepted here."
    assert "the secret old of homelab, which has expired" in (await hook.verifier.probe()).detail
    assert (await hook.receiver.receive(sent("push", payloads.push(), secret="one"))).status == "open"


async def test_a_new_secret_counts_for_the_first_delivery_that_is_signed_with_it(hook: Hooks, tmp_path: Path) -> None:
    assert (await hook.receiver.receive(sent("push", payloads.push()))).status == "open"
    hooks.secret_in(tmp_path, "a new one")
    assert (await hook.receiver.receive(sent("push", payloads.push(), secret="a new one"))).status == "open"
    assert (await hook.receiver.receive(sent("push", payloads.push()))).status == "open", "the old one overlaps"


async def test_a_signature_of_one_repository_is_none_of_another(base: Foundation, tmp_path: Path) -> None:
    second = {"full_name": "octo/second", "id": 7}
    hook = hooks.assemble(
        base,
        hooks.settings(
            hooks.repository(secrets=[hooks.secret_in(tmp_path, "one", name="one")]),
            hooks.repository("second", secrets=[hooks.secret_in(tmp_path, "two", name="two")], **second),
        ),
    )
    push = payloads.push(full_name="octo/second", number=7)
    receipt = await hook.receiver.receive(sent("push", push, secret="one"))
    assert (receipt.status, receipt.repository) == ("ignored", "")
    assert "signed with the secret of another repository" in receipt.detail
    assert hook.woken == []
    assert (await hook.receiver.receive(sent("push", {**push, "x": 1}, secret="two"))).repository == "second"
    assert hook.woken == ["second"]


async def test_only_the_networks_that_are_allowed_may_send(base: Foundation, secret: dict[str, Any]) -> None:
    settings = hooks.settings(hooks.repository(secrets=[secret]), networks=["192.30.252.0/22", "2a0a:a440::/29"])
    hook = hooks.assemble(base, settings)
    for address, is_allowed in (
        ("192.30.252.1", True),
        ("2a0a:a440::1", True),
        ("198.51.100.7", False),
        ("127.0.0.1", False),
        ("::1", False),
    ):
        request = sent("push", payloads.push(), caller=Caller(Audience.PUBLIC, address))
        if is_allowed:
            assert (await hook.receiver.receive(request)).status == "open"
        else:
            with pytest.raises(NotFromThere):
                await hook.receiver.receive(request)
            assert request.read == 0
    local = sent("ping", payloads.ping(), caller=Caller(Audience.LOCAL, "unix", login="socket"))
    assert (await hook.receiver.receive(local)).status == "pong"


async def test_who_is_refused_too_often_hears_so_and_still_cannot_keep_a_push_out(
    hook: Hooks, clock: MovableClock, base: Foundation
) -> None:
    errors: list[HttpError] = []
    for _ in range(40):
        with pytest.raises(HttpError) as caught:
            await hook.receiver.receive(tampered(sent("push", payloads.push())))
        errors.append(caught.value)
    assert [type(error) for error in errors] == [SignatureRefused] * 30 + [TooManyRefused] * 10
    assert (errors[-1].status, errors[-1].retry_after) == (429, 3)
    assert (await hook.receiver.receive(sent("push", payloads.push()))).status == "open"
    large = payloads.push(padding="x" * SMALL_BODY)
    request = sent("push", large)
    with pytest.raises(TooManyRefused):
        await hook.receiver.receive(request)
    assert request.read == 0
    elsewhere = sent("push", large, caller=Caller(Audience.PUBLIC, "192.0.2.9"))
    assert (await hook.receiver.receive(elsewhere)).status == "open"
    await clock.advance(60)
    assert (await hook.receiver.receive(sent("push", payloads.push(padding="x" * SMALL_BODY)))).status == "open"
    assert (counted(base, "refused"), counted(base, "throttled"), counted(base, "accepted")) == (30, 11, 3)


async def test_bodies_that_are_not_verified_are_bounded_together_and_a_push_gets_through(hook: Hooks) -> None:
    go_on = asyncio.Event()

    class Slow(Sent):
        async def chunks(self) -> AsyncIterator[bytes]:
            async for chunk in super().chunks():
                yield chunk
            await go_on.wait()

    def large() -> Slow:
        body = b"x" * (20 * MIB)
        return Slow(payloads.headers("push", body, secret="guess"), body, piece=MIB)

    held = large()
    first = asyncio.ensure_future(hook.receiver.receive(held))
    await until(lambda: held.read == len(held.body), "the first one is held")
    request = large()
    with pytest.raises(Crowded) as caught:
        await hook.receiver.receive(request)
    assert caught.value.status == 503
    assert caught.value.retry_after > 0
    assert request.read <= 14 * MIB
    assert (await hook.receiver.receive(sent("push", payloads.push()))).status == "open"
    go_on.set()
    with pytest.raises(SignatureRefused):
        await first
    with pytest.raises(SignatureRefused):
        await hook.receiver.receive(large())


async def test_a_large_push_is_taken_like_a_small_one(hook: Hooks) -> None:
    commits = [{"id": payloads.sha(str(number)), "message": "m" * 2000} for number in range(2048)]
    request = sent("push", payloads.push(commits=commits), piece=2 * MIB)
    assert len(request.body) > 4 * MIB
    receipt = await hook.receiver.receive(request)
    assert receipt.status == "open"
    assert (await hook.inbox.content(receipt.guid))[1] == request.body


async def test_a_signed_delivery_without_a_name_is_refused(hook: Hooks) -> None:
    for header, values in {
        "X-GitHub-Delivery": ["", "short", "x" * 65, "12345678\n", "../../etc/passwd", "a b c d e f"],
        "X-GitHub-Event": ["", "PUSH", "push\n", "push event", "x" * 65, "-push"],
    }.items():
        for value in values:
            request = sent("push", payloads.push())
            request.headers[header] = value  # type: ignore[index]
            with pytest.raises(Unlabelled) as caught:
                await hook.receiver.receive(request)
            assert caught.value.status == 400


async def test_gitea_and_forgejo_may_name_a_delivery_in_their_own_headers(hook: Hooks) -> None:
    for forge in ("Gitea", "Forgejo"):
        request = sent("push", payloads.push())
        headers = {name.replace("GitHub", forge): value for name, value in request.headers.items()}
        assert (await hook.receiver.receive(Sent(headers, request.body))).status == "open"


async def test_a_redelivery_runs_again_only_if_it_failed(hook: Hooks, base: Foundation) -> None:
    push = payloads.push()
    for verdict, attempt, status, wakes in (
        (None, 1, "open", 1),
        (None, 1, "open", 2),
        (Verdict("dirty", "a.yml was edited"), 2, "open", 3),
        (Verdict("ok", "moved"), 2, "ok", 3),
    ):
        if verdict is not None:
            await hook.inbox.close([(one, verdict) for one in await hook.inbox.open_attempts("homelab")])
        receipt = await hook.receiver.receive(sent("push", push, guid="the-same-guid"))
        assert (receipt.attempt, receipt.status, len(hook.woken)) == (attempt, status, wakes)
    assert (counted(base, "accepted"), counted(base, "known")) == (2, 2)
    with pytest.raises(GuidTaken) as caught:
        await hook.receiver.receive(sent("push", payloads.push(), guid="the-same-guid"))
    assert caught.value.status == 409
    assert (await hook.receiver.receive(sent("push", push, guid="another-guid"))).status == "duplicate"


async def test_a_repositorys_number_is_learned_once_and_kept(base: Foundation, secret: dict[str, Any]) -> None:
    section = hooks.repository(secrets=[secret], id=0)
    hook = hooks.assemble(base, hooks.settings(section))
    assert (await hook.receiver.receive(sent("ping", payloads.ping()))).status == "pong"
    assert (await hook.receiver.receive(sent("push", payloads.push()))).status == "open"
    for begun in (hook, again(base, section)):
        stranger = await begun.receiver.receive(sent("push", payloads.push(number=666)))
        assert stranger.status == "ignored"
        assert "666" in stranger.detail
    told = again(base, {**section, "id": 666})
    assert (await told.receiver.receive(sent("push", payloads.push(number=666)))).status == "open"
    moved = again(base, {**section, "full_name": "octo/renamed"})
    push = payloads.push(full_name="octo/renamed", number=777)
    assert (await moved.receiver.receive(sent("push", push))).status == "open"


async def test_a_replay_is_judged_by_the_configuration_of_today(base: Foundation, secret: dict[str, Any]) -> None:
    section = hooks.repository(secrets=[secret])
    before = hooks.assemble(base, hooks.settings({**section, "branch": "next"}))
    receipt = await before.receiver.receive(sent("push", payloads.push()))
    assert receipt.status == "ignored"
    assert (await before.receiver.replay(receipt.guid)).status == "ignored"
    assert before.woken == []
    after = again(base, section)
    replayed = await after.receiver.replay(receipt.guid)
    assert (replayed.status, replayed.attempt, after.woken) == ("open", 3, ["homelab"])
    with pytest.raises(NoSuchDelivery):
        await after.receiver.replay("never-seen")


async def test_a_replay_is_for_whom_it_was_signed_and_for_nobody_else(base: Foundation, tmp_path: Path) -> None:
    mirror = hooks.repository("mirror", secrets=[hooks.secret_in(tmp_path, "two", name="two")])
    second = {**mirror, "name": "second", "full_name": "octo/second", "id": 7}
    site = hooks.repository(secrets=[hooks.secret_in(tmp_path, "one", name="one")])
    hook = hooks.assemble(base, hooks.settings(site, mirror, second))
    for value, name in (("one", "homelab"), ("two", "mirror")):
        receipt = await hook.receiver.receive(sent("push", payloads.push(), secret=value))
        assert (await hook.inbox.get(receipt.guid)).signers[0] == name
        await hook.inbox.close([(one, Verdict("ok")) for one in await hook.inbox.open_attempts(name)])
        assert (await hook.receiver.replay(receipt.guid)).repository == name
    stranger = await hook.receiver.receive(sent("push", payloads.push(full_name="octo/second", number=7), secret="one"))
    replayed = await hook.receiver.replay(stranger.guid)
    assert (replayed.status, replayed.attempt, replayed.detail) == ("ignored", 2, stranger.detail)
    assert hook.woken == ["homelab", "homelab", "mirror", "mirror"]


async def test_who_signed_a_redelivery_has_signed_the_delivery_too(base: Foundation, tmp_path: Path) -> None:
    site = hooks.repository(secrets=[hooks.secret_in(tmp_path, "one", name="one")])
    other = hooks.repository("other", secrets=[hooks.secret_in(tmp_path, "two", name="two")], full_name="octo/other")
    hook = hooks.assemble(base, hooks.settings(site, other))
    push = payloads.push()
    assert (await hook.receiver.receive(sent("push", push, secret="two", guid="the-same-guid"))).status == "ignored"
    assert (await hook.receiver.receive(sent("push", push, secret="one", guid="the-same-guid"))).status == "open"
    assert (await hook.inbox.get("the-same-guid")).signers == ("homelab", "other")
    await hook.inbox.close([(one, Verdict("ok")) for one in await hook.inbox.open_attempts("homelab")])
    assert (await hook.receiver.replay("the-same-guid")).repository == "homelab"


async def test_a_disk_that_takes_nothing_accepts_nothing_and_says_when_to_come_again(
    closable: Closable, tmp_path: Path
) -> None:
    closable.read_only()
    async with hooks.foundation(closable.point, SystemClock()) as base:
        section = hooks.repository(secrets=[hooks.secret_in(tmp_path)])
        hook = hooks.assemble(base, hooks.settings(section))
        request = sent("push", payloads.push())
        with pytest.raises(NotKept) as caught:
            await hook.receiver.receive(request)
        assert (caught.value.status, caught.value.retry_after) == (503, 60)
        assert str(closable.point) not in str(caught.value)
        assert hook.woken == []
        assert counted(base, "unavailable") == 1
        closable.read_write()
        assert (await hook.receiver.receive(request)).status == "open"
        assert hook.woken == ["homelab"]


@pytest.mark.parametrize("turns", range(12))
async def test_a_sender_that_is_gone_leaves_nothing_committed_that_nobody_is_woken_for(hook: Hooks, turns: int) -> None:
    receiving = asyncio.ensure_future(hook.receiver.receive(sent("push", payloads.push())))
    for _ in range(turns):
        await asyncio.sleep(0)
    receiving.cancel()
    await asyncio.gather(receiving, return_exceptions=True)
    await until(lambda: not hook.receiver._unfinished, "what had begun is done")
    assert len(await hook.inbox.open_attempts("homelab")) == len(hook.woken)


async def test_two_hundred_pushes_at_once_are_all_there(hook: Hooks) -> None:
    receipts = await asyncio.gather(*(hook.receiver.receive(sent("push", payloads.push())) for _ in range(200)))
    assert {receipt.status for receipt in receipts} == {"open"}
    assert len(await hook.inbox.open_attempts("homelab")) == 200
    assert hook.woken == ["homelab"] * 200
