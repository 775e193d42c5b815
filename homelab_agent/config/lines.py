"""Where in the file each key stands, which `tomllib` does not say; reads text that `tomllib` has accepted."""

from __future__ import annotations

import contextlib
import re
from dataclasses import dataclass, field

from homelab_agent.config.keys import KeyPath

_SPACE = re.compile(r"[ \t]*")
_BLANK = re.compile(r"(?:[ \t\r\n,]+|#[^\n]*)*")
_STRING = re.compile(r'"""(?:\\.|[^\\])*?"{3,5}' r"|'''.*?'{3,5}" r'|"(?:\\.|[^"\\])*"' r"|'[^']*'", re.DOTALL)
_NAME = re.compile(r"[A-Za-z0-9_-]+")
_SCALAR = re.compile(r"[^,\]}#\r\n]*")


@dataclass(frozen=True, slots=True)
class Header:
    """A `[table]` or `[[array of tables]]` line and where its last statement ends (offsets into the text)."""

    path: KeyPath
    start: int
    end: int


@dataclass(slots=True)
class Map:
    """What stands where: the line of each table and key, the span of each value, the headers in order."""

    lines: dict[KeyPath, int] = field(default_factory=dict)
    values: dict[KeyPath, tuple[int, int]] = field(default_factory=dict)
    headers: list[Header] = field(default_factory=list)

    def line(self, path: KeyPath) -> int | None:
        """Return the line of the nearest thing that is there: the key, else the table that it belongs to."""
        return next((self.lines[path[:end]] for end in range(len(path), 0, -1) if path[:end] in self.lines), None)


def survey(text: str) -> Map:
    """Map a TOML document; of one nested absurdly deep, as far as it goes."""
    scanner = _Scanner(text)
    with contextlib.suppress(RecursionError):
        scanner.document()
    return scanner.map


class _Scanner:
    def __init__(self, text: str) -> None:
        self.text = text
        self.at = 0
        self.map = Map()
        self._entries: dict[KeyPath, int] = {}
        self._counted = (0, 1)

    def document(self) -> None:
        table: KeyPath = ()
        self._skip(_BLANK)
        while self.at < len(self.text):
            if self.text[self.at] == "[":
                table = self._header()
            else:
                self._statement(table)
                if self.map.headers:
                    last = self.map.headers[-1]
                    self.map.headers[-1] = Header(last.path, last.start, self.at)
            self._skip(_BLANK)

    def _header(self) -> KeyPath:
        start = self.at
        repeated = self.text.startswith("[[", start)
        self.at += 2 if repeated else 1
        *above, name = self._name()
        self.at += 2 if repeated else 1
        path: KeyPath = ()
        for step in above:
            path = self._entered((*path, step))
        path = (*path, name)
        if repeated:
            self._entries[path] = self._entries.get(path, 0) + 1
            self._note(path, start)
            path = self._entered(path)
        self._note(path, start)
        self.map.headers.append(Header(path, start, self.at))
        return path

    def _entered(self, path: KeyPath) -> KeyPath:
        return (*path, self._entries[path] - 1) if path in self._entries else path

    def _statement(self, table: KeyPath) -> None:
        start = self.at
        path = table
        for step in self._name():
            path = (*path, step)
            self._note(path, start)
        self.at += 1  # the equals sign
        self._skip(_SPACE)
        self._value(path)

    def _name(self) -> list[str]:
        """Read a key, bare, quoted or dotted, and the space around it."""
        steps = []
        while True:
            self._skip(_SPACE)
            quote = self.text[self.at]
            token = self._skip(_STRING if quote in "\"'" else _NAME)
            steps.append(_unquoted(token))
            self._skip(_SPACE)
            if self.text[self.at] != ".":
                return steps
            self.at += 1

    def _value(self, path: KeyPath) -> None:
        start = self.at
        match self.text[self.at]:
            case "[":
                self._list(path)
            case "{":
                self._inline_table(path)
            case '"' | "'":
                self._skip(_STRING)
            case _:
                self.at = start + len(self._skip(_SCALAR).rstrip())
        self.map.values[path] = (start, self.at)

    def _list(self, path: KeyPath) -> None:
        self.at += 1
        self._skip(_BLANK)
        index = 0
        while self.text[self.at] != "]":
            self._note((*path, index), self.at)
            self._value((*path, index))
            self._skip(_BLANK)
            index += 1
        self.at += 1

    def _inline_table(self, path: KeyPath) -> None:
        self.at += 1
        self._skip(_BLANK)
        while self.text[self.at] != "}":
            self._statement(path)
            self._skip(_BLANK)
        self.at += 1

    def _skip(self, pattern: re.Pattern[str]) -> str:
        found = pattern.match(self.text, self.at)
        token = found.group() if found else ""
        self.at += len(token)
        return token

    def _note(self, path: KeyPath, start: int) -> None:
        at, line = self._counted
        line += self.text.count("\n", at, start)
        self._counted = (start, line)
        self.map.lines.setdefault(path, line)


def _unquoted(token: str) -> str:
    if token[0] not in "\"'":
        return token
    import tomllib

    name: str = tomllib.loads(f"v = {token}")["v"]
    return name
