"""How a volume is made, as a copy notes it: without what may be a password; pure.

A copy may lie where others read it, and not be encrypted. What is left out is named, so that who has it come back knows
what to add.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from homelab_agent.backup.inventory import Volume

_SECRET = re.compile(r"\s*(pass(word)?2?|cred(entials)?)\s*(=|$)|\s*user(name)?=[^%]*%", re.IGNORECASE)
"""A word of mount's options that is a password, or leads to one (mount.cifs(8): `user=NAME%PASSWORD` is one, too)."""


def note(volume: Volume) -> dict[str, Any]:
    """Return it; `left_out` names the options, or words of the option `o`, that are not in it.

    Of the options of a plugin nobody knows what they mean.
    """
    if volume.driver == "local":
        options, left = _of_local(volume.options)
    else:
        options, left = {}, sorted(volume.options)
    return {"driver": volume.driver, "options": options, "labels": dict(volume.labels), "left_out": left}


def _of_local(options: Mapping[str, str]) -> tuple[dict[str, str], Sequence[str]]:
    words = options.get("o", "").split(",")
    secret = [one for one in words if _SECRET.match(one)]
    if not secret:
        return dict(options), []
    rest = {name: value for name, value in options.items() if name != "o"}
    if "" in words:  # a comma of a value is written twice: where that ends is not told
        return rest, ["o"]
    kept = [one for one in words if one not in secret]
    names = [f"{one.partition('=')[0].strip()} (of o)" for one in secret]
    return {**rest, **({"o": ",".join(kept)} if kept else {})}, names
