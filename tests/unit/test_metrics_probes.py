"""Services that are probed, on real ports: a check at once, a row with a sample, and nothing forgotten between two."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from homelab_agent.core.clock import SystemClock
from homelab_agent.core.health import Finding, State
from homelab_agent.metrics import doctor
from homelab_agent.metrics.exposition import Exposition
from homelab_agent.metrics.host import Host, NotAvailable
from homelab_agent.metrics.latest import Latest
from homelab_agent.metrics.probes import Probes, Watch
from homelab_agent.metrics.rows import of_families
from homelab_agent.metrics.sample import Values
from homelab_agent.metrics.settings import MetricsSettings, Probe
from tests.clock import MovableClock, until
from tests.neighbours import certificate
from tests.neighbours.ports import free_port
from tests.pages import serving
from tests.unit.test_metrics_exposition import quality


@dataclass
class House:
    """Probes on a clock of the test's; `reports` are what the checks heard, in order."""

    clock: MovableClock
    probes: Probes
    reports: list[tuple[str, Finding]] = field(default_factory=list)

    async def again(self) -> Finding:
        """Let half a minute pass, and return what was reported then."""
        before = len(self.reports)
        await until(lambda: self.clock.sleepers, "it has asked, and waits")
        await self.clock.advance(30)
        await until(lambda: len(self.reports) > before, "the next answer")
        return self.reports[-1][1]

    def rows(self) -> Sequence[Values]:
        """Return the rows that a sample would have now."""
        return [reading.values for reading in self.probes.collect()["probe"] if reading.news]


@asynccontextmanager
async def house(*probes: Probe) -> AsyncIterator[House]:
    clock = MovableClock()
    reports: list[tuple[str, Finding]] = []
    settings = MetricsSettings(probe=list(probes))
    watching = Probes(Host("here"), settings, clock, lambda name, finding: reports.append((name, finding)))
    task = asyncio.create_task(watching.run())
    try:
        await until(lambda: len(reports) == len(probes), "each was asked once")
        yield House(clock, watching, reports)
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


def probe(target: str, **more: Any) -> Probe:
    return Probe(name="photos", target=target, **more)


async def test_a_service_is_a_check_and_a_row() -> None:
    async with serving(200) as page, house(probe(page.url)) as at:
        assert [check.name for check in at.probes.checks()] == ["metrics.probe.photos"]
        name, finding = at.reports[0]
        assert name == "metrics.probe.photos"
        assert finding.state is State.OK
        assert finding.detail.startswith("it answers 200, in ")
        [row] = at.rows()
        assert (row["up"], row["status"], row["asked"], row["failed"], row["cause"]) == (True, 200, 1, 0, None)


async def test_one_bad_answer_may_be_a_restart_and_two_are_an_outage() -> None:
    async with serving(200, 503, 503, 200) as page, house(probe(page.url)) as at:
        first, second, third = await at.again(), await at.again(), await at.again()
        assert [first.state, second.state, third.state] == [State.DEGRADED, State.FAILED, State.OK]
        assert second.detail == f"{page.url}: it answers 503"
        assert second.repair == f"curl -v {page.url}"


async def test_a_row_counts_all_answers_since_the_one_before() -> None:
    async with serving(200, 503, 503, 200) as page, house(probe(page.url)) as at:
        for _ in range(3):
            await at.again()
        [row] = at.rows()
        assert (row["up"], row["asked"], row["failed"]) == (True, 4, 2)
        assert at.rows() == [], "nobody was asked since"


async def test_what_is_down_says_why() -> None:
    port = free_port()
    async with house(probe(f"127.0.0.1:{port}")) as at:
        [row] = at.rows()
        assert (row["up"], row["answer_s"], row["failed"]) == (False, None, 1)
        assert row["cause"] == "connection refused"
        assert at.reports[0][1].repair == f"nc -vz 127.0.0.1 {port}"


@pytest.mark.parametrize(("days", "state"), [(3, State.OK), (30, State.DEGRADED)])
async def test_a_certificate_that_ends_soon_is_told(tmp_path: Path, days: int, state: State) -> None:
    ca = await asyncio.to_thread(certificate.make, tmp_path)  # it is good for a week
    served = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    await asyncio.to_thread(served.load_cert_chain, tmp_path / "server.pem", tmp_path / "server.key")
    async with serving(200, tls=served) as page:
        watch = Watch(probe(page.url, ca=str(ca), certificate_days=days), Host("here"), SystemClock())
        finding = await watch.ask()
        assert finding.state is state
        assert "its certificate is good until" in finding.detail
        reading = watch.reading()
        assert reading is not None
        assert 6 * 86400 < int(str(reading.values["certificate_s"])) <= 7 * 86400


async def test_a_certificate_file_may_be_put_right_while_it_is_asked(tmp_path: Path) -> None:
    ca = tmp_path / "later.pem"
    served = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    made = await asyncio.to_thread(certificate.make, tmp_path)
    await asyncio.to_thread(served.load_cert_chain, tmp_path / "server.pem", tmp_path / "server.key")
    async with serving(200, tls=served) as page:
        watch = Watch(probe(page.url, ca=str(ca), certificate_days=1), Host("here"), SystemClock())
        finding = await watch.ask()
        assert str(ca) in finding.detail
        await asyncio.to_thread(made.rename, ca)
        assert (await watch.ask()).state is State.OK


async def test_the_doctor_asks_them_without_an_agent(tmp_path: Path) -> None:
    async with serving(200) as page:
        checks = doctor.checks(MetricsSettings(probe=[probe(page.url)]), tmp_path, None)  # type: ignore[arg-type]
        [check] = [one for one in checks if one.name == "metrics.probe.photos"]
        assert check.probe is not None
        assert (await check.probe()).state is State.OK


async def test_one_that_is_asked_seldom_is_shown_between_two_answers_and_is_no_row_again() -> None:
    async with serving(200, 200, 200) as page:
        seldom = Probe(name="disks", target=page.url, every=300)
        async with house(probe(page.url), seldom) as at:
            latest = Latest()
            latest.take(at.probes.collect(), quality(), at.clock.read().monotonic)
            await at.again()
            found = at.probes.collect()
            latest.take(found, quality(), at.clock.read().monotonic)
            assert [row.values["entity_id"] for row in of_families(found, at.clock.read().wall)] == [
                at.probes._watches[0]._entity.id
            ]
            shown = Exposition(latest, lambda: at.clock.read().monotonic + 7).text().decode()
            up = [line for line in shown.splitlines() if line.startswith("probe_success")]
            assert [line.split('"')[1] for line in up] == ["photos", "disks"]
            assert 'homelab_agent_sample_age_seconds{family="probe"} 7.000' in shown
            await at.clock.advance(20)
            latest.take(at.probes.collect(), quality(), at.clock.read().monotonic)
            shown = Exposition(latest, lambda: at.clock.read().monotonic).text().decode()
            assert 'homelab_agent_sample_age_seconds{family="probe"} 20.000' in shown, "nobody was asked since"


async def test_without_probes_there_is_no_such_family() -> None:
    watching = Probes(Host("here"), MetricsSettings(), MovableClock(), lambda _name, _finding: None)
    with pytest.raises(NotAvailable) as caught:
        watching.collect()
    assert str(caught.value) == "The host has no [[metrics.probe]]."


@pytest.mark.parametrize(
    ("fault", "said"),
    [
        ({"target": "ftp://nas/"}, "neither a URL"),
        ({"target": "nas"}, "lacks the port"),
        ({"target": "tls://nas"}, "lacks the port"),
        ({"target": "nas:22", "text": "pong"}, "is for a page"),
        ({"target": "https://"}, "neither a URL"),
        ({"target": "nas:port"}, "lacks the port"),
    ],
)
def test_what_cannot_be_asked_is_a_fault_of_the_configuration(fault: dict[str, str], said: str) -> None:
    with pytest.raises(ValidationError, match=said):
        Probe(name="nas", **fault)


def test_two_of_one_name_are_a_fault() -> None:
    with pytest.raises(ValidationError, match="two probes are called nas"):
        MetricsSettings(probe=[Probe(name="nas", target="nas:22"), Probe(name="nas", target="nas:80")])
