"""What can be wrong with a secret; none of these repeats a value."""

from __future__ import annotations

from homelab_agent.core.errors import AgentError, Exit


class ReferenceFaulty(AgentError):
    """A reference to a secret begins with one of {schemes}, and a name follows."""

    repair = "write the value into a file, chmod 600, and set the key to file:PATH"
    exit_code = Exit.CONFIGURATION


class SecretMissing(AgentError):
    """The secret {reference} is not there."""

    repair = "{repair}"


class SecretUnreadable(AgentError):
    """The secret {reference} cannot be read."""

    repair = "{repair}"


class SecretExposed(AgentError):
    """The file of the secret {reference} can be read or written by others than its owner."""

    repair = "chmod 600 {path}"


class SecretOfAnother(AgentError):
    """The file of the secret {reference} belongs to another user (uid {owner})."""

    repair = "chown {user} {path}"


class SecretStale(AgentError):
    """The secret {reference} could not be asked for again for so long that what is known of it is not used any more."""

    repair = "homelab-agent doctor secrets"


class SecretRefused(AgentError):
    """The new value of the secret {reference} does not work; the old one stays."""


class AdoptionIncomplete(AgentError):
    """The new value of the secret {reference} works, but not everything took it over."""

    repair = "systemctl restart homelab-agent"
