"""One verb of GitOps where a root half would do it: `python -m tests.gitops_verb CONFIGURATION VERB ARGUMENTS`.

In a machine or an enclosure it meets their systemd and their Docker. It prints the answer, or the error, as JSON.
"""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from homelab_agent import config, places
from homelab_agent.core.errors import AgentError
from homelab_agent.core.privilege import Answer
from homelab_agent.core.process_output import Stream
from homelab_agent.gitops import section, verbs

ROOT = Path(__file__).parents[1]


class Alone:
    """Implements `core.privilege.Call` with nobody at the other end."""

    def __init__(self, arguments: Mapping[str, Any]) -> None:
        self.arguments = arguments
        self.descriptors = ()

    def say(self, stream: Stream, line: str) -> None:
        """Print it beside the answer."""
        print(f"{stream}: {line}", file=sys.stderr)

    async def hold(self, answer: Answer) -> None:
        """No verb of GitOps does."""
        raise NotImplementedError


def command(configuration: Path, verb: str, **arguments: object) -> list[str]:
    """Return the command that does a verb."""
    program = f"import sys; sys.path.insert(0, {str(ROOT)!r}); from tests import gitops_verb; gitops_verb.main()"
    return [sys.executable, "-c", program, str(configuration), verb, json.dumps(arguments)]


def main() -> None:
    """Do it."""
    path, name, arguments = sys.argv[1:]
    loaded = config.load(Path(path)).settings
    settings = loaded.gitops
    assert settings is not None
    where = places.whereabouts(Path(path), loaded)
    verb = next(verb for verb in verbs.build(settings, where) if verb.name == name)
    given = json.loads(arguments)
    if "repository" in given:
        given["section"] = section.digest(settings.repository[0])
    try:
        answer = asyncio.run(_run(verb.run, Alone(verb.check(given))))
    except AgentError as error:
        answer = {"error": str(error), "repair": error.repair}
    print(json.dumps(answer))


async def _run(do: Any, call: Alone) -> Answer:
    answer: Answer = await do(call)
    return answer
