"""The names that restores give to what they keep beside what lives; pure. No copy has what is called so.

It is there to be taken back for some days, and is of no moment that anybody wants again.
"""

from __future__ import annotations

import re

UNDO = ".homelab-agent-undo-"
STAGING = ".homelab-agent-restore-"
GLOBS = (f"{UNDO}*", f"{STAGING}*")
"""They stand for files and folders of ours wherever they are, as `--exclude` of tar and restic takes them."""
_OURS = "_homelab_agent_"
DATABASES = f"{_OURS}[0-9a-f]{{12}}_[0-9]+_?$"
"""The end of a database's name that is ours: a regular expression, of Python and of PostgreSQL."""
DATABASE_BYTES = 63
"""A longer name is cut by the server."""
ASIDE = "_"
"""The end of a third name, which nobody sees outside of the transaction in which two are exchanged."""


def is_ours(name: str) -> bool:
    """Return whether a file or folder is called as ours are."""
    return name.startswith((UNDO, STAGING))


def database(name: str, undo_id: str, number: int) -> str:
    """Return under what name the other side of a database is kept."""
    end = f"{_OURS}{of_undo(undo_id)}{number}"
    short = name.encode()[: DATABASE_BYTES - len(end) - len(ASIDE)].decode(errors="ignore")
    return f"{short}{end}"


def of_undo(undo_id: str) -> str:
    """Return how the tags begin of all databases that one restore keeps beside."""
    return f"{undo_id[-12:]}_"


def tag(beside: str) -> str:
    """Return what tells a database that is kept beside from every other one: restore and number."""
    return beside.rpartition(_OURS)[2]


def is_our_database(name: str) -> bool:
    """Return whether a database is called as ours are."""
    return re.search(DATABASES, name) is not None
