"""Which actions follow a deployment: the files that it changed, held against globs. Decisions only.

A glob stands for files of the repository, from its top:

- `*` is any part of one name, also of one that begins with a dot; `?` one character, `[abc]`, `[a-z]` and `[!a]` one
  of a class; none of them is a slash
- `**` in place of a name is any number of folders, also none: `**/compose.yml`, `a/**/b`; at the end it is all that
  is in a folder: `docs/**`
- a slash at the end is short for that: `docs/`; one at the beginning changes nothing

It is what git's pathspecs with the magic word `glob` mean (gitglossary(7)), without backslashes and named classes, and
a name without any of the above is a file, not all that is in a folder.
"""

from __future__ import annotations

from collections.abc import Sequence
from fnmatch import fnmatchcase
from functools import lru_cache

from homelab_agent.gitops.settings import Action

_ANY = "**"


def chosen(actions: Sequence[Action], paths: Sequence[str] | None) -> list[int]:
    """Return the positions of the actions that follow a change of these files, in order; None is every file."""
    if paths is None:
        return list(range(len(actions)))
    return [
        position
        for position, action in enumerate(actions)
        if any(matches(path, glob) for glob in action.paths for path in paths)
    ]


def matches(path: str, glob: str) -> bool:
    """Return whether a glob stands for a file."""
    return _fits(path.split("/"), _parts(glob))


@lru_cache(1024)
def _parts(glob: str) -> Sequence[str]:
    whole = glob + _ANY if glob.endswith("/") else glob
    return tuple(whole.removeprefix("/").replace("[^", "[!").split("/"))


def _fits(names: Sequence[str], parts: Sequence[str]) -> bool:
    """Return whether the parts of a glob fit a path's names; the work is at most their product."""
    name = part = 0
    anywhere, tried = -1, 0  # where the last `**` is, and from which name on what follows it was tried
    while name < len(names):
        if part < len(parts) and parts[part] == _ANY:
            anywhere, tried = part, name
            part += 1
        elif part < len(parts) and fnmatchcase(names[name], parts[part]):
            name, part = name + 1, part + 1
        elif anywhere >= 0:  # it does not fit from there: let the `**` take one name more
            tried += 1
            name, part = tried, anywhere + 1
        else:
            return False
    return part == len(parts)
