"""The page's markup: right for whatever the agent has to say, with nothing in it that the policy refuses."""

from __future__ import annotations

import dataclasses
import re
from collections import Counter
from datetime import timedelta
from html.parser import HTMLParser
from zoneinfo import ZoneInfo

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from homelab_agent.core.capability import Chart, Series
from homelab_agent.core.health import State
from homelab_agent.core.jobs.run import Progress, RunRecord
from homelab_agent.web.overview import Line, Need, Upcoming
from homelab_agent.web.page import assets, render
from tests.overviews import DATABASE, FUNNEL, NOW, TOLD, busy, charts, overview, points, run

VOID = {"meta", "link", "input", "br"}
SHAPES = {"line", "path", "circle", "use"}
HOSTILE = st.text(st.characters(codec="utf-8"), max_size=40) | st.sampled_from([
    "<script>alert(1)</script>",
    "`<b>`",
    '"><img src=x onerror=alert(1)>',
    "' onload='x",
    "{{ 7 * 7 }}",
    "</title></svg></code>",
    "&lt;script&gt;",
    "\N{RIGHT-TO-LEFT OVERRIDE}evil\x00",
    "``` ` `",
])  # fmt: skip


class Page(HTMLParser):
    """Reads a page strictly: each element must be closed in order, each id be there once."""

    def __init__(self, text: str) -> None:
        super().__init__(convert_charrefs=True)
        self.open: list[str] = []
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.text: list[str] = []
        self.feed(text)
        self.close()
        assert self.open == []
        assert not [name for name, count in Counter(self.all("id")).items() if count > 1]

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        assert len({name for name, _ in attrs}) == len(attrs), (tag, attrs)
        self.elements.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        assert tag in SHAPES, f"<{tag}/> is not closed for a browser"
        self.elements.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text.append(data)

    def all(self, attribute: str) -> list[str | None]:
        return [attributes[attribute] for _, attributes in self.elements if attribute in attributes]

    def named(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.elements if name == tag]

    @property
    def words(self) -> str:
        return " ".join("".join(self.text).split())


def whole(page: bytes) -> Page:
    return Page(page.decode())


def letters() -> list[bytes]:
    return [
        render.login_page("atlas", problem="That link was used before."),
        render.confirm_page("atlas", action="/login", token="t0k3n"),
        render.error_page("atlas", status=503, title="Down", detail="why", repair="do `this`", request_id="0193"),
    ]


def test_every_page_is_well_formed_with_its_landmarks() -> None:
    for page in (render.render(overview()), render.render(busy(), logout="/logout"), *letters()):
        assert page.startswith(b"<!doctype html>")
        read = whole(page)
        tags = Counter(tag for tag, _ in read.elements)
        assert tags["header"] == tags["main"] == tags["h1"] == 1
        assert read.named("html")[0]["lang"] == "en"
        assert read.named("a")[0] == {"class": "skip", "href": "#main"}


def test_no_page_has_anything_that_the_policy_refuses() -> None:
    for page in (render.render(busy(), logout="/logout"), render.fragment(busy()).encode(), *letters()):
        read = whole(page)
        assert "style" not in {tag for tag, _ in read.elements}
        assert all(script.get("src") for script in read.named("script"))
        assert not [name for _, each in read.elements for name in each if name == "style" or name[:2] == "on"]
        for reference in (*read.all("src"), *read.all("href"), *read.all("action")):
            assert reference is not None
            assert re.match(r"[/#](?!/)", reference), reference


def test_every_asset_that_a_page_names_is_there_under_that_version() -> None:
    read = whole(render.render(busy()))
    named = [url for url in (*read.all("href"), *read.all("src")) if url and url.startswith(assets.PREFIX)]
    assert len(named) == 3
    for url in named:
        name, _, version = url.removeprefix(assets.PREFIX).partition("?v=")
        asset = assets.find(name)
        assert asset is not None
        assert asset.version == version
        assert "immutable" in asset.headers(version)["Cache-Control"]
        assert asset.headers("older")["Cache-Control"] == "no-cache"
    assert assets.find("../render.py") is None


def test_the_page_leads_with_what_needs_the_operator() -> None:
    said = whole(render.render(busy(), zone=ZoneInfo("Europe/Berlin"))).words
    first, second = said.index("Failed database since 14:43"), said.index("gate.funnel since yesterday 13:23")
    assert said.index("2 need you") < first < said.index("sudo systemctl start postgresql") < second
    assert second < said.index("loki is out for now (paused for backup until 14:40)") < said.index("metrics")
    assert "1 needs you · atlas" in whole(render.render(overview(needs=[DATABASE]))).words


def test_a_server_without_needs_is_calm() -> None:
    soon = Upcoming("backup.nightly", NOW + timedelta(hours=13))
    said = whole(render.render(overview(upcoming=[soon]))).words
    assert "All is well" in said
    assert "Nothing needs you. Capabilities: 1 working, 2 off. Next: backup.nightly in 13 h." in said
    odd = dataclasses.replace(overview(), state=State.DEGRADED)
    assert "All is well" not in whole(render.render(odd)).words


def test_a_capabilitys_own_section_has_its_lines_with_time_and_answer() -> None:
    said = whole(render.render(overview(listings=[TOLD]), zone=ZoneInfo("Europe/Berlin"))).words
    begin = said.index("Told")
    assert begin < said.index("muted by me until") < said.index("moving the house") < said.index("phone: database")
    assert said.index("test of phone") < said.index("yesterday 15:23") < said.index("Connection refused")
    assert 'data-live="listings"' in render.fragment(overview(listings=[TOLD]))
    assert "Nothing yet." in whole(render.render(overview(listings=[dataclasses.replace(TOLD, marks=())]))).words


def test_a_job_that_is_due_is_not_announced_for_the_past() -> None:
    late = Upcoming("backup.nightly", NOW - timedelta(seconds=3))
    assert "Next: backup.nightly." in whole(render.render(overview(upcoming=[late]))).words


def test_every_state_is_a_word_and_a_shape() -> None:
    lines = [Line(f"room-{state.value}", state, "") for state in State]
    read = whole(render.render(overview(capabilities=lines, runs=busy().runs)))
    for word in ("Working", "Degraded", "Failed", "Off", "Not available"):
        assert word in read.words
    for word in ("Running", "Waiting", "Done", "Cancelled", "Interrupted", "Timed out"):
        assert word in read.words
    drawn = {use["href"] for use in read.named("use")}
    assert {f"#icon-{state.value}" for state in State} <= drawn
    assert drawn <= {f"#{symbol['id']}" for symbol in read.named("symbol")}


def test_runs_say_how_far_they_are_and_what_they_wait_for() -> None:
    photos = Progress(2.1e9, 8e9, "bytes", "photos")
    files = Progress(1234, None, "files")
    going = [
        dataclasses.replace(run("backup.nightly", "running", timedelta(seconds=200)), progress=progress)
        for progress in (photos, files)
    ]
    read = whole(render.render(overview(runs=[*going, run("gitops.verify", "waiting", timedelta())])))
    assert "2 GiB of 7.5 GiB, photos" in read.words
    assert "1,234 files" in read.words
    assert "Waits for backup.nightly." in read.words
    assert len(read.named("progress")) == 1


def test_every_chart_is_an_image_with_a_title_and_a_description() -> None:
    for amount in (0, 1, 7, 360):
        read = whole(render.render(overview(charts=charts(amount))))
        images = [svg for svg in read.named("svg") if svg.get("role") == "img"]
        assert len(images) == 4
        ids = set(read.all("id"))
        for number, svg in enumerate(images, 1):
            assert svg["aria-labelledby"] == f"chart-{number}-title chart-{number}-desc"
            assert {f"chart-{number}-title", f"chart-{number}-desc"} <= ids
        assert read.words.count("Now 23 %.") == (1 if amount else 0)


def test_only_what_needs_the_operator_is_read_aloud_as_it_changes() -> None:
    page = render.render(busy()).decode()
    assert page.count("aria-live") == 1
    loud = page[page.index("aria-live") : page.index('data-live="calm"')]
    assert 'data-live="needs"' in loud
    assert "data-live=" not in loud.replace('data-live="needs"', "")


def test_a_fragment_is_the_page_s_live_parts_and_nothing_else() -> None:
    page, part = whole(render.render(busy())), Page(render.fragment(busy()))
    assert part.all("data-live") == page.all("data-live")
    assert part.elements[0][1]["data-version"] == page.all("data-version")[0] == "0.1.0"
    assert {svg["role"] for svg in part.named("svg") if "role" in svg} == {"img"}


def test_what_is_read_aloud_does_not_change_by_time_passing() -> None:
    def loud(text: str) -> str:
        return text[text.index('data-live="needs"') : text.index('data-live="calm"')]

    later = dataclasses.replace(busy(), now=NOW + timedelta(minutes=5))
    assert loud(render.fragment(busy())) == loud(render.fragment(later))


def test_the_page_works_without_javascript() -> None:
    page = render.render(busy()).decode()
    assert '<noscript><meta http-equiv="refresh" content="30"></noscript>' in page
    assert "log out" not in page.lower()
    assert '<form method="post" action="/logout">' in render.render(busy(), logout="/logout").decode()


def test_a_one_time_link_is_used_up_by_a_button() -> None:
    read = whole(render.confirm_page("atlas", action="/login", token='"t'))
    assert read.named("form") == [{"method": "post", "action": "/login"}]
    assert read.named("input") == [{"type": "hidden", "name": "token", "value": '"t'}]
    assert "30 days" in read.words


def test_the_log_in_page_says_what_to_run() -> None:
    assert "homelab-agent web login" in whole(render.login_page("atlas")).words
    assert "role" not in {name for _, each in whole(render.login_page("atlas")).elements for name in each}


@settings(max_examples=60, suppress_health_check=[HealthCheck.too_slow], deadline=None)
@given(st.lists(HOSTILE, min_size=14, max_size=14))
def test_no_text_of_any_field_becomes_markup(texts: list[str]) -> None:
    host, check, detail, repair, name, summary, job, note, why, title, label, now, unit, other = texts
    begun = NOW - timedelta(minutes=1)
    bad = overview(
        host=host,
        needs=[Need(check, State.FAILED, detail, repair, NOW)],
        expected=[Need(check, State.FAILED, detail, repair, NOW)],
        capabilities=[Line(name, State.OK, summary)],
        runs=[
            RunRecord(
                job, job, "command", "running", begun, why, repair, begun, progress=Progress(1, 2, unit, note)
            ),
            RunRecord(job, job, "command", "waiting", begun, waits_for=other),
        ],
        upcoming=[Upcoming(job, NOW)],
        charts=[Chart(title, "bytes", [Series(label, points(float, 9)), Series(other, [])], now)],
    )  # fmt: skip
    read = whole(render.render(bad, events=other, logout=note))
    assert {tag for tag, _ in read.elements} <= {
        tag for tag, _ in whole(render.render(busy(), logout="/logout")).elements
    }
    for text in (host, check, name, title, label):
        assert " ".join(text.split()) in read.words or not text.strip()
    error = whole(render.error_page(host, status=400, title=title, detail=detail, repair=repair, request_id=other))
    assert "script" not in [tag for tag, each in error.elements if "src" not in each]


def contrast(one: str, other: str) -> float:
    """WCAG 2.2's contrast ratio of two colours."""

    def luminance(colour: str) -> float:
        parts = [int(colour[at : at + 2], 16) / 255 for at in (1, 3, 5)]
        red, green, blue = (part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts)
        return 0.2126 * red + 0.7152 * green + 0.0722 * blue

    low, high = sorted((luminance(one), luminance(other)))
    return (high + 0.05) / (low + 0.05)


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_colours_have_the_contrast_of_wcag_aa(scheme: str) -> None:
    asset = assets.find("page.css")
    assert asset is not None
    blocks = re.findall(r":root \{(.*?)\}", asset.body.decode(), re.DOTALL)
    colours = dict(re.findall(r"--([\w-]+): (#\w{6});", blocks[0 if scheme == "light" else 1]))
    for ground in ("ground", "surface", "failed-tint", "degraded-tint"):
        for ink in ("ink", "muted", "accent"):
            assert contrast(colours[ink], colours[ground]) >= 4.5, (ink, ground)
        for shape in ("ok", "degraded", "failed", "idle"):
            assert contrast(colours[shape], colours[ground]) >= 3, (shape, ground)
    for word in ("failed", "degraded"):
        assert contrast(colours[word], colours[f"{word}-tint"]) >= 4.5
        assert contrast(colours[word], colours["surface"]) >= 4.5
    for number in range(1, 5):
        assert contrast(colours[f"series-{number}"], colours["surface"]) >= 3


def test_needs_and_repairs_come_as_they_were_given() -> None:
    read = whole(render.render(overview(needs=[FUNNEL, dataclasses.replace(DATABASE, repair="")])))
    buttons = read.all("data-copy")
    assert buttons == ["repair-1-1"]
    assert "Copy the repair of gate.funnel" in read.words
