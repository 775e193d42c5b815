"""The stand-in of GitHub's API answers as is documented, and breaks as it says."""

from __future__ import annotations

import http.client
import json
from dataclasses import dataclass, field
from typing import Any

import pytest

from tests.neighbours.git_remote import GitRemote
from tests.neighbours.github import LIMIT, GitHub

UNKNOWN = "1" * 40
CUSTOM = {"resource": "Status", "code": "custom"}


@dataclass(frozen=True, slots=True)
class Answer:
    status: int
    headers: http.client.HTTPMessage
    body: bytes

    def json(self) -> Any:
        return json.loads(self.body)

    def message(self) -> str:
        return str(self.json()["message"])


def ask(
    github: GitHub,
    method: str,
    path: str,
    token: str = "",
    said: object = None,
    *,
    seconds: float = 10,
    agent: str = "t",
) -> Answer:
    """Ask the API; `said` goes as JSON, or as it is when it is bytes."""
    connection = http.client.HTTPConnection("127.0.0.1", github.port, timeout=seconds)
    given = {"User-Agent": agent} | ({"Authorization": f"Bearer {token}"} if token else {})
    body = said if isinstance(said, bytes) else None if said is None else json.dumps(said).encode()
    try:
        connection.request(method, path, body, given)
        answer = connection.getresponse()
        return Answer(answer.status, answer.headers, answer.read())
    finally:
        connection.close()


@dataclass(slots=True)
class Api:
    """A repository at GitHub with one commit, and a token that may set statuses there."""

    github: GitHub
    remote: GitRemote
    sha: str
    token: str = field(init=False)

    def __post_init__(self) -> None:
        self.github.publish(self.remote)
        self.token = self.github.token(self.remote)

    def post(self, said: object, *, sha: str = "", token: str | None = None) -> Answer:
        path = f"/repos/{self.remote.full_name}/statuses/{sha or self.sha}"
        return ask(self.github, "POST", path, self.token if token is None else token, said)

    def combined(self, ref: str = "", *, seconds: float = 10) -> Answer:
        path = f"/repos/{self.remote.full_name}/commits/{ref or self.sha}/status"
        return ask(self.github, "GET", path, self.token, seconds=seconds)


@pytest.fixture
def api(github: GitHub, git_remote: GitRemote) -> Api:
    return Api(github, git_remote, git_remote.commit({"a": "1\n"}))


def test_a_status_is_made_and_told_of_under_its_commit(api: Api) -> None:
    said = {
        "state": "pending",
        "description": "Deploying",
        "target_url": "https://home.example/d/1",
        "context": "gitops",
    }
    made = api.post(said)
    assert made.status == 201
    assert made.json().items() >= said.items()
    assert made.headers["Location"] == made.json()["url"] == f"{api.github.url}/repos/octo/site-1/statuses/{api.sha}"
    assert api.post({"state": "success"}).json()["context"] == "default"
    assert [status["state"] for status in api.github.statuses(api.remote, api.sha)] == ["pending", "success"]
    call = api.github.calls[0]
    assert (call.method, call.status, call.json()) == ("POST", 201, said)
    assert call.headers["authorization"] == f"Bearer {api.token}"


@pytest.mark.parametrize(
    ("said", "field", "message"),
    [
        ({}, "state", "state is not included in the list"),
        ({"state": "skipped"}, "state", "state is not included in the list"),
        (
            {"state": "error", "description": "ü" * 141},
            "description",
            "description is too long (maximum is 140 characters)",
        ),
        ({"state": "error", "target_url": "ftp://host/"}, "target_url", "target_url must use http(s) scheme"),
    ],
)
def test_a_status_that_breaks_a_rule_is_refused_in_either_shape(
    api: Api, said: dict[str, str], field: str, message: str
) -> None:
    refused = api.post(said)
    assert refused.status == 422
    assert refused.json()["errors"] == [{**CUSTOM, "field": field, "message": message}]
    api.github.errors_are_text = True
    assert api.post(said).json()["errors"].startswith("Validation failed: ")
    assert api.github.statuses(api.remote, api.sha) == []


def test_what_is_just_within_the_rules_is_taken(api: Api) -> None:
    for state in ("error", "failure", "pending", "success"):
        assert api.post({"state": state, "description": "ü" * 140, "target_url": "http://host"}).status == 201


def test_what_is_no_status_at_all_is_refused(api: Api) -> None:
    assert (api.post(b"{").status, api.post(b"{").message()) == (400, "Problems parsing JSON")
    assert api.post([]).status == 400
    assert "is not a string" in api.post({"state": "error", "description": 1}).message()
    assert api.post({"state": "error", "context": ""}).json()["errors"][0]["code"] == "missing_field"
    for sha in (UNKNOWN, api.sha[:7], "main"):
        refused = api.post({"state": "error"}, sha=sha)
        assert (refused.status, refused.message()) == (422, f"No commit found for SHA: {sha}")


def test_a_context_of_a_commit_gets_a_thousand_statuses(api: Api) -> None:
    first = api.post({"state": "pending"}).json()
    statuses = api.github.statuses(api.remote, api.sha)
    statuses.extend([first] * 998)
    assert api.post({"state": "pending"}).status == 201
    assert len(statuses) == 1000
    full = api.post({"state": "success", "context": "DEFAULT"})
    assert full.status == 422
    assert full.json()["errors"][0]["message"].endswith("has reached the maximum number of statuses.")
    assert api.post({"state": "success", "context": "other"}).status == 201


def test_the_sum_is_that_of_the_latest_of_each_context(api: Api) -> None:
    assert api.combined().json()["state"] == "pending"
    steps = [
        ("a", "success", "success"),
        ("b", "pending", "pending"),
        ("b", "error", "failure"),
        ("B", "success", "success"),
    ]
    for context, state, whole in steps:
        api.post({"state": state, "context": context})
        assert api.combined("main").json()["state"] == whole
    told = api.combined().json()
    assert (told["sha"], told["total_count"]) == (api.sha, 2)
    assert told["repository"]["id"] == api.remote.repository_id
    assert api.combined("nowhere").status == 404


def test_who_may_not_hears_401_or_403_or_that_there_is_nothing(api: Api) -> None:
    other = api.remote.host.repository()
    api.github.publish(other)

    def heard(token: str) -> tuple[int, str]:
        answer = api.post({"state": "error"}, token=token)
        return answer.status, answer.message()

    assert heard("") == (401, "Requires authentication")
    assert heard("wrong") == (401, "Bad credentials")
    reading = api.github.token(api.remote, may_write=False)
    assert heard(reading) == (403, "Resource not accessible by personal access token")
    assert heard(api.github.token(other)) == (403, "Resource not accessible by personal access token")
    assert heard(api.github.classic_token(may_write=False)) == (404, "Not Found")
    api.github.publish(api.remote, private=True)
    assert heard("") == heard(api.github.token(other)) == (404, "Not Found")
    assert heard(reading)[0] == 403
    assert api.post({"state": "error"}, token=api.github.classic_token()).status == 201
    api.github.revoke(api.token)
    assert heard(api.token) == (401, "Bad credentials")
    path = f"/repos/octo/nowhere/statuses/{api.sha}"
    assert ask(api.github, "POST", path, api.github.classic_token(), {"state": "error"}).status == 404
    assert ask(api.github, "GET", "/zen", agent="").body == b"Request forbidden by administrative rules."


def test_every_answer_counts_and_over_the_limit_there_is_none(api: Api) -> None:
    left = [int(api.combined().headers["X-RateLimit-Remaining"]) for _ in range(2)]
    assert left == [LIMIT - 1, LIMIT - 2]
    api.github.exhaust(seconds=3600)
    over = api.combined()
    assert (over.status, over.headers["X-RateLimit-Remaining"]) == (403, "0")
    assert "API rate limit exceeded" in over.message()
    assert int(over.headers["X-RateLimit-Reset"]) > 0
    api.github.exhaust(seconds=-1)
    assert api.combined().status == 200, "the next hour has begun"


@pytest.mark.parametrize("status", [403, 429])
def test_over_the_secondary_limit_it_says_when_to_come_again_or_not(api: Api, status: int) -> None:
    api.github.throttle(status, retry_after=7, times=2)
    answers = [api.combined() for _ in range(3)]
    assert [(answer.status, answer.headers["Retry-After"]) for answer in answers] == [*[(status, "7")] * 2, (200, None)]
    assert "secondary rate limit" in answers[0].message()
    api.github.throttle(status, retry_after=None)
    assert api.combined().headers["Retry-After"] is None


def test_it_fails_is_slow_and_is_down_until_it_is_mended(api: Api) -> None:
    api.github.fail(503)
    failed = api.combined()
    assert (failed.status, failed.headers["Content-Type"]) == (503, "text/html; charset=utf-8")
    api.github.mend()
    assert api.combined().status == 200
    api.github.slow(100)
    with pytest.raises(TimeoutError):
        api.combined(seconds=0.5)
    api.github.down()
    with pytest.raises(ConnectionRefusedError):
        api.combined()
    api.github.mend()
    api.github.up()
    assert api.combined().status == 200
