"""Completion in the shells that are here; of the others at least what they would read."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from homelab_agent.commands import completion

ROOT = Path(__file__).parents[2]
START = f'import sys; sys.path.insert(0, "{ROOT}"); from homelab_agent.cli import main; main()'
PROGRAM = f"#!/bin/sh\nexec {sys.executable} -P -c '{START}' \"$@\"\n"


@pytest.fixture
def path(tmp_path: Path) -> str:
    """A PATH with `homelab-agent` on it, under that name."""
    program = tmp_path / "homelab-agent"
    program.write_text(PROGRAM)
    program.chmod(0o755)
    return f"{tmp_path}:/usr/bin:/bin"


def shell(path: str, *argv: str) -> str:
    env = {"PATH": path, "TERM": "dumb"}
    done = subprocess.run(argv, env=env, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    assert not done.stderr, done.stderr
    return done.stdout


BASH = """
set -u
source <(homelab-agent completion bash)
complete -p homelab-agent | grep -q -- '-F _homelab_agent_completion' || exit 3
COMP_WORDS=("$@") COMP_CWORD=$(($# - 1)) COMPREPLY=()
_homelab_agent_completion homelab-agent
printf '%s\\n' "${COMPREPLY[@]}"
"""


def in_bash(path: str, *words: str) -> list[str]:
    """Return what bash offers for the last of these words, as with TAB behind it."""
    return shell(path, "bash", "--norc", "-c", BASH, "bash", "homelab-agent", *words).split()


@pytest.mark.parametrize(
    ("words", "offered"),
    [
        (("ga",), ["gate"]),
        (("gate", "cl"), ["close"]),
        (("logs", "--comp"), ["--component"]),
        (("logs", "--level", "w"), ["warning"]),
        (("reading", "rejected", "re"), ["retry"]),
        (("completion", ""), ["bash", "zsh", "fish"]),
        (("--deb",), ["--debug"]),
        (("privileged", "no such command", ""), []),
    ],
)
def test_bash_completes_commands_options_and_choices(path: str, words: tuple[str, ...], offered: list[str]) -> None:
    assert in_bash(path, *words) == offered


def test_bash_offers_all_commands_for_people_and_imports_none(path: str) -> None:
    offered = in_bash(path, "")
    assert {"run", "logs", "gate", "backup", "completion"} <= {*offered}
    assert not {"privileged", "state", "catalogue"} & {*offered}
    code = (
        "import sys; from homelab_agent.cli import commands as c;"
        "c.shell_complete(c.make_context('homelab-agent', [], resilient_parsing=True), '');"
        "print(*[name for name in sys.modules if name.startswith('homelab_agent.')])"
    )
    loaded = shell(path, sys.executable, "-c", f"import sys; sys.path.insert(0, {str(ROOT)!r}); {code}").split()
    assert not [name for name in loaded if "commands" in name]


ZSH = """
zmodload zsh/zpty
zpty shell zsh -f -i
zpty -w shell 'autoload -U compinit; compinit -u -D; source <(homelab-agent completion zsh); print -r -- "rea""dy"'
zpty -r -m shell said '*ready*'
zpty -w -n shell $'homelab-agent gate cl\\t'
zpty -r -m shell said '*gate close *'
print -r -- completed
zpty -d shell
"""
"""A shell in a terminal, in which somebody presses TAB."""


def test_zsh_takes_it_in(path: str) -> None:
    text = shell(path, "homelab-agent", "completion", "zsh")
    assert text.lstrip().startswith("#compdef homelab-agent\n"), "by which zsh finds it in its fpath"
    assert f"{completion.VARIABLE}=zsh_complete homelab-agent" in text
    assert offered_to(path, "zsh", COMP_WORDS="homelab-agent ga", COMP_CWORD="1").splitlines()[:2] == ["plain", "gate"]
    if zsh := shutil.which("zsh"):
        assert shell(path, zsh, "-f", "-c", ZSH).strip() == "completed"


def test_fish_takes_it_in(path: str) -> None:
    text = shell(path, "homelab-agent", "completion", "fish")
    assert "complete --no-files --command homelab-agent" in text
    assert f"{completion.VARIABLE}=fish_complete" in text
    assert offered_to(path, "fish", COMP_WORDS="homelab-agent ga", COMP_CWORD="ga").startswith("plain,gate")
    if fish := shutil.which("fish"):
        script = "homelab-agent completion fish | source; complete --do-complete 'homelab-agent gate cl'"
        assert shell(path, fish, "--no-config", "-c", script).split("\t")[0].strip() == "close"


def offered_to(path: str, kind: str, **variables: str) -> str:
    """Return what the program answers a shell of that kind."""
    words = [f"{name}={value}" for name, value in {**variables, completion.VARIABLE: f"{kind}_complete"}.items()]
    return shell(path, "env", *words, "homelab-agent")
