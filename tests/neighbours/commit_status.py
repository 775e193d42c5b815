"""What GitHub's API says to who gives a commit a status: which are taken, how others are refused, what they come to.

https://docs.github.com/en/rest/commits/statuses. The texts of errors, and that a description has 140 characters at
most, stand in no documentation: they are what GitHub is seen to answer.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any
from urllib.parse import urlsplit

Status = dict[str, Any]

STATES = ("error", "failure", "pending", "success")
DESCRIPTION_CHARACTERS = 140
OF_ONE_CONTEXT = 1000
"""How many statuses a commit gets in one context."""

_DOCS = "https://docs.github.com/rest"
HERE = f"{_DOCS}/commits/statuses#create-a-commit-status"


class Refused(Exception):
    """An answer that is an error, as JSON."""

    def __init__(self, status: int, message: str, *, errors: Any = None, url: str = _DOCS) -> None:
        super().__init__(message)
        said = {"message": message, "errors": errors, "documentation_url": url, "status": str(status)}
        self.status = status
        self.body = json.dumps({name: value for name, value in said.items() if value})
        self.headers = {"Content-Type": "application/json; charset=utf-8"}

    @classmethod
    def page(cls, status: int, text: str) -> Refused:
        """Return one that is no JSON: it comes from what stands before the API."""
        refused = cls(status, text)
        refused.body, refused.headers = text, {"Content-Type": "text/html; charset=utf-8"}
        return refused


def asked_for(body: bytes) -> Status:
    """Return the status that is asked for, with every field; raises `Refused` where its shape is wrong."""
    try:
        said = json.loads(body)
    except ValueError:
        raise Refused(400, "Problems parsing JSON", url=HERE) from None
    if not isinstance(said, dict):
        raise Refused(400, "Body should be a JSON object", url=HERE)
    wanted: Status = {"state": None, "target_url": None, "description": None, "context": "default"}
    wanted |= {name: value for name, value in said.items() if name in wanted}
    for name, value in wanted.items():
        if not isinstance(value, str | None):
            message = f"Invalid request.\n\nFor 'properties/{name}', {json.dumps(value)} is not a string."
            raise Refused(422, message, url=HERE)
    return wanted


def check(wanted: Status, others: Iterable[Status], *, errors_are_text: bool = False) -> None:
    """Raise `Refused` for a status that a commit with these others does not get."""
    faults = [
        (field, message)
        for field, is_wrong, message in (
            ("state", wanted["state"] not in STATES, "is not included in the list"),
            ("target_url", not _is_web(wanted["target_url"]), "must use http(s) scheme"),
            (
                "description",
                len(wanted["description"] or "") > DESCRIPTION_CHARACTERS,
                f"is too long (maximum is {DESCRIPTION_CHARACTERS} characters)",
            ),
        )
        if is_wrong
    ]
    errors = [_error(field=field, message=f"{field} {message}") for field, message in faults]
    texts = [f"{field.replace('_', ' ').capitalize()} {message}" for field, message in faults]
    if not wanted["context"]:
        errors.append({"resource": "Status", "code": "missing_field", "field": "context"})
        texts.append("Context can't be blank")
    elif sum(_context(other) == _context(wanted) for other in others) >= OF_ONE_CONTEXT:
        errors.append(_error(message="This SHA and context has reached the maximum number of statuses."))
        texts.append("This SHA and context has reached the maximum number of statuses.")
    if errors:
        told = f"Validation failed: {', '.join(texts)}" if errors_are_text else errors
        raise Refused(422, "Validation Failed", errors=told, url=HERE)


def combined(statuses: Iterable[Status]) -> tuple[str, list[Status]]:
    """Return what they come to, and the latest of each context: upper and lower case are the same there."""
    latest = list({_context(status): status for status in statuses}.values())
    states = {status["state"] for status in latest}
    if states & {"error", "failure"}:
        return "failure", latest
    return ("success" if states == {"success"} else "pending"), latest


def _context(status: Status) -> str:
    return str(status["context"]).lower()


def _error(**more: str) -> dict[str, str]:
    return {"resource": "Status", "code": "custom", **more}


def _is_web(address: str | None) -> bool:
    return not address or urlsplit(address).scheme in {"http", "https"}
