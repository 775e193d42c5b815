"""How a user becomes Tailscale's operator on this host: the one who may publish beside root, in another's place."""

from __future__ import annotations

from homelab_agent.core import process
from homelab_agent.core.errors import AgentError
from homelab_agent.gate.tailscale import Tailscaled

_DEADLINE_SECONDS = 10.0


class NotAppointed(AgentError):
    """Tailscale's operator on this host is not {user} but {operator}."""

    repair = "As root: sudo homelab-agent gate operator {user}"


async def appoint(user: str, program: str, daemon: Tailscaled) -> None:
    """Make `user` the operator, whoever is it now; `program` is Tailscale's command.

    Raises `NotAppointed` when tailscaled reads back another one, `DaemonUnreachable`, and what `process.run` raises.
    """
    argv = [program, f"--socket={daemon.socket}", "set", f"--operator={user}"]
    done = await process.run(argv, deadline=_DEADLINE_SECONDS)
    operator = (await daemon.read()).operator
    if operator != user:
        said = " ".join(done.stderr.decode(errors="replace").split())
        raise NotAppointed(user=user, operator=operator or "nobody", cause=said)
