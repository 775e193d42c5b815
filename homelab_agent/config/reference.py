"""Writes `docs/configuration.md` and the JSON Schema, from the sections themselves."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from homelab_agent.config import environment, keys, profile, sample, words
from homelab_agent.config.keys import Group, Model

DIALECT = "https://json-schema.org/draft/2020-12/schema"
_HEAD = """\
# Configuration

<!-- Written by `homelab-agent config reference`; change the sections' `settings.py` instead. -->

One TOML file, found at `--config`, `$HOMELAB_AGENT_CONFIG`, `/etc/homelab-agent/config.toml` or
`./config.toml`, in this order. Without one every key has its default. A variable
`HOMELAB_AGENT__SECTION__KEY` goes before the file: `HOMELAB_AGENT__LOG__LEVEL=debug` is `log.level`.

- `homelab-agent config check` names every fault at once: key, line, value, what is expected, what is near.
- `homelab-agent config show` tells what is in force and where it came from.
- `homelab-agent config set KEY VALUE` changes one key and keeps the file's comments.
- `homelab-agent config sample` prints a commented file, `config schema` a JSON Schema for an editor.
- `homelab-agent reload` applies what applies on reload to the running agent; the rest waits for a restart. A
  faulty file changes nothing.
"""


def reference(root: Model) -> str:
    """Return the reference of every key as Markdown."""
    parts = [_HEAD]
    parts += ["\n".join(_section(group)) for group in keys.groups(root)]
    return "\n".join(parts)


def _section(group: Group) -> Iterator[str]:
    name = keys.dotted(group.path)
    yield f"## `[[{name}]]`" if group.repeated else f"## `[{name}]`"
    yield ""
    yield sample.documentation(group.model)
    if group.optional:
        yield "Off until it is there." if not group.repeated else "May be there any number of times."
    yield ""
    for key in group.keys:
        yield f"### `{keys.dotted(key.path)}`"
        yield ""
        yield str(key.field.description or "")
        yield ""
        yield f"- accepts: {words.accepts(group.model, key.path[-1])}"
        yield "- must be set" if key.field.is_required() else f"- default: {_code(sample.default(key))}"
        for named, value in profile.of_key(key.path).items():
            yield f"- with profile {named}: {_code(words.quantity(value, str(key.note('unit') or '')))}"
        if (example := key.note("example")) is not None:
            yield f"- example: {_code(keys.toml(keys.plain(example)))}"
        yield "- a change applies on reload" if key.note("reload") else "- a change needs a restart"
        if not group.repeated:
            yield f"- variable: `{environment.variable_of(key.path)}`"
        if old := key.renamed_from:
            yield f"- was called `{keys.dotted(old)}`, which still works"
        yield ""


def _code(text: str) -> str:
    return text if text == "empty" else f"`{text}`"


def schema(root: Model) -> dict[str, Any]:
    """Return the JSON Schema (2020-12) of the file; `unit` and `reload` are annotations of our own."""
    found = root.model_json_schema()
    for model in (found, *found.get("$defs", {}).values()):
        for name, described in list(model.get("properties", {}).items()):
            model["properties"][name] = _tidied(described)
            old = described.get("renamed_from")
            if old and "." not in old:
                model["properties"][old] = {**_tidied(described), "deprecated": True}
    return {"$schema": DIALECT, **found, "title": "homelab-agent's config.toml"}


def _tidied(described: dict[str, Any]) -> dict[str, Any]:
    """Return a key's schema without what is empty, its example under the standard's name."""
    kept = {
        name: value
        for name, value in described.items()
        if name not in {"example", "renamed_from", "title"} and not (name in {"unit", "reload", "secret"} and not value)
    }
    if described.get("example") is not None:
        kept["examples"] = [described["example"]]
    return kept
