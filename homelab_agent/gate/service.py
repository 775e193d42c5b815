"""The capability `gate`: the doors that are configured, each with its keeper."""

from __future__ import annotations

from homelab_agent.core.capability import Capability, Task
from homelab_agent.core.errors import AgentError
from homelab_agent.core.foundation import Foundation
from homelab_agent.core.health import Check, Finding
from homelab_agent.gate import exposure, node_key, telling
from homelab_agent.gate.child import Command, Session, Verb
from homelab_agent.gate.front import Front, PublicFront
from homelab_agent.gate.intent import Hold, Intent
from homelab_agent.gate.keeper import Keeper
from homelab_agent.gate.ledger import Ledger
from homelab_agent.gate.outside import Outside
from homelab_agent.gate.policy import Timing
from homelab_agent.gate.prerequisites import Door
from homelab_agent.gate.readiness import Always, Public
from homelab_agent.gate.routes import Api
from homelab_agent.gate.settings import FUNNEL, GateSettings
from homelab_agent.gate.tailscale import Tailscaled, own_name
from homelab_agent.gate.visitor import Visitor
from homelab_agent.gate.watch import Lookout, Watch


class NowhereToLead(AgentError):
    """The web server does not listen on 127.0.0.1, where Tailscale could lead to."""

    repair = '[web] listen = "127.0.0.1:8085"'


def build(settings: GateSettings, base: Foundation) -> Capability:
    """Return what the capability contributes; where there is nothing to lead to, that is a check's finding."""
    if base.port is None:
        return Capability(
            name="gate", checks=[Check("gate", _nowhere), node_key.check(Tailscaled(settings.socket), base.clock)]
        )
    return Service(settings, base, base.port).capability()


async def _nowhere() -> Finding:
    return Finding.of(NowhereToLead())


class Service:
    """Holds the capability's parts together."""

    def __init__(self, settings: GateSettings, base: Foundation, port: int) -> None:
        """`port` is the web server's, on 127.0.0.1."""
        self._settings = settings
        self._base = base
        self._user = own_name()
        self._daemon = Tailscaled(settings.socket)
        self.intent = Intent(base.state, base.spool, base.clock, host=base.host, changed=self._wake)
        self.ledger = Ledger(base.state, base.spool, base.clock, host=base.host, registry=base.registry)
        keepers = {name: self._keeper(name, at, port) for name, at in settings.doors().items()}
        self.keepers = list(keepers.values())
        self.public = keepers.get(FUNNEL)
        if self.public is not None:
            base.door.on_shut(self.ledger.shut)
            base.door.on_shut(self.public.wake)

    def capability(self) -> Capability:
        """Return what all this contributes."""
        tasks = [Task(f"gate.{keeper.name}", keeper.run) for keeper in self.keepers]
        if self.public is not None:
            tasks.append(Task("gate.pushed", self._watch))
            if self._settings.resolver:
                visitor = Visitor(self._settings.resolver)
                every = self._settings.path_every
                outside = Outside(self.public, visitor, self._base.door, self._base.clock, every=every)
                tasks.append(Task("gate.outside", outside.run))
        return Capability(
            name="gate",
            tasks=tasks,
            routes=Api(self.keepers, self.public, self.intent, self.ledger, self._base.door, self._base.clock).routes(),
            checks=self._checks(),
            summary=lambda: telling.summary(self.keepers),
            reload=self.reload,
        )

    def reload(self, settings: GateSettings) -> None:
        """Take new settings; they count from the next look on."""
        self._settings = settings

    def _checks(self) -> list[Check]:
        """Return what is reported at each look, and this node's key, which is asked for by itself."""
        checks = [Check(f"gate.{keeper.name}") for keeper in self.keepers]
        if self.public is not None:
            checks.append(Check(exposure.CHECK))
        return [*checks, node_key.check(self._daemon, self._base.clock)]

    def _keeper(self, name: str, at: int, web: int) -> Keeper:
        """Return the keeper of a door at the port `at`; `web` is the web server's port."""
        settings, base, is_funnel = self._settings, self._base, name == FUNNEL
        verb: Verb = "funnel" if is_funnel else "serve"
        target = settings.grafana if name == "grafana" else f"http://127.0.0.1:{web}"
        session = Session(
            Command(settings.program, settings.socket, verb, at, target),
            on_end=lambda: keeper.wake(),  # noqa: PLW0108 - it is made after this
        )
        front = PublicFront(base.door, self.ledger) if is_funnel else Front()
        lookout: Lookout = Public(base.health, base.door, port=web) if is_funnel else Always()
        held = self.intent.current if is_funnel else _nobody
        door = Door(at, is_funnel=is_funnel, user=self._user, safe_versions=settings.safe_versions)
        watch = Watch(door, session, self._daemon, lookout, held, base.clock)
        keeper = Keeper(name, watch, session, front, Timing.of(settings), base.clock, self._looked)
        return keeper

    def _wake(self) -> None:
        if self.public is not None:
            self.public.wake()

    def _looked(self, keeper: Keeper) -> None:
        """Report how a door stands, and under which name the web server is asked through it."""
        self._base.health.report(f"gate.{keeper.name}", telling.finding(keeper))
        if keeper is self.public:
            bound = self._settings.tell_open_after
            self._base.health.report(exposure.CHECK, exposure.finding(keeper.gate, self.ledger.stretch, bound))
        if keeper.watch.found.told is not None:
            self._base.door.names = frozenset({keeper.watch.found.told.name})

    async def _watch(self) -> None:
        """Wake the keeper when something is reported that shuts the door at once; also when the agent is to stop."""
        assert self.public is not None  # noqa: S101 - the task exists only with it
        with self._base.health.changes.subscribe() as changes:
            while True:
                await changes.get()
                if self._base.health.blocking("gate", pushed=True):
                    self.public.wake()


async def _nobody() -> Hold | None:
    """Say that nobody holds a door inside the tailnet."""
    return None
