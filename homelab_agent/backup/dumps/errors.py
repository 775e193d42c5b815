"""What may go wrong between us and a database in a container."""

from __future__ import annotations

from homelab_agent.core.errors import AgentError


class DumpFailed(AgentError):
    """{what} of {container} was not dumped; nothing of the run counts."""

    repair = "{repair}"


class DumpIncomplete(AgentError):
    """It was empty, or without its last line, though its command said that all was well."""

    repair = "run its command by hand in {container}, and see what the program's configuration has it leave out"


class LoadFailed(AgentError):
    """{what} was not loaded into {container}."""

    repair = "{repair}"


class NotEmpty(AgentError):
    """The database {database} of {container} has tables already; nothing is loaded over them."""

    repair = "load it under another name, or drop that database where what it has is not wanted"


class NotReached(AgentError):
    """The {kind} in the container {container} lets nobody in as {user}."""

    repair = "name its master as `user` in [[backup.set.dump]]; its password is read from the container's variables"


class NotReady(AgentError):
    """The {kind} in the container {container} did not take queries within {seconds:g} s."""

    repair = "docker logs {container}"


class SaidTooMuch(AgentError):
    """{program} in the container {container} answered with more than {bytes} bytes, where a short answer was due."""

    repair = "docker exec {container} {program} ...: see what it says"


class NotAFileOfIt(AgentError):
    """{path} in the container {container} is no file in a volume or directory of the host, reached without links."""

    repair = "name the file itself, as it is called in its volume, as `path` in [[backup.set.dump]]"


class StillRuns(AgentError):
    """The container {container} runs, and a file that it may have open is not replaced."""

    repair = "docker stop {container}"


class NothingLoads(AgentError):
    """Nothing is known that reads the dump of {container} again."""

    repair = "unpack it (homelab-agent restore SET --to DIRECTORY), and load it by hand; next time: `load` of its dump"


class NotCopied(AgentError):
    """SQLite does not copy {path} of the container {container}."""

    repair = (
        "see whether it is a database: sqlite3 FILE 'PRAGMA quick_check'; a lock that stays: docker restart {container}"
    )
