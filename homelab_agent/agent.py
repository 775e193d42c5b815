"""The composition root: opens the foundation, builds each room on it, and hands their tasks to the supervisor."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from datetime import timedelta
from pathlib import Path

from prometheus_client import CollectorRegistry

from homelab_agent import capabilities, config, places, reconfiguring, reloading
from homelab_agent.config import references
from homelab_agent.core import findings, health, jobs, journal, systemd, telling
from homelab_agent.core.capability import Capability, Task
from homelab_agent.core.clock import SystemClock
from homelab_agent.core.errors import Exit
from homelab_agent.core.foundation import Foundation
from homelab_agent.core.jobs import schedule
from homelab_agent.core.journal.redaction import Redactor
from homelab_agent.core.lock import DirectoryLock
from homelab_agent.core.privilege import Privileged
from homelab_agent.core.secret import Secrets
from homelab_agent.core.spool import Spool
from homelab_agent.core.state import State
from homelab_agent.core.supervisor import Supervisor
from homelab_agent.core.supervisor.looplag import LoopLag
from homelab_agent.core.supervisor.watchdog import Watchdog
from homelab_agent.database import service as database_service
from homelab_agent.database.database import Database
from homelab_agent.privileged import service as privileged_service
from homelab_agent.privileged.client import Client as RootHalf
from homelab_agent.secrets import openbao
from homelab_agent.secrets import service as secrets_service
from homelab_agent.web import service as web_service
from homelab_agent.web import sockets

STARTING = timedelta(seconds=30)
ROOMS = (*capabilities.NAMES, "secrets", "web")
SCHEMAS = [file for room in ROOMS if (file := Path(__file__).parent / room / "schema/state.sql").exists()]


def run(
    loaded: config.Loaded[config.Settings],
    log: journal.Journal,
    redactor: Redactor,
    on_ready: Callable[[], None],
) -> Exit:
    """Run the agent until it is told to stop; return the exit code.

    Raises what keeps it from starting: `StateDirectoryBusy`, `PortTaken`. `on_ready` is called in a thread of its
    own once requests are answered. `redactor` is told every secret, `log` masks them.
    """
    settings = loaded.settings
    directory = places.state_directory(settings.agent)
    with DirectoryLock(directory):
        listeners = sockets.listen(settings.web.listen, directory, systemd.inherited_sockets().values())
        lag = LoopLag(SystemClock())
        with asyncio.Runner(loop_factory=lag.new_loop) as runner:
            return runner.run(_live(loaded, directory, listeners, log, redactor, lag, on_ready))


async def _live(
    loaded: config.Loaded[config.Settings],
    directory: Path,
    listeners: sockets.Listeners,
    log: journal.Journal,
    redactor: Redactor,
    lag: LoopLag,
    on_ready: Callable[[], None],
) -> Exit:
    settings = loaded.settings
    clock = SystemClock()
    secrets = Secrets(redactor, clock, uses=references.uses(settings))
    half = RootHalf(directory, places.command(loaded.path), withheld=secrets.variables)
    bao = openbao.add(settings.secrets, secrets, directory, clock)
    async with _foundation(settings, directory, secrets, redactor, half, listeners.loopback_port()) as base:
        configuration = reconfiguring.Configuration(loaded.path)
        ground = [secrets_service.build(bao, base), database_service.build(settings.database, base, configuration)]
        if any(capabilities.has_room(name, "verbs") for name, _ in settings.enabled()):
            ground.append(privileged_service.build(base))
        rooms = [*ground]
        for name, section in settings.enabled():
            rooms.append(capabilities.import_room(name, "service").build(section, base))
        reload = reloading.Reloading(loaded, rooms, log)
        configuration.on_adopted = reload.adopted
        web = web_service.build(settings.web, base, rooms, listeners=listeners, reload=reload)
        rooms.append(web)
        _introduce(base, rooms, lag)
        supervisor = Supervisor(base.health, base.clock, shutdown_deadline=settings.agent.shutdown_deadline)
        with reload.on_hangup():
            return await supervisor.run(
                _tasks(base, ground, rooms[len(ground) :], lag),
                lambda: _ready(base, on_ready),
                lambda: _stopping(base),
            )


@asynccontextmanager
async def _foundation(
    settings: config.Settings,
    directory: Path,
    secrets: Secrets,
    redactor: Redactor,
    privileged: Privileged,
    port: int | None,
) -> AsyncIterator[Foundation]:
    """Open what every room stands on; closing it puts on disk what is still in memory."""
    host = places.host(settings.agent)
    clock = SystemClock()
    state = await State.open(directory, SCHEMAS, clock=clock)
    bounds = settings.agent
    spool = Spool(state, clock, host=host, max_bytes=bounds.spool_max_bytes, max_age=bounds.spool_max_age)
    try:
        yield Foundation(
            host=host,
            directory=directory,
            clock=clock,
            state=state,
            spool=spool,
            health=health.Health(clock),
            jobs=jobs.Jobs(state, spool, clock, host=host, timezone=await asyncio.to_thread(schedule.local_timezone)),
            database=Database(settings.database, secrets, directory=directory, clock=clock),
            registry=CollectorRegistry(),
            privileged=privileged,
            secrets=secrets,
            redactor=redactor,
            port=port,
        )
    finally:
        await spool.close()
        await state.close()


def _introduce(base: Foundation, rooms: Sequence[Capability], lag: LoopLag) -> None:
    """Make every room's jobs and checks known; what cannot wait for a probe is reported at once."""
    base.health.add([*base.state.checks(), *base.spool.checks(), *lag.checks()])
    base.state.on_change = lambda found: base.health.report("state", found)
    lag.on_late = lambda found: base.health.report("event_loop", found)
    for room in rooms:
        base.jobs.add(room.jobs)
        base.health.add(room.checks)
    base.health.add(base.jobs.checks())
    # What needs a moment to come up alarms nobody; what blocks something is never excused.
    starting = [check.name for room in rooms for check in room.checks if not check.blocks]
    base.health.expect(starting, "the agent is starting", base.clock.read().wall + STARTING)


def _tasks(base: Foundation, ground: Sequence[Capability], rooms: Sequence[Capability], lag: LoopLag) -> Sequence[Task]:
    """Return all tasks in the order in which they start; they stop in reverse: the web server first.

    Jobs stand on the rooms of the `ground`, and stop before them; the last of the other `rooms` is the web's.
    """
    *others, web = rooms
    lag.register(base.registry)
    watching = [
        Task("health", base.health.run, critical=True),
        Task("telling", lambda: telling.run(base.health, base.clock)),
        Task("findings", lambda: findings.run(base.health, base.spool, base.clock, base.host)),
    ]
    if limit := systemd.watchdog_interval():
        truth = lambda: base.health.ready("watchdog")  # noqa: E731 - a name for what is asked
        watchdog = Watchdog(base.clock, limit=limit, lag=lag, pulses=[base.jobs.pulse], truth=truth)
        watching.append(Task("watchdog", watchdog.run, critical=True))
    return [
        Task("spool", base.spool.run, critical=True),
        *(task for room in ground for task in room.tasks),
        Task("jobs", base.jobs.run, critical=True),
        *(task for room in others for task in room.tasks),
        *watching,
        *web.tasks,
    ]


async def _ready(base: Foundation, on_ready: Callable[[], None]) -> None:
    """Say that requests are answered, once they are; it takes no neighbour."""
    while (await base.health.probe("web")).finding.state is not health.State.OK:
        await base.clock.sleep(0.02)
    gc.collect()
    gc.freeze()  # what is there now stays: the collector need not look at it again and again
    await systemd.tell_surely(READY=1)
    journal.logger("agent").info("agent.ready", state=str(base.directory))
    await asyncio.to_thread(on_ready)


async def _stopping(base: Foundation) -> None:
    """Let nobody in from the internet any more, before anything else stops."""
    base.door.bar()
    await telling.stopping(base.health)
