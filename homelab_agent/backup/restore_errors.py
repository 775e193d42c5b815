"""Why nothing was restored."""

from __future__ import annotations

from homelab_agent.core.errors import AgentError, Exit


class NothingToRestore(AgentError):
    """There is no such copy of {set_name} at {engine}."""

    repair = "homelab-agent backup list {set_name}"


class NoSuchEngine(AgentError):
    """There is no engine {name}; there are: {names}."""

    repair = "Name one of them with --engine."
    exit_code = Exit.USAGE


class NotOurs(AgentError):
    """The archive {id} was not written by this host, as far as it knows."""

    repair = "If you know where it comes from: --trust {sha256}"
    exit_code = Exit.USAGE


class NotAsItWas(AgentError):
    """The archive {id} does not give back what is asked for; nothing was restored."""

    repair = "Take another one: homelab-agent backup list; and read this one whole: homelab-agent backup verify"


class NotUnpacked(AgentError):
    """Nothing can be unpacked in {directory}; nothing was replaced."""

    repair = "ls -ld {directory}; df {directory}; findmnt -T {directory}"


class RoomLacks(AgentError):
    """{directory} has room for {free} bytes; {needed} are needed beside what is there, which is kept for an undo."""

    repair = "Make room there: df {directory}; homelab-agent restore undo lists what older restores keep."


class InUse(AgentError):
    """{places} is used by {names}, which is no part of this restore; nothing was replaced."""

    repair = "{repair}"
    exit_code = Exit.BUSY


class OutOfReach(AgentError):
    """The volumes of this Docker cannot be replaced from here: {why}."""

    repair = "Restore to a directory (--to), and copy it into the volume by a container of yours."


class AgentRuns(AgentError):
    """The agent's own state is not replaced while it runs: {directory} is held by {holder}."""

    repair = "systemctl stop homelab-agent.socket; then again; and after it: systemctl start homelab-agent"
    exit_code = Exit.BUSY


class OnlyBeside(AgentError):
    """Of {set_name} single members come back beside it only."""

    repair = "Name a directory, too: --to DIRECTORY"
    exit_code = Exit.USAGE


class NoStateYet(AgentError):
    """There is no state directory {directory} yet, whose owner would say as whom the agent runs."""

    repair = "systemctl start homelab-agent; systemctl stop homelab-agent.socket; then restore again"


class VolumeGone(AgentError):
    """There is no volume {name} (any more), and the copy does not say how it was made."""

    repair = "docker volume create {name}, or docker compose create; then restore again"


class VolumeNotTold(AgentError):
    """There is no volume {name} (any more), and the copy does not have what may be a password: {missing}."""

    repair = "Make it with that (docker compose create), and copy into it what comes back beside: --to DIRECTORY"


class NameTaken(AgentError):
    """There are such volumes already, or two would be called so: {names}."""

    repair = "Name another project with --to; what is there is never written over."
    exit_code = Exit.USAGE


class NoVolumes(AgentError):
    """The archive {id} has no volumes, or none that is asked for; a project is made of volumes."""

    repair = "Restore to a directory: --to ./NAME"
    exit_code = Exit.USAGE


class VolumeNotOurs(AgentError):
    """The volume {name} could not be made: somebody else has just made one of that name, or it is not where it was."""

    repair = "docker volume inspect {name}; then restore again"


class DockerNeeded(AgentError):
    """The restore {id} has changed {what}, and Docker does not answer."""

    repair = "systemctl start docker"


class VolumeElsewhere(AgentError):
    """The volume {name} is not in a directory of Docker's own, but {what}."""

    repair = "Restore to a directory (--to), and copy it to where the volume's files are."


class DatabaseAway(AgentError):
    """The database's container {name} is {state}; what was dumped of it is loaded only while it runs."""

    repair = "{repair}"


class LoadedByHand(AgentError):
    """Dumps of this kind are not loaded in place: {names}."""

    repair = "restore --to ./copy, stop what uses it, and load them: {commands}; files alone come back with --path"


class DumpNotTold(AgentError):
    """The archive {id} does not say how these dumps are read back: {names}."""

    repair = "Restore to a directory (--to) and load them by hand, or only files of it (--path)."


class UsedByDatabase(AgentError):
    """{places} is used by the database {name}, which has to run while its dumps are loaded."""

    repair = "Restore in two steps: the files (--path 'volumes/**' --path 'paths/**'), then --path 'dumps/**'."


class NoPlaceForIt(AgentError):
    """The file {path} of {container} is in no volume or directory that is known here; it cannot be put back."""

    repair = "Restore to a directory (--to), and copy dumps/{container}/... to where it belongs."


class NothingToUndo(AgentError):
    """There is no undo {id}."""

    repair = "homelab-agent restore undo, which lists those that there are."


class NoteUnreadable(AgentError):
    """The note of a restore {path} cannot be read; what it speaks of is left as it is."""

    repair = "Look at it; then move it away: mv {path} /root/"


class NotNoted(AgentError):
    """A restore cannot be noted in {directory}, so nothing is replaced."""

    repair = "ls -ld {directory}; df {directory}; or name another one ([backup] records)."


class RestoreUnderWay(AgentError):
    """Another restore is under way on this host."""

    repair = "Wait until it has ended, then ask again."
    exit_code = Exit.BUSY


class HalfRestored(AgentError):
    """The restore {id} is neither whole nor taken back; {what}."""

    repair = "{repair}; then homelab-agent backup resume"

    @classmethod
    def of(cls, undo_id: str, cause: Exception, what: str) -> HalfRestored:
        """Return it for what has kept a restore from being ended; that is what is to be mended."""
        repair = cause.repair.rstrip(".") if isinstance(cause, AgentError) else "journalctl -u homelab-agent"
        return cls(id=undo_id, what=what, repair=repair, cause=cause)


class StandsStill(AgentError):
    """All of it is in place, and these do not run again yet: {names}."""

    repair = "homelab-agent backup resume; or, to take it back: sudo homelab-agent restore undo {id}"


class NotTakenAway(AgentError):
    """What the restore {id} has kept or left is not taken away."""

    repair = "see what keeps it: lsattr -d, findmnt -T, df"


class AnotherFirst(AgentError):
    """What {id} would put back is not next in turn: the restore {other}, of {at}, has replaced the same."""

    repair = "sudo homelab-agent restore undo {other}"
