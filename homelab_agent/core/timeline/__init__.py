"""What happened, in one list: what each room's `timeline.py` makes of the rows that it has kept.

    PART = Part(tables=[Table("gate_exposure", ...)], tell=tell)    what a room contributes

The rows are read from PostgreSQL, from state.db and from the spool (`kept`), and are the same whichever they come from;
so are the entries. `ordered` brings them into one order: by time, and never an effect before its cause.
"""

from __future__ import annotations

from homelab_agent.core.timeline.entry import Entry, Standing, causes, ordered
from homelab_agent.core.timeline.part import Facts, Fields, Noted, Part, Table, Window, brief, thing

__all__ = [
    "Entry",
    "Facts",
    "Fields",
    "Noted",
    "Part",
    "Standing",
    "Table",
    "Window",
    "brief",
    "causes",
    "ordered",
    "thing",
]
