"""Which events the program logs, read from its code: every way in which it names one, and none that hides one."""

from __future__ import annotations

import ast
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeAlias

LEVELS = frozenset({"debug", "info", "warning", "error", "critical", "exception"})
OWN = ("journal", "_own_event")
"""The journal itself names its events so, or as `{"event": ...}`: it has no logger."""

Function: TypeAlias = ast.FunctionDef | ast.AsyncFunctionDef | ast.Module


class Hidden(AssertionError):
    """An event whose name cannot be read from the code."""


@dataclass(slots=True)
class Module:
    """One file: what is a logger in it, and which dictionaries of names it has."""

    path: Path
    tree: ast.Module
    loggers: set[str] = field(default_factory=set)
    tables: dict[str, list[str]] = field(default_factory=dict)

    @classmethod
    def read(cls, path: Path) -> Module:
        module = cls(path, ast.parse(path.read_text()))
        for node in ast.walk(module.tree):
            if isinstance(node, ast.Assign) and len(node.targets) == 1:
                target, value = ast.unparse(node.targets[0]), node.value
                if _is_logger(value):
                    module.loggers.add(target)
                if isinstance(value, ast.Dict) and all(_text(one) for one in value.values):
                    module.tables[target] = [_text(one) for one in value.values]
        return module

    def events(self) -> Iterator[str]:
        """Yield each event that is logged here; raises `Hidden`."""
        for function in ast.walk(self.tree):
            if isinstance(function, Function):
                yield from self._of(function)
        if "core/journal/" in self.path.as_posix():
            yield from self._own()

    def _of(self, function: Function) -> Iterator[str]:
        """Yield what one function logs, also through a local name for one of several levels (`tell = ...`)."""
        nodes = list(_within(function))
        tells = {
            ast.unparse(node.targets[0])
            for node in nodes
            if isinstance(node, ast.Assign) and any(map(self._is_level, _chosen(node.value)))
        }
        said = [node for node in nodes if isinstance(node, ast.Call) and self._tells(node.func, tells)]
        for call in said:
            yield from self._names(call)
        known = {id(one) for call in said for one in _chosen(call.func)}
        known |= {id(one) for node in nodes if isinstance(node, ast.Assign) for one in _chosen(node.value)}
        for node in nodes:
            if isinstance(node, ast.Attribute) and self._is_level(node) and id(node) not in known:
                raise Hidden(f"{self.path}:{node.lineno}: {ast.unparse(node)} is neither called nor chosen")

    def _tells(self, function: ast.expr, tells: set[str]) -> bool:
        return ast.unparse(function) in tells or any(map(self._is_level, _chosen(function)))

    def _is_level(self, node: ast.expr) -> bool:
        if not isinstance(node, ast.Attribute) or node.attr not in LEVELS:
            return False
        return ast.unparse(node.value) in self.loggers or _is_logger(node.value)

    def _names(self, call: ast.Call) -> list[str]:
        first = call.args[0] if call.args else None
        if text := _text(first):
            return [text]
        if isinstance(first, ast.Subscript) and (table := self.tables.get(ast.unparse(first.value))):
            return table
        raise Hidden(f"{self.path}:{call.lineno}: the event is not named by a word: {ast.unparse(call)}")

    def _own(self) -> Iterator[str]:
        for node in ast.walk(self.tree):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr == OWN[1]:
                yield _text(node.args[0])
            if isinstance(node, ast.Dict):
                for key, value in zip(node.keys, node.values, strict=True):
                    if key is not None and _text(key) == "event" and "." in _text(value):
                        yield _text(value)


def events(package: Path) -> Mapping[Path, set[str]]:
    """Return the events of each file that logs any."""
    read = {path: set(Module.read(path).events()) for path in sorted(package.rglob("*.py"))}
    return {path: found for path, found in read.items() if found}


def _is_logger(node: ast.expr) -> bool:
    return isinstance(node, ast.Call) and ast.unparse(node.func) in {"journal.logger", "structlog.get_logger"}


def _within(function: Function) -> Iterator[ast.AST]:
    """Yield what is in a function, but not in those that are in it."""
    waiting: list[ast.AST] = list(ast.iter_child_nodes(function))
    while waiting:
        node = waiting.pop()
        yield node
        if not isinstance(node, Function):
            waiting += ast.iter_child_nodes(node)


def _chosen(node: ast.expr) -> list[ast.expr]:
    """Return an expression, or both of which a condition chooses one."""
    return [*_chosen(node.body), *_chosen(node.orelse)] if isinstance(node, ast.IfExp) else [node]


def _text(node: ast.expr | None) -> str:
    return node.value if isinstance(node, ast.Constant) and isinstance(node.value, str) else ""
