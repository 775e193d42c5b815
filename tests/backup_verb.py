"""One verb of backups, as a root half would do it, in this process."""

from __future__ import annotations

from homelab_agent.backup import verbs
from homelab_agent.backup.settings import BackupSettings
from homelab_agent.core.privilege import Answer
from homelab_agent.core.whereabouts import Whereabouts
from tests.gitops_verb import Alone


async def done(settings: BackupSettings, name: str, **arguments: object) -> Answer:
    """Do it, and return what it answers."""
    [verb] = [one for one in verbs.build(settings, Whereabouts(settings.records, None, [])) if one.name == name]
    return await verb.run(Alone(verb.check(arguments)))
