"""A database's own programs, run in its container.

Passwords are taken there, by the container's shell, from its own variables and the files that they name: none comes to
us, and none stands in an argument.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field, replace

from homelab_agent.backup.control import Control
from homelab_agent.backup.dumps.errors import SaidTooMuch

ASK_SECONDS = 60.0
"""How long a short question may take."""
_TEXT_BYTES = 32 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class Inside:
    """Where programs are run: in which container, as which of its users ("": its own), after which words.

    `before` stands before each command, and ends in what runs the words after it (`sh -c '... exec "$@"' sh`).
    """

    control: Control
    container: str
    user: str = ""
    env: Mapping[str, str] = field(default_factory=dict)
    before: Sequence[str] = ()
    seconds: float = ASK_SECONDS

    def given(self, *, seconds: float) -> Inside:
        """Return the same with another bound of time for each command."""
        return replace(self, seconds=seconds)

    def run(
        self, *argv: str, stdin: AsyncIterator[bytes] | None = None
    ) -> AbstractAsyncContextManager[AsyncIterator[bytes]]:
        """Run a command, and give what it writes; its end raises where it failed, as `Control.execute` says."""
        words = [*self.before, *argv]
        return self.control.execute(
            self.container, words, user=self.user, env=self.env, stdin=stdin, seconds=self.seconds
        )

    async def text(self, *argv: str, given: str | AsyncIterator[bytes] | None = None) -> str:
        """Run a command whose output is short, and return that; `given` is its input. Raises `SaidTooMuch` too."""
        stdin = each([given.encode(errors="surrogateescape")]) if isinstance(given, str) else given
        said = bytearray()
        async with self.run(*argv, stdin=stdin) as pieces:
            async for piece in pieces:
                said += piece
                if len(said) > _TEXT_BYTES:
                    raise SaidTooMuch(program=argv[0], container=self.container, bytes=_TEXT_BYTES)
        return said.decode(errors="surrogateescape").strip()


@dataclass(frozen=True, slots=True)
class Way:
    """A way in that may be one: as which user of the container, with which variables."""

    user: str = ""
    env: Mapping[str, str] = field(default_factory=dict)


async def each(pieces: Iterable[bytes]) -> AsyncIterator[bytes]:
    """Give these, one after the other."""
    for piece in pieces:
        yield piece


def with_password(variable: str, names: Sequence[str]) -> Sequence[str]:
    """Return what has a command find a password as `variable`: the first of `names`, or of the files NAME_FILE.

    What the container has set as that variable itself comes first.
    """
    return ("sh", "-c", _FINDING, "sh", variable, " ".join(names))


_FINDING = """
into=$1 names=$2
shift 2
eval "found=\\${$into-}"
for name in $names; do
    [ -z "$found" ] || break
    eval "found=\\${$name-} file=\\${${name}_FILE-}"
    [ -n "$found" ] || [ ! -r "$file" ] || found=$(cat "$file")
done
[ -z "$found" ] || export "$into=$found"
exec "$@"
"""
