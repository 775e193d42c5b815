"""The page's markup: the templates filled with what an overview says; the templates are read once."""

from __future__ import annotations

from functools import cache, partial
from pathlib import Path
from typing import TYPE_CHECKING

from homelab_agent.core.health import State
from homelab_agent.web.page import assets, chart, words

if TYPE_CHECKING:
    from datetime import datetime, tzinfo

    import jinja2

    from homelab_agent.core.jobs import RunRecord
    from homelab_agent.web.overview import Overview

CONTENT_SECURITY_POLICY = (
    "default-src 'none'; style-src 'self'; script-src 'self'; img-src 'self'; connect-src 'self'; "
    "form-action 'self'; frame-ancestors 'none'; base-uri 'none'"
)
"""What a browser may do on any of these pages: use our own files, events and forms, no more."""

HEADERS = {
    "Content-Security-Policy": CONTENT_SECURITY_POLICY,
    "Referrer-Policy": "same-origin",
    "X-Content-Type-Options": "nosniff",
    "Cache-Control": "no-store",
}
"""Sent with each of these pages. (With "no-referrer", our own forms would come with the Origin "null".)"""

CONTENT_TYPE = "text/html; charset=utf-8"
RELOAD_SECONDS = 30
"""How often a browser without JavaScript asks for the page again."""

_FOLDER = Path(__file__).parent / "templates"


def prepare() -> None:
    """Read and compile everything that the pages need, so that no later call reads a file.

    Blocking (some 100 ms): call it in a thread before the first page; otherwise the first page does it.
    """
    assets.catalogue()
    environment = _environment()
    for name in environment.list_templates():
        environment.get_template(name)


def render(overview: Overview, *, events: str = "/events", logout: str = "", zone: tzinfo | None = None) -> bytes:
    """Return the whole status page.

    `events` is where the browser listens for fragments; `logout` is where the log-out form goes, "" for a
    caller who has no log-in to end. Times are those of `zone`, None for the host's own.
    """
    return _page("status.html.j2", **_view(overview, zone), events=events, logout=logout)


def fragment(overview: Overview, *, zone: tzinfo | None = None) -> str:
    """Return the parts of the status page that change, alike for everyone who looks."""
    return _environment().get_template("fragment.html.j2").render(_view(overview, zone))


def login_page(host: str, *, problem: str = "") -> bytes:
    """Return the page that says how to log in; `problem` is why the last try failed."""
    return _page("login.html.j2", host=host, problem=problem)


def confirm_page(host: str, *, action: str, token: str, days: int = 30) -> bytes:
    """Return the page that a one-time link leads to: its button uses the link up, a mere preview does not.

    The form posts `token` to `action`; the log-in then holds for `days`.
    """
    return _page("confirm.html.j2", host=host, action=action, token=token, days=days)


def error_page(
    host: str, *, status: int, title: str, detail: str = "", repair: str = "", request_id: str = ""
) -> bytes:
    """Return the page of a request that went wrong: the words of the problem+json that a program gets."""
    return _page(
        "error.html.j2",
        host=host,
        status=status,
        title=title,
        detail=detail,
        repair=repair,
        request_id=request_id,
    )


def headline(overview: Overview) -> str:
    """Return the first thing to know, in three words."""
    match len(overview.needs):
        case 0:
            return "All is well" if overview.state is State.OK else "Not all is well"
        case 1:
            return "1 needs you"
        case number:
            return f"{number} need you"


def calm(overview: Overview) -> str:
    """Return the sentences under the headline: is anything left to do, and how many capabilities work."""
    states = [line.state for line in overview.capabilities]
    counts = {
        "working": states.count(State.OK),
        "in trouble": states.count(State.DEGRADED) + states.count(State.FAILED),
        "off": states.count(State.DISABLED) + states.count(State.NOT_AVAILABLE),
    }
    much = ", ".join(f"{count} {how}" for how, count in counts.items() if count)
    sentences = ["" if overview.needs else "Nothing needs you.", f"Capabilities: {much}." if much else ""]
    return " ".join(filter(None, sentences))


def _page(name: str, **context: object) -> bytes:
    return _environment().get_template(name).render(assets=assets.catalogue(), **context).encode()


def _view(overview: Overview, zone: tzinfo | None) -> dict[str, object]:
    now = overview.now
    return {
        "overview": overview,
        "host": overview.host,
        "headline": headline(overview),
        "calm": calm(overview),
        "tone": overview.needs[0].state.value if overview.needs else overview.state.value,
        "icon": assets.catalogue()["favicon-attention.svg" if overview.needs else "favicon.svg"].url,
        "charts": [chart.draw(one, now=now, zone=zone) for one in overview.charts],
        "local": now.astimezone(zone),
        "moment": partial(words.moment, now=now, zone=zone),
        "took": partial(_took, now=now),
        "ago": lambda time: words.duration((now - time).total_seconds()),
        "until": lambda time: words.duration(max(60 * round((time - now).total_seconds() / 60), 60)),
    }


def _took(run: RunRecord, now: datetime) -> str:
    """Return how long a run took, or takes so far; "" for one that has not started."""
    if run.started_at is None:
        return ""
    return words.duration(((run.ended_at or now) - run.started_at).total_seconds())


@cache
def _environment() -> jinja2.Environment:
    import jinja2

    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(_FOLDER),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        auto_reload=False,
    )
    environment.globals.update(
        states=words.STATES,
        run_states=words.RUN_STATES,
        triggers=words.TRIGGERS,
        pieces=words.pieces,
        repair_pieces=words.repair,
        how_far=words.how_far,
        reload_seconds=RELOAD_SECONDS,
    )
    return environment
