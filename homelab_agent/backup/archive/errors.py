"""What can go wrong with an archive."""

from __future__ import annotations

from homelab_agent.core.errors import AgentError, Exit


class Changed(AgentError):
    """A file of {set_name} was changed while it was read, so the copy is of no one moment."""

    repair = "choose another `mode` for the set: dump, pause or stop"


class CopyFailed(AgentError):
    """The set {set_name} could not be copied to {directory}."""

    repair = "homelab-agent doctor backup"


class NoRoom(AgentError):
    """{directory} has room for {free} bytes; about {needed} are needed for {set_name}."""

    repair = "make room there, or keep fewer: [backup.keep]"


class NotAsWritten(AgentError):
    """What was written of {set_name} does not read back as it was written."""

    repair = "look for disk errors: journalctl -k -p err"


class Unreadable(AgentError):
    """The archive {id} cannot be read."""

    repair = "homelab-agent backup verify; take another one: homelab-agent backup list"


class NotUnpacked(AgentError):
    """The archive {id} cannot be unpacked to {into}."""

    repair = "look for room and rights there: df -h {into}; ls -ld {into}"


class NoSuchArchive(AgentError):
    """There is no archive {id} in {directory}."""

    repair = "homelab-agent backup list"


class NothingFits(AgentError):
    """Nothing in the archive {id} fits {globs}."""

    repair = "what is in it: homelab-agent backup show {id}; globs begin as 'volumes/NAME/' or 'paths/srv/'"


class Hostile(AgentError):
    """The archive {id} would leave the place that it is restored to: {member}."""

    repair = "do not restore it: no copy that this agent wrote holds such a member"
    exit_code = Exit.USAGE
