"""What a person is told to type runs where it is meant to and as whom, whatever the names are."""

from __future__ import annotations

import subprocess
from collections.abc import Sequence
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from homelab_agent.gitops.owned import typed

ODD = st.text(st.characters(codec="utf-8", exclude_characters="\0/"), min_size=1, max_size=8)


@pytest.mark.parametrize(
    ("commands", "user", "told"),
    [
        ([], "www", ""),
        (["git stash push"], "", "cd /srv/site; git stash push"),
        (["git stash push"], "www", "sudo -u www sh -c 'cd /srv/site; git stash push'"),
        (["git status", "git reset"], "www", "sudo -u www sh -c 'cd /srv/site; git status; git reset'"),
        (["sudo chown -R www ."], "www", "cd /srv/site; sudo chown -R www ."),
    ],
)
def test_commands_are_typed_as_the_user_whose_files_they_are(commands: Sequence[str], user: str, told: str) -> None:
    assert typed(commands, Path("/srv/site"), user) == told


@settings(deadline=None)
@given(name=ODD.filter(lambda name: name not in {".", ".."}), user=st.sampled_from(["", "www"]))
def test_a_shell_goes_to_that_directory_and_no_other(
    tmp_path_factory: pytest.TempPathFactory, name: str, user: str
) -> None:
    directory = tmp_path_factory.getbasetemp() / "odd" / name
    directory.mkdir(parents=True, exist_ok=True)
    script = 'sudo() { shift 2; "$@"; }; ' + typed(["pwd"], directory, user)
    done = subprocess.run(["sh", "-c", script], capture_output=True, check=True)
    assert done.stdout.decode() == f"{directory}\n"
