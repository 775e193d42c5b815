"""Where OpenBao's own files lie on this host, and its configuration for these places.

`deploy/openbao.hcl` is a whole configuration, for the places of OpenBao's own packages. Elsewhere, below a directory of
one's own or in the tests, it is the same but for the paths.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from homelab_agent.core import statefile

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


def write(path: Path, text: str, *, mode: int, owner: int = -1) -> None:
    """Write a file that is on the disk, whole, once it has its name; `owner` is a user's number, -1 for our own."""
    path.parent.mkdir(parents=True, exist_ok=True)
    fresh = path.with_name(f"{path.name}.new")
    fresh.unlink(missing_ok=True)
    descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, mode)
    with os.fdopen(descriptor, "w") as file:
        file.write(text)
        file.flush()
        os.fchmod(descriptor, mode)
        os.fchown(descriptor, owner, -1)
    put(fresh, path)


def put(fresh: Path, path: Path) -> None:
    """Give a file that somebody has written its name, for good: no power cut leaves the name without the content."""
    with fresh.open("rb") as file:
        os.fsync(file.fileno())
    fresh.rename(path)
    statefile.sync_directory(path.parent)
