"""Where OpenBao's own files lie on this host, and its configuration for these places.

`deploy/openbao.hcl` is a whole configuration, for the places of OpenBao's own packages. Elsewhere, below a directory of
one's own or in the tests, it is the same but for the paths.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

DELIVERED = Path(__file__).parent / "deploy"
"""The files that are delivered for the server."""

CONFIGURATION = "openbao.hcl"
POLICY = "agent.policy.hcl"
UNSEAL_KEY, AGENT_SECRET_ID, OPERATOR_SECRET_ID = CREDENTIALS = ("unseal-key", "agent-secret-id", "operator-secret-id")
"""What the server is given as files in the directory of its credentials."""


@dataclass(frozen=True, slots=True)
class Installation:
    """The places of one server: those of `openbao.hcl` as it is delivered, where nothing else is said.

    `owner` and `group` are those of the socket, as names or numbers.
    """

    configuration: Path = Path("/etc/openbao")
    state: Path = Path("/var/lib/openbao")
    socket: Path = Path("/run/openbao/openbao.sock")
    credentials: Path = Path("/run/credentials/openbao.service")
    port: int = 8200
    cluster_port: int = 8201
    owner: str = "openbao"
    group: str = "openbao"

    def text(self) -> str:
        """Return the configuration for these places."""
        text = (DELIVERED / CONFIGURATION).read_text()
        for delivered, here in zip(_words(Installation()), _words(self), strict=True):
            if delivered not in text:
                message = f"{CONFIGURATION} does not have {delivered}"
                raise ValueError(message)
            text = text.replace(delivered, here)
        return text


def _words(at: Installation) -> tuple[str, ...]:
    """Return what differs from place to place, as it stands in the configuration."""
    return (
        f'path    = "{at.state}/raft"',
        f'"{at.socket}"',
        f'"{at.configuration}/{POLICY}"',
        *(f"{at.credentials}/{name}" for name in CREDENTIALS),
        f"127.0.0.1:{at.port}",
        f"127.0.0.1:{at.cluster_port}",
        f'socket_user  = "{at.owner}"',
        f'socket_group = "{at.group}"',
    )
