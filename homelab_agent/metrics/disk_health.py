"""How disks say that they are: a check, and the family `smart`; asked of the root half every few hours."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Mapping
from typing import cast

from homelab_agent.core import journal
from homelab_agent.core.clock import Clock, about
from homelab_agent.core.errors import AgentError
from homelab_agent.core.health import Check, Finding, State
from homelab_agent.core.privilege import Privileged
from homelab_agent.metrics import block, smart
from homelab_agent.metrics.host import Host, NotAvailable
from homelab_agent.metrics.sample import Families, Reading, Values
from homelab_agent.metrics.settings import MetricsSettings
from homelab_agent.metrics.smart import Said
from homelab_agent.metrics.standing import Standing

CHECK = "metrics.disks"
AGAIN_SECONDS = 300.0
"""How long after the root half was not there it is asked again."""
WORN_PCT = 90
_DEADLINE_SECONDS = 600.0
COLUMNS = (
    "asleep", "model", "passed", "warnings", "celsius", "powered_s", "power_cycles", "wear_pct", "spare_pct",
    "read_bytes", "written_bytes", "reallocated", "pending", "uncorrectable", "crc_errors",
)  # fmt: skip
_WARNINGS = (
    "little spare is left", "it is too warm or too cold", "it is unreliable", "it is read-only now",
    "its memory has lost power", "its persistent memory region is unreliable",
)  # fmt: skip
"""Critical Warning, bit by bit (NVM Express Base Specification, SMART / Health Information Log)."""

log = journal.logger("metrics")


class DiskHealth:
    """Asks, and keeps what each disk said last while it was awake; a `Collector`."""

    name = "smart"
    slow = True
    patience = 1.0

    def __init__(
        self,
        host: Host,
        settings: MetricsSettings,
        clock: Clock,
        privileged: Privileged,
        report: Callable[[str, Finding], None],
    ) -> None:
        self._host = host
        self._settings = settings
        self._clock = clock
        self._privileged = privileged
        self._report = report
        self._known: dict[str, tuple[str, Said]] = {}
        """By key: the kernel's name, and what was said while it was awake."""
        self._told: Finding | None = None
        self._standing = Standing()
        self._is_silent = True

    def check(self) -> Check:
        """Return the check, which hears of each answer at once."""
        return Check(CHECK)

    def adopt(self, settings: MetricsSettings) -> None:
        """Take new settings."""
        self._settings = settings

    async def run(self) -> None:
        """Ask, until cancelled."""
        while True:
            try:
                answer = await self._privileged.call(smart.VERB, deadline=_DEADLINE_SECONDS)
            except AgentError as error:
                self._report(CHECK, Finding.degraded(str(error), error.repair))
                pause = AGAIN_SECONDS
            else:
                await self._take(answer)
                pause = float(self._settings.disk_health_interval)
            await self._clock.sleep(about(self._clock.read(), pause))

    def collect(self) -> Families:
        """Return what was said last; raises `NotAvailable` where no disk says anything."""
        if self._is_silent:
            raise NotAvailable(what="disk that says how it is")
        return {"smart": self._standing.tell()}

    async def _take(self, answer: Mapping[str, object]) -> None:
        said = cast("Mapping[str, Said]", answer["disks"])
        keys = await asyncio.to_thread(block.keys, self._host, said, self._settings)
        telling = {key: (name, said[name]) for name, key in keys.items() if "cause" not in said[name]}
        readings = []
        for key, (name, one) in telling.items():
            values: Values = {"device": name, **{column: one.get(column) for column in COLUMNS}}
            readings.append(Reading(self._host.entities.get("smart", key), values))
        self._standing.set(readings, self._clock.read().monotonic)
        # A disk that sleeps is as it was when it was awake.
        awake = {key: one for key, one in telling.items() if not one[1]["asleep"]}
        self._known = {key: one for key, one in (self._known | awake).items() if key in telling}
        self._is_silent = not telling
        if answer["installed"]:
            finding = judged(self._known, asleep=len(telling) - len(awake), silent=len(said) - len(telling))
        else:
            finding = Finding(State.NOT_AVAILABLE, str(smart.NoSmartctl()), smart.NoSmartctl.repair)
        if finding != self._told:
            tell = log.warning if finding.state in {State.FAILED, State.DEGRADED} else log.info
            tell("metrics.disk_health", detail=finding.detail)
            self._told = finding
        self._report(CHECK, finding)


def judged(known: Mapping[str, tuple[str, Said]], *, asleep: int, silent: int) -> Finding:
    """Return what is to be said of all disks together: the worst first, every repair; kernel names are told.

    `known` is by key; one that was ailing and fails is news, too.
    """
    failing, ailing, repairs, about = [], [], [], list[str]()
    well = 0
    for key, (name, one) in known.items():
        what = f"{name} ({one['model']})" if one.get("model") else name
        troubles = list(_troubles(one))
        if one["passed"] is False:
            failing.append(f"{what} says that it fails" + "".join(f", {trouble}" for trouble in troubles))
            about.append(f"{key} fails")
        elif troubles:
            ailing.append(f"{what}: {', '.join(troubles)}")
        else:
            well += 1
            continue
        about.append(key)
        repairs.append(f"sudo smartctl -x /dev/{name}")
    if failing or ailing:
        repair = "; ".join([*repairs, "have a proven backup (homelab-agent backup status), then replace it"])
        finding = Finding.failed if failing else Finding.degraded
        return finding("; ".join([*failing, *ailing]), repair, about=about)
    parts = [f"{well} well"] if well else []
    parts += [f"{asleep} asleep, and left so"] if asleep else []
    parts += [f"{silent} that cannot be asked"] if silent else []
    if not well and not asleep:
        return Finding(State.NOT_AVAILABLE, "no disk here says how it is")
    return Finding.ok(f"disks: {', '.join(parts)}")


def _troubles(one: Said) -> Iterable[str]:
    """Yield in words what a disk says of itself that is no good."""
    bits = one.get("warnings")
    if isinstance(bits, int) and bits:
        yield " and ".join(word for bit, word in enumerate(_WARNINGS) if bits >> bit & 1) or f"warning {bits:#x}"
    if pending := one.get("pending"):
        yield f"{pending} sectors cannot be read"
    if uncorrectable := one.get("uncorrectable"):
        yield f"{uncorrectable} errors that it could not correct"
    wear = one.get("wear_pct")
    if isinstance(wear, int | float) and wear >= WORN_PCT:
        yield f"{wear:.0f} % of what it was made for is used up"
