"""What can go wrong with a repository, told from restic's exit code, and where it has only 1 from its words."""

from __future__ import annotations

from collections.abc import Callable

from homelab_agent.core.errors import AgentError, Exit


class ResticFailed(AgentError):
    """restic failed at the repository {repository}."""


class NoRepository(ResticFailed):
    """There is no restic repository {repository} at its URL."""

    repair = "homelab-agent backup init {repository}"


class RepositoryLocked(ResticFailed):
    """The repository {repository} is locked by another restic."""

    repair = "Wait until it is done. If nothing works there any more: restic unlock --remove-all"
    exit_code = Exit.BUSY


class WrongPassword(ResticFailed):
    """The password of the repository {repository} is wrong."""

    repair = "Put the right one where [[backup.repository]] `password` of {repository} points to."
    exit_code = Exit.CONFIGURATION


class Unreadable(ResticFailed):
    """restic could not read all of what goes to {repository}."""

    repair = "Leave out what need not be kept: [[backup.set]] `exclude`."


class Damaged(ResticFailed):
    """The repository {repository} does not give back what was stored."""

    repair = (
        "See what else is damaged: restic check --read-data. Then begin a new repository: the source is still there."
    )


class NothingDumped(AgentError):
    """The dump {member} is empty."""

    repair = "Run the dump's command by hand: a database that writes nothing was not dumped."


class SourceMissing(AgentError):
    """{path} is not there; restic would pass over it without a word."""

    repair = "Take it out of its [[backup.set]], or mount it."


class Changed(AgentError):
    """{path} was changed while it was read ({count} in all), so the copy is of no one moment."""

    repair = "Choose another `mode` for the set: dump or pause."


class NoRoom(AgentError):
    """The repository {repository} has room for {free} bytes; about {needed} are needed."""

    repair = "Make room there, or keep fewer: [backup.keep]"


class NotAsWritten(AgentError):
    """What was stored in {repository} does not read back as it was written."""

    repair = "Look for disk errors: journalctl -k -p err; and at the repository: restic check --read-data"


class NoSuchArchive(AgentError):
    """There is no archive {id} in the repository {repository}."""

    repair = "homelab-agent backup list"


_BY_CODE: dict[int, type[ResticFailed]] = {3: Unreadable, 10: NoRepository, 11: RepositoryLocked, 12: WrongPassword}
"""https://restic.readthedocs.io/en/stable/075_scripting.html; 10 and later are of 0.17 and 0.17.1."""

_BY_WORDS: tuple[tuple[str, type[ResticFailed]], ...] = (
    ("wrong password or no key found", WrongPassword),
    ("unable to open config file", NoRepository),
    ("Is there a repository at the following location", NoRepository),
    ("repository is already locked", RepositoryLocked),
    ("ciphertext verification failed", Damaged),
    ("returned invalid hash", Damaged),
    ("wrong data returned", Damaged),
    ("invalid data returned", Damaged),
    ("hash mismatch", Damaged),
    ("unexpected EOF", Damaged),
    ("file is shorter than", Damaged),
    ("not found in repository", Damaged),
    ("not found in index", Damaged),
    ("Load(<data/", Damaged),
)


def failure(code: int, said: str, repository: str, masked: Callable[[str], str]) -> ResticFailed:
    """Return what a failed restic means; `said` is its standard error, of which only what is `masked` is told."""
    by_words = next((kind for words, kind in _BY_WORDS if words in said), ResticFailed)
    lines = [line for line in said.splitlines() if line.strip()]
    fatal = [line for line in lines if "Fatal" in line or "rror" in line] or lines
    cause = masked("".join(fatal[-1:]))[:500] or f"exit code {code}"
    return _BY_CODE.get(code, by_words)(repository=repository, cause=cause)
