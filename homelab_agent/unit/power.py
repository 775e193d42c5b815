"""What the root half can truly do, in words: a score does not say it."""

from __future__ import annotations

from collections.abc import Collection

DEEDS = {
    "metrics_disks": "ask each disk how it is",
    "metrics_containers": "ask Docker what containers there are",
    "git_plan": "fetch in a working copy, as its owner",
    "git_sync": "move a working copy forward to what was pushed, as its owner",
    "git_changed": "name the files between two commits",
    "git_contained": "say which commits a commit contains",
    "git_rollback": "move a working copy back to an earlier commit, as its owner",
    "run_action": "run the actions of the configuration, as the working copy's owner or run_as",
    "run_probe": "ask the probes of the configuration",
    "restart_agent": "restart the agent",
    "backup_plan": "see all containers, volumes and their sizes",
    "backup_run": "stop and pause the containers of a set, read what they keep, write a copy, and have them run again",
    "backup_list": "list copies",
    "backup_verify": "read a copy back",
    "backup_drill": "start a copy's containers beside those that live",
    "backup_forget": "delete a copy that is not among the last ones",
    "backup_sweep": "clear away what killed runs have left",
    "backup_resume": "start containers that a backup has left still",
}
"""By verb. That each verb of each capability is here, a test says."""


def told(verbs: Collection[str]) -> str:
    """Return in words what these verbs amount to."""
    if not verbs:
        return "the root half can do nothing: no capability that is on has a use for it"
    deeds = [DEEDS.get(verb, verb) for verb in sorted(verbs, key=[*DEEDS, *verbs].index)]
    return f"asked by the agent, the root half can {'; '.join(deeds)}. Nothing else, and by names of the configuration"
