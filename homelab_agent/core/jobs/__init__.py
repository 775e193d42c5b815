"""Jobs: what runs on a schedule or when asked, and the history of its runs.

`scheduler` holds `Jobs`, which knows every job and starts it when it is due; `timetable` decides what a schedule asks
for now, `schedule` says when; `runner` runs one at a time of those that exclude each other (`claims`); `history` is the
table, `output` what runs print.
"""

from __future__ import annotations

from homelab_agent.core.jobs.output import Watched
from homelab_agent.core.jobs.run import (
    CONTAINERS,
    AgentStopping,
    AlreadyRunning,
    Job,
    Outcome,
    Progress,
    Run,
    RunRecord,
    UnknownJob,
    as_options,
    of_options,
)
from homelab_agent.core.jobs.scheduler import Jobs

__all__ = [
    "CONTAINERS",
    "AgentStopping",
    "AlreadyRunning",
    "Job",
    "Jobs",
    "Outcome",
    "Progress",
    "Run",
    "RunRecord",
    "UnknownJob",
    "Watched",
    "as_options",
    "of_options",
]
