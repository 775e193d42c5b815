"""The web server as a capability: its task, its own routes, its check."""

from __future__ import annotations

import ipaddress
from collections.abc import Sequence

from homelab_agent.core.capability import Capability, Task
from homelab_agent.core.errors import AgentError
from homelab_agent.core.foundation import Foundation
from homelab_agent.core.health import Check, Finding
from homelab_agent.core.secret import Secret
from homelab_agent.web.application import Application, Policy
from homelab_agent.web.credentials import Credentials
from homelab_agent.web.limits import Limits
from homelab_agent.web.login import Logins
from homelab_agent.web.login_routes import LoginApi
from homelab_agent.web.pages import Pages
from homelab_agent.web.routes import Api, Reload
from homelab_agent.web.server import Server
from homelab_agent.web.settings import WebSettings
from homelab_agent.web.sockets import Listeners


def build(
    settings: WebSettings,
    base: Foundation,
    capabilities: Sequence[Capability],
    *,
    listeners: Listeners,
    reload: Reload | None = None,
) -> Capability:
    """Return the web server for the routes of `capabilities` and its own.

    `listeners` come from `sockets.listen`, called before anything else starts; they are closed when the
    server is stopped. `reload` applies a changed configuration and returns what `POST /api/reload` answers.
    """
    credentials = Credentials(base.state, base.clock)
    given = base.secrets.find(settings.api_token) if settings.api_token else None
    logins = Logins(credentials, base.clock, session_age=settings.session_age, given=given)
    pages = Pages(base.host)
    shown = list(capabilities)
    api = Api(base, shown, pages, serving=lambda: server.serving, reload=reload)
    login_api = LoginApi(logins, pages, lambda: origins(listeners, app.policy.hosts), settings.session_age)
    own = [*api.routes(), *login_api.routes()]
    routes = [route for capability in capabilities for route in capability.routes]
    app = Application([*own, *routes], logins, pages, policy(settings, listeners), base.door)
    limits = Limits(settings.max_connections, settings.receive_deadline)
    server = Server(app, listeners, limits, drain_deadline=settings.drain_deadline)
    base.door.on_shut(server.shut_out)

    async def probe() -> Finding:
        if not server.serving:
            return Finding.failed("no connections are accepted")
        where = ", ".join(origins(listeners, app.policy.hosts))
        return Finding.ok(f"answers at {where}; open connections: {server.connections}")

    def take(changed: WebSettings) -> None:
        app.policy = policy(changed, listeners)

    web = Capability(
        name="web",
        tasks=[Task("web", server.run, critical=True)],
        routes=own,
        checks=[Check("web", probe), *([_token_check(logins, given)] if given else [])],
        summary=lambda: f"{origins(listeners, app.policy.hosts)[0]}, open connections: {server.connections}",
        reload=take,
    )
    shown.append(web)
    return web


def _token_check(logins: Logins, given: Secret) -> Check:
    async def probe() -> Finding:
        try:
            await logins.read_given()
        except AgentError as error:
            return Finding.degraded(f"the token of [web] api_token cannot be had: {error}", error.repair)
        return Finding.ok(f"{given} is a token")

    return Check("web.token", probe)


def policy(settings: WebSettings, listeners: Listeners) -> Policy:
    """Return what of the settings decides about requests; beyond loopback nothing is free to read."""
    return Policy(
        hosts=frozenset(settings.hosts),
        login_always=any(not ipaddress.ip_address(address).is_loopback for address, _ in listeners.addresses()),
        receive_deadline=settings.receive_deadline,
    )


def origins(listeners: Listeners, hosts: frozenset[str]) -> list[str]:
    """Return the URLs of the agent, the nearest first; its names are served by a proxy with TLS."""
    near = []
    for address, port in listeners.addresses():
        name = "127.0.0.1" if ipaddress.ip_address(address).is_unspecified else address
        near.append(f"http://[{name}]:{port}" if ":" in name else f"http://{name}:{port}")
    return [*near, *(f"https://{host}" for host in sorted(hosts))]
