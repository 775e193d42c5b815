"""What the two halves mean by a name: any other key is another digest; what is refused for it is no commit's fault."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from homelab_agent.core.privilege import VerbRefused
from homelab_agent.gitops.section import Digest, digest
from homelab_agent.gitops.settings import Repository
from tests.gitops_house import action, half, house, repository

REFUSED = VerbRefused(reason="the configuration of homelab was changed since the agent was started")
WORDS = st.text(max_size=5)
SECTIONS = st.fixed_dictionaries(
    {},
    optional={
        "directory": st.sampled_from(["/srv/a", "/srv/b"]),
        "submodules": st.booleans(),
        "ignore_dirty": st.lists(WORDS, max_size=2),
        "action": st.lists(
            st.fixed_dictionaries(
                {"name": st.just("a"), "command": st.lists(WORDS, min_size=1, max_size=2)},
                optional={"environment": st.dictionaries(WORDS, WORDS, max_size=2), "timeout": st.floats(1, 9)},
            ),
            max_size=1,
        ),
        "probe": st.lists(
            st.fixed_dictionaries({"kind": st.sampled_from(["tcp", "unit"]), "target": st.sampled_from(["a", "b"])}),
            max_size=2,
        ),
    },
)


def made(section: dict[str, Any]) -> Repository:
    return Repository.model_validate(repository("homelab") | section)


@given(SECTIONS, SECTIONS)
def test_two_sections_have_one_digest_if_they_are_one(one: dict[str, Any], other: dict[str, Any]) -> None:
    assert (digest(made(one)) == digest(made(other))) == (made(one) == made(other))
    assert digest(made(one)) == digest(made(json.loads(json.dumps(one)))), "each half reads the file for itself"
    assert Digest().check(digest(made(one))) == digest(made(one))


@pytest.mark.parametrize("value", ["", "a" * 63, "A" * 64, "g" * 64, "a" * 64 + "\n", None, 1, ["a" * 64]])
def test_nothing_else_is_a_digest(value: object) -> None:
    with pytest.raises(ValueError, match="64 hexadecimal digits"):
        Digest().check(value)


async def test_the_order_of_variables_means_nothing() -> None:
    pair = {"B": "1", "A": "2"}
    one, other = (made({"action": [action("a", environment=dict(order))]}) for order in (pair, sorted(pair.items())))
    assert digest(one) == digest(other)


@pytest.mark.parametrize("verb", ["git_sync", "git_changed", "run_action", "run_probe"])
async def test_what_is_refused_until_the_agent_is_restarted_goes_on_then_and_nothing_is_rolled_back(
    tmp_path: Path, verb: str
) -> None:
    root_half = half()
    probe = {"kind": "unit", "target": "caddy", "within": 1.0}
    section = repository("homelab", action("last"), rollback="automatic", probe=[probe])
    async with house(tmp_path, root_half, section) as here:
        await here.ask()
        root_half.failing = lambda asked: REFUSED if asked == verb else None
        guid = await here.push()
        while not (await here.attempts())[guid, 1]["verdict"]:
            await here.clock.advance(1)
        assert await here.closed(guid) == ("not_available", str(REFUSED))
        finding = await here.finding()
        assert "systemctl restart homelab-agent" in finding.repair
        assert await here.service.moves.bad("homelab") == {}
        ran = list(here.tree.ran)
    root_half.failing = lambda _: None
    async with house(tmp_path, root_half, section) as here:
        await here.quiet()
        if verb == "git_sync":
            await here.ask()
        assert await here.deployed() == here.tree.tip
        assert here.tree.ran == [(here.tree.tip, "last")]
        assert ran == ([] if verb != "run_probe" else here.tree.ran)
