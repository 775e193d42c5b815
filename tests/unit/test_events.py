"""Each event that is logged is explained beside the code that logs it, and nothing else is."""

from __future__ import annotations

import re
import shlex
from importlib import metadata
from pathlib import Path

import click
import pytest

from homelab_agent import cli
from homelab_agent.core.journal import meaning
from homelab_agent.core.journal.sink import message_id
from tests import logged

ROOT = Path(__file__).parents[2]
PACKAGE = ROOT / "homelab_agent"
CATALOGUE = ROOT / "deploy/systemd/homelab-agent.catalog"
MEANINGS = meaning.read(PACKAGE)
LIBRARY = ".logged"
"""The end of an event's name that says what a library has logged."""


def file_for(module: Path) -> Path:
    """Return where the events of a module are explained: in the folder that is its room."""
    return PACKAGE.joinpath(*module.relative_to(PACKAGE).parts[:-1][:1], meaning.FILE)


def test_each_event_is_explained_beside_its_code() -> None:
    explained = {file: set(meaning.of_file(file)) for file in meaning.files(PACKAGE)}
    lacking = [
        f"{event} ({module.relative_to(ROOT)}): add its words to {file_for(module).relative_to(ROOT)}"
        for module, events in logged.events(PACKAGE).items()
        for event in sorted(events - explained.get(file_for(module), set()))
    ]
    assert not lacking, "\n".join(lacking)


def test_no_event_is_explained_that_there_is_not() -> None:
    said: dict[Path, set[str]] = {}
    for module, events in logged.events(PACKAGE).items():
        said.setdefault(file_for(module), set()).update(events)
    for file in meaning.files(PACKAGE):
        own = {name for name in meaning.of_file(file) if not name.endswith(LIBRARY)}
        assert own - said.get(file, set()) == set(), f"{file.relative_to(ROOT)}: take it out"


def test_what_hides_an_events_name_is_found(tmp_path: Path) -> None:
    module = tmp_path / "module.py"
    head = "log = journal.logger('x')\nNAMES = {1: 'x.one', 2: 'x.two'}\n"
    seen = {
        "def f(bad):\n    tell = log.warning if bad else log.info\n    tell('x.told')": {"x.told"},
        "def f(bad):\n    (log.debug if bad else log.info)('x.chosen', a=1)": {"x.chosen"},
        "def f(kind):\n    log.error(NAMES[kind])": {"x.one", "x.two"},
        "class C:\n  def f(self):\n    self._log = journal.logger('x')\n    self._log.info('x.own')": {"x.own"},
        "journal.logger('x').critical('x.at_once')": {"x.at_once"},
    }
    for code, names in seen.items():
        module.write_text(head + code)
        assert set(logged.Module.read(module).events()) == names
    for code in ("def f(name):\n    log.info(name)", "def f():\n    g(log.info)", "log.info(f'x.{1}')"):
        module.write_text(head + code)
        with pytest.raises(logged.Hidden):
            list(logged.Module.read(module).events())


def test_what_any_library_logs_is_explained() -> None:
    """Libraries log by the standard library's logging, under the name of their package."""
    ours = {name.removesuffix(LIBRARY) for name in MEANINGS if name.endswith(LIBRARY)}
    assert loggers() <= ours, "add it to core/events.toml: also of aiohttp.logged"
    assert ours <= loggers() | {"asyncio", "concurrent", "py"}


def loggers() -> set[str]:
    """Return which packages, of those that the program is installed with, make a logger."""
    wanted = re.findall(r"^([A-Za-z0-9_.-]+)==", (ROOT / "requirements/run.txt").read_text(), re.MULTILINE)
    names = {*wanted, "feedparser", "pymongo"}  # the extras'
    found = set()
    for name in names:
        try:
            files = metadata.files(name) or []
        except metadata.PackageNotFoundError:  # another system's
            continue
        for file in files:
            if file.suffix == ".py" and "getLogger(" in Path(str(file.locate())).read_text("utf-8", "replace"):
                found.add(file.parts[0].removesuffix(".py"))
    return found


@pytest.mark.parametrize("name", sorted(MEANINGS))
def test_what_is_said_of_an_event_is_short_and_says_what_to_run(name: str) -> None:
    one = MEANINGS[name]
    assert 10 <= len(one.subject) <= 80
    assert not one.subject.endswith(".")
    assert 5 <= len(one.text.split()) <= 90, "for who is woken by it"
    assert re.search(r"[.)]$", one.text)
    for command in one.run:
        for words in (shlex.split(part, comments=True) for part in command.split(";")):
            if "homelab-agent" in words[:2]:
                check(words[words.index("homelab-agent") + 1 :])


def check(words: list[str]) -> None:
    """Fail where the command line has no such command, option or number of words."""
    command: click.Command = cli.commands
    ctx = click.Context(command)
    while isinstance(command, click.Group) and words:
        found = command.get_command(ctx, words[0])
        assert found is not None, f"no command {words[0]}"
        command, words = found, words[1:]
    command.make_context("homelab-agent", [*words])


def test_the_catalogue_is_made_of_these_words() -> None:
    text = CATALOGUE.read_text()
    assert text == meaning.catalogue(MEANINGS), "make generate"
    assert {*re.findall(r"^-- ([0-9a-f]{32})$", text, re.MULTILINE)} == {message_id(name) for name in MEANINGS}
    assert not re.search("[^\x20-\x7e\n]", text), "a terminal at night may know no more than ASCII"
