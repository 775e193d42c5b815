"""Why a copy was not drilled at all."""

from __future__ import annotations

from homelab_agent.core.errors import AgentError, Exit


class CopyGone(AgentError):
    """There is no copy {id} at {engine} (any more)."""

    repair = "homelab-agent backup list"


class NotOursToStart(AgentError):
    """The copy {id} was not written by this host, as far as it knows, so nothing is started on it."""

    repair = "Restore it to a directory: homelab-agent restore SET --archive {id} --to DIRECTORY --trust {sha256}"


class NoRoomToDrill(AgentError):
    """{directory} has room for {free} bytes; a drill of {id} needs {needed}."""

    repair = "Make room there: df {directory}; or name a directory with more: [backup] drill_directory"


class NoPlaceToDrill(AgentError):
    """Nothing can be restored to {directory} for a drill."""

    repair = "ls -ld {directory}; df {directory}; or name another one: [backup] drill_directory"


class DrillUnderWay(AgentError):
    """Another drill is under way on this host."""

    repair = "homelab-agent jobs list; wait until it has ended, then ask again"
    exit_code = Exit.BUSY
