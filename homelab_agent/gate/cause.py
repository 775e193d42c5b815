"""What `tailscale` says, understood: why a door is not published, and what mends that.

What it prints is for people and may change with any version; what is not known here is told in its own words. Its
words are those of cmd/tailscale and ipn/ipnlocal in Tailscale's source, 1.102.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from homelab_agent.core.process_output import Stream
from homelab_agent.gate.prerequisites import Obstacle

_ADMIN = "https://login.tailscale.com/admin"
_DAEMON = "systemctl status tailscaled"
_PUBLISHED = re.compile(r"Available (on the internet|within your tailnet)")
_INVITATION = re.compile(r"\s{4,}(https?://\S+)\s*")
"""Where a feature is to be allowed; the address of what is published stands at the line's beginning."""

_KNOWN: tuple[tuple[str, str, str], ...] = (
    (
        r"listener already exists for port (\d+)",
        "something else is published on port {0}",
        "tailscale funnel status --json",
    ),
    (
        r"HTTPS must be enabled|error enabling https feature",
        "the tailnet gives this node no certificate",
        f"Enable MagicDNS and HTTPS certificates: {_ADMIN}/dns",
    ),
    (
        r'"funnel" node attribute not set',
        "the tailnet's policy does not let this node use Funnel",
        f'Add "funnel" to its "nodeAttrs": {_ADMIN}/acls',
    ),
    (
        r"port (\d+) is not allowed for funnel(?:; allowed ports are: (\S+))?",  # only 443 is ever asked about
        "the tailnet's policy has to allow Funnel on port {0}, whichever is used (it allows: {1})",
        f"{_ADMIN}/acls",
    ),
    (
        r"shields-up is enabled",
        "this node takes no connections (shields-up)",
        "sudo tailscale set --shields-up=false",
    ),
    (
        r"Access denied",
        "the agent's user is not Tailscale's operator on this host",
        "homelab-agent doctor gate",
    ),
    (r"^Logged out\.", "this node is logged out of its tailnet", "sudo tailscale up"),
    (r"^Tailscale is stopped\.", "Tailscale is stopped", "sudo tailscale up"),
    (r"unexpected state: (\S+)|netMap is nil", "tailscaled is not ready yet", _DAEMON),
    (r"failed to connect to local [Tt]ailscale", "tailscaled does not answer", "systemctl start tailscaled"),
    (r"unexpected EOF|connection reset by peer", "tailscaled ended", _DAEMON),
    (
        r"Another client is changing the serve config|etag mismatch",
        "somebody else changed what tailscaled publishes at the same time",
        "",
    ),
    (
        r"config file is locked|when using a config file",
        "tailscaled takes what it publishes from a file, and from nobody else",
        "start tailscaled without --config",
    ),
)
_PATTERNS = [(re.compile(pattern), what, repair) for pattern, what, repair in _KNOWN]


@dataclass(slots=True)
class Heard:
    """What one child has said so far; `cause` is why nothing is published, None while nothing says so."""

    cause: Obstacle | None = None
    _last: str = ""
    _is_published: bool = False

    def take(self, stream: Stream, line: str) -> None:
        """Take a line of its output."""
        if _PUBLISHED.match(line):  # whatever it was waiting for has come
            self.cause, self._last, self._is_published = None, "", True
        elif self.cause is None:
            self.cause = understood(line)
        if stream == "stderr" or not self._is_published:
            self._last = line.strip() or self._last

    def end(self, code: int) -> Obstacle:
        """Return why it has ended by itself with `code`, or minus a signal."""
        if self.cause is not None:
            return self.cause
        how = f"exit code {code}" if code >= 0 else f"signal {-code}"
        said = f"and said: {self._last}" if self._last else "without a word"
        return Obstacle(f"tailscale ended ({how}) {said}", _DAEMON)


def understood(line: str) -> Obstacle | None:
    """Return what a line says against a door; None for all others."""
    if invitation := _INVITATION.fullmatch(line):
        return Obstacle("the tailnet's owner has to allow this first", f"Allow it: {invitation[1]}")
    for pattern, what, repair in _PATTERNS:
        if found := pattern.search(line):
            return Obstacle(what.format(*(group or "none" for group in found.groups())), repair)
    return None
