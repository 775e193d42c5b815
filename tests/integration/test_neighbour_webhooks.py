"""Webhook deliveries are those of GitHub, Gitea and Forgejo: headers, signatures, and payloads from real history."""

from __future__ import annotations

import hashlib
import hmac
import json
import subprocess
import threading
import urllib.parse
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest

from tests.neighbours import payloads, webhook
from tests.neighbours.git_remote import GitRemote
from tests.neighbours.github import GitHub
from tests.neighbours.payloads import payload
from tests.neighbours.webhook import Sender

SECRET, BODY = "It's a Secret to Everybody", b"Hello, World!"
SIGNATURE = "757107ea0eb2509fc211221cce984b8a37570b6d7586c22c46f4379c8b043e17"
"""https://docs.github.com/en/webhooks/using-webhooks/validating-webhook-deliveries#testing-the-webhook-payload-validation"""

ZEROS = "0" * 40


class Receiving(BaseHTTPRequestHandler):
    """Keeps every request, and answers 202."""

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        assert isinstance(self.server, Receiver)
        self.server.received.append((dict(self.headers), body))
        self.send_response(202)
        self.end_headers()
        self.wfile.write(b"taken")

    def log_message(self, *_: object) -> None:
        """Say nothing."""


class Receiver(HTTPServer):
    """What a webhook sends to."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Receiving)
        self.received: list[tuple[dict[str, str], bytes]] = []

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}/api/webhook/gitops"

    def last(self) -> tuple[dict[str, str], bytes]:
        return self.received[-1]


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with Receiver() as server:
        serving = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
        serving.start()
        yield server
        server.shutdown()
        serving.join()


def test_the_published_vector_is_signed_as_published() -> None:
    assert webhook.sign(SECRET, BODY) == SIGNATURE
    openssl = ["openssl", "dgst", "-sha1", "-hmac", SECRET]
    said = subprocess.run(openssl, input=BODY, capture_output=True, check=True).stdout.decode()
    assert said.split()[-1] == webhook.sign(SECRET, BODY, "sha1")


def test_a_delivery_has_the_headers_of_githubs(github: GitHub, git_remote: GitRemote, receiver: Receiver) -> None:
    hook = github.hook(git_remote, receiver.url, SECRET)
    answer = hook.deliver("issues", payload("issues", of=git_remote))
    assert (answer.status, answer.body) == (202, b"taken")
    headers, body = receiver.last()
    assert headers == {
        "Host": f"127.0.0.1:{receiver.server_port}",
        "User-Agent": headers["User-Agent"],
        "Accept": "*/*",
        "Content-Type": "application/json",
        "Content-Length": str(len(body)),
        "X-GitHub-Delivery": answer.delivery.guid,
        "X-GitHub-Event": "issues",
        "X-GitHub-Hook-ID": str(hook.hook_id),
        "X-GitHub-Hook-Installation-Target-ID": str(git_remote.repository_id),
        "X-GitHub-Hook-Installation-Target-Type": "repository",
        "X-Hub-Signature": f"sha1={webhook.sign(SECRET, body, 'sha1')}",
        "X-Hub-Signature-256": f"sha256={webhook.sign(SECRET, body)}",
    }
    assert headers["User-Agent"].startswith("GitHub-Hookshot/")
    assert len(answer.delivery.guid) == 36
    hook.secret = ""
    hook.deliver("issues", payload("issues"))
    assert not {name for name in receiver.last()[0] if "Signature" in name}


@pytest.mark.parametrize("form", [False, True])
def test_every_example_arrives_whole_and_signed(
    github: GitHub, git_remote: GitRemote, receiver: Receiver, *, form: bool
) -> None:
    hook = github.hook(git_remote, receiver.url, SECRET, form=form)
    examples = [(event, example) for event, found in payloads.examples().items() for example in found]
    assert len(examples) > 300
    for event, example in examples:
        assert hook.deliver(event, example).status == 202
        headers, body = receiver.last()
        text = urllib.parse.parse_qs(body.decode(), strict_parsing=True)["payload"][0] if form else body.decode()
        assert json.loads(text) == example
        assert headers["X-GitHub-Event"] == event
        expected = hmac.digest(SECRET.encode(), body, hashlib.sha256).hex()
        assert headers["X-Hub-Signature-256"] == f"sha256={expected}"
    assert len({headers["X-GitHub-Delivery"] for headers, _ in receiver.received}) == len(examples)


def test_a_redelivery_is_the_same_under_the_same_guid_signed_with_the_secret_of_now(
    github: GitHub, git_remote: GitRemote, receiver: Receiver
) -> None:
    git_remote.commit({"a": "1\n"})
    hook = github.hook(git_remote, receiver.url, SECRET)
    first = hook.push().delivery
    hook.secret = "another"
    hook.redeliver(first)
    (before, body), (after, again) = receiver.received
    assert body == again
    changed = {name for name in before if before[name] != after[name]}
    assert changed == {"X-Hub-Signature", "X-Hub-Signature-256"}
    assert after["X-Hub-Signature-256"] == f"sha256={webhook.sign('another', body)}"


def test_a_ping_tells_of_the_hook_and_its_repository(github: GitHub, git_remote: GitRemote, receiver: Receiver) -> None:
    hook = github.hook(git_remote, receiver.url, SECRET, form=True)
    hook.ping()
    headers, body = receiver.last()
    told = json.loads(urllib.parse.parse_qs(body.decode())["payload"][0])
    assert headers["X-GitHub-Event"] == "ping"
    assert told["hook_id"] == told["hook"]["id"] == hook.hook_id
    assert told["hook"]["config"]["content_type"] == "form"
    assert told["hook"]["config"]["url"] == receiver.url
    assert SECRET not in body.decode()
    assert (told["repository"]["full_name"], told["repository"]["id"]) == ("octo/site-1", git_remote.repository_id)


@pytest.mark.parametrize("sender", ["gitea", "forgejo"])
def test_gitea_and_forgejo_send_their_own_headers_and_githubs(
    github: GitHub, git_remote: GitRemote, receiver: Receiver, sender: Sender
) -> None:
    answer = github.hook(git_remote, receiver.url, SECRET, sender=sender).deliver("push", payload("push"))
    headers, body = receiver.last()
    names = ["Gitea", "Gogs", *(["Forgejo"] if sender == "forgejo" else [])]
    for name in names:
        assert headers[f"X-{name}-Signature"] == webhook.sign(SECRET, body)
        assert headers[f"X-{name}-Event"] == headers["X-GitHub-Event"] == "push"
        assert headers[f"X-{name}-Delivery"] == headers["X-GitHub-Delivery"] == answer.delivery.guid
    assert headers["X-Hub-Signature-256"] == f"sha256={webhook.sign(SECRET, body)}"
    assert ("X-Forgejo-Event" in headers) == (sender == "forgejo")


def test_who_hears_nothing_says_so(github: GitHub, git_remote: GitRemote, receiver: Receiver) -> None:
    hook = github.hook(git_remote, f"http://127.0.0.1:{github.port}/", SECRET)
    github.slow(100)
    with pytest.raises(TimeoutError):
        hook.send(hook.delivery("push", payload("push")), seconds=0.5)
    github.down()
    with pytest.raises(ConnectionRefusedError):
        hook.ping()


def test_a_payload_is_a_copy_of_the_repositorys_own(git_remote: GitRemote) -> None:
    told = payload("pull_request", action="closed", of=git_remote, number=7)
    assert (told["action"], told["number"]) == ("closed", 7)
    assert told["repository"]["full_name"] == "octo/site-1"
    assert told["repository"]["owner"]["login"] == "octo"
    assert told["repository"]["hooks_url"] == "https://api.github.com/repos/octo/site-1/hooks"
    assert told["pull_request"]["base"]["repo"]["full_name"] == "octo/site-1"
    told["repository"].clear()
    assert payload("pull_request", action="closed", nth=1, of=git_remote)["repository"]


def test_a_push_tells_of_the_commits_that_it_has_brought(git_remote: GitRemote) -> None:
    first = git_remote.commit({"a": "1\n", "b": "1\n"})
    created = payloads.push(git_remote)
    assert (created["before"], created["after"], created["created"], created["forced"]) == (ZEROS, first, True, False)
    second = git_remote.commit({"a": "2\n", "b": None}, message="Zwei\n\nÄ")
    third = git_remote.commit({"d/ü": ""})
    told = payloads.push(git_remote, before=first)
    assert (told["ref"], told["repository"]["id"]) == ("refs/heads/main", git_remote.repository_id)
    assert [commit["id"] for commit in told["commits"]] == [second, third]
    assert (told["created"], told["deleted"], told["forced"]) == (False, False, False)
    assert (
        told["commits"][0].items() >= {"added": [], "removed": ["b"], "modified": ["a"], "message": "Zwei\n\nÄ"}.items()
    )
    assert told["head_commit"] == told["commits"][1]
    assert told["head_commit"]["added"] == ["d/ü"]
    assert told["head_commit"]["timestamp"] == "2026-01-01T00:03:00+00:00"


def test_a_push_may_be_forced_or_delete_or_begin_a_branch(git_remote: GitRemote) -> None:
    git_remote.commit({"a": "1\n"})
    before = git_remote.commit({"a": "2\n"})
    after = git_remote.force_push({"a": "3\n"})
    forced = payloads.push(git_remote, before=before)
    assert (forced["forced"], [commit["id"] for commit in forced["commits"]]) == (True, [after])
    git_remote.branch("topic")
    begun = payloads.push(git_remote, ref="refs/heads/topic", before=ZEROS)
    assert (begun["created"], begun["commits"], begun["head_commit"]["id"]) == (True, [], after)
    git_remote.delete_branch("topic")
    deleted = payloads.push(git_remote, ref="refs/heads/topic", before=after)
    assert (deleted["deleted"], deleted["after"], deleted["head_commit"]) == (True, ZEROS, None)
