"""The messages that onefs can print, read from its source: errors, and warnings.

A message is a text in which ``…`` stands for each value that is known at run time only.
"""

from __future__ import annotations

import ast
import builtins
import re
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import NamedTuple

PACKAGE = Path(__file__).parents[1] / "onefs"
VALUE = "…"
#: methods of a logger whose messages report trouble; the others report progress
_LOG_METHODS = {"warning", "error", "exception", "critical"}
#: functions that print or warn; `say` only with `err=True`
_PRINTING = {"warn", "say", "log", "_log_once", "_report"}
#: functions and classes whose texts become errors, or parts of them
_PARTS = {
    "ContentVerdict",
    "DatabaseError",
    "VerifyResult",
    "_fixed",
    "_unanswered_error",
    "_unusable_error",
    "gaierror",
    "no_terminal_error",
}
_LOGGING = {*_LOG_METHODS, "log", "_log_once"}
#: a value in a text for `str.format`, and in one for `%`
_FIELD = re.compile(r"\{[^}]*\}")
_LOG_VALUE = re.compile(r"%[-+0-9.,]*[a-z]")
#: a message has a word; what has none is the text of another error
_WORD = re.compile(r"[A-Za-z]{3}")
#: names that are followed through assignments and functions, at most
_MAX_DEPTH = 5


class Message(NamedTuple):
    """A message, where it is in the source, and the error or function that carries it."""

    text: str
    file: str
    line: int
    carrier: str


@dataclass
class Source:
    """The modules of the package, and what their names mean."""

    modules: dict[str, ast.Module]
    #: function -> the values that it returns
    returned: dict[str, list[ast.expr]]
    errors: set[str]


def read_source() -> Source:
    """Parse the package."""
    modules = {
        path.relative_to(PACKAGE).as_posix(): ast.parse(path.read_text("utf-8"))
        for path in sorted(PACKAGE.rglob("*.py"))
    }
    returned: dict[str, list[ast.expr]] = {}
    bases: dict[str, set[str]] = {}
    for node in (node for module in modules.values() for node in ast.walk(module)):
        if isinstance(node, ast.FunctionDef):
            values = [each.value for each in ast.walk(node) if isinstance(each, ast.Return)]
            returned.setdefault(node.name, []).extend(value for value in values if value)
        elif isinstance(node, ast.ClassDef):
            bases.setdefault(node.name, set()).update(name_of(base) for base in node.bases)
    errors = {
        name
        for name, value in vars(builtins).items()
        if isinstance(value, type) and issubclass(value, Exception)
    } | {"UsageError", "ClickException", "BadParameter"}
    while found := {name for name, names in bases.items() if names & errors} - errors:
        errors |= found
    return Source(modules, returned, errors)


def name_of(node: ast.expr) -> str:
    """Return the last part of a name; '' for another expression."""
    return node.attr if isinstance(node, ast.Attribute) else getattr(node, "id", "")


def assigned(scope: ast.AST, name: str) -> Iterator[ast.expr]:
    """Yield the values that ``name`` is given in a function or module."""
    for node in ast.walk(scope):
        if isinstance(node, ast.Assign):
            targets: list[ast.expr] = node.targets
        elif isinstance(node, (ast.AnnAssign, ast.AugAssign)) and node.value is not None:
            targets = [node.target]
        else:
            continue
        if node.value is not None and any(name_of(target) == name for target in targets):
            yield node.value


def texts(node: ast.expr, scopes: list[ast.AST], source: Source, depth: int = 0) -> set[str]:
    """Return the texts that an expression can have."""
    if isinstance(node, ast.Constant):
        return {node.value} if isinstance(node.value, str) else {VALUE}
    if isinstance(node, ast.JoinedStr):
        parts = [part_texts(each, scopes, source, depth) for each in node.values]
        return {"".join(chosen) for chosen in product(*parts)}
    if isinstance(node, ast.FormattedValue):
        return texts(node.value, scopes, source, depth)
    if isinstance(node, ast.IfExp):
        return texts(node.body, scopes, source, depth) | texts(node.orelse, scopes, source, depth)
    if isinstance(node, ast.BoolOp):
        return {text for each in node.values for text in texts(each, scopes, source, depth)}
    if isinstance(node, ast.BinOp) and isinstance(node.op, (ast.Add, ast.Mod)):
        left = texts(node.left, scopes, source, depth)
        if isinstance(node.op, ast.Mod):
            return {_LOG_VALUE.sub(VALUE, text) for text in left}
        return {a + b for a in left for b in texts(node.right, scopes, source, depth)}
    values: list[ast.expr] = []
    if depth < _MAX_DEPTH and isinstance(node, ast.Name):
        values = next((v for s in scopes if (v := list(assigned(s, node.id)))), [])
    elif depth < _MAX_DEPTH and isinstance(node, ast.Call):
        name = name_of(node.func)
        if name == "format" and isinstance(node.func, ast.Attribute):
            formats = texts(node.func.value, scopes, source, depth + 1)
            return {_FIELD.sub(VALUE, text) for text in formats}
        values = source.returned.get(name, [])
    return {text for each in values for text in texts(each, scopes, source, depth + 1)} or {VALUE}


def part_texts(node: ast.expr, scopes: list[ast.AST], source: Source, depth: int) -> set[str]:
    """Return the texts of a part of an f-string; of a value in braces if they are whole words."""
    if isinstance(node, ast.FormattedValue) and not isinstance(node.value, (ast.IfExp, ast.Name)):
        return {VALUE}
    found = texts(node, scopes, source, depth)
    if isinstance(node, ast.FormattedValue) and isinstance(node.value, ast.Name):
        return found if all(" " in text for text in found) else {VALUE}
    return found


def carrier_of(call: ast.Call, scopes: list[ast.AST], source: Source) -> str:
    """Return the error or function that carries a message; '' if the call carries none."""
    name = name_of(call.func)
    if name in source.errors | _LOG_METHODS | _PARTS:
        return name
    if name in _PRINTING and (name != "say" or any(each.arg == "err" for each in call.keywords)):
        return name
    if name == "__init__":
        within = next((each.name for each in scopes if isinstance(each, ast.ClassDef)), "")
        return within if within in source.errors else ""
    return ""


def calls(node: ast.AST, scopes: list[ast.AST]) -> Iterator[tuple[ast.Call, list[ast.AST]]]:
    """Yield the calls below ``node``, and the functions, classes and module around each."""
    if isinstance(node, (ast.FunctionDef, ast.ClassDef, ast.Module)):
        scopes = [node, *scopes]
    if isinstance(node, ast.Call):
        yield node, scopes
    for child in ast.iter_child_nodes(node):
        yield from calls(child, scopes)


def messages() -> list[Message]:
    """Return all messages, in the order of the source."""
    source = read_source()
    found: dict[Message, None] = {}
    for file, module in source.modules.items():
        for call, scopes in calls(module, []):
            carrier = carrier_of(call, scopes, source)
            if not carrier:
                continue
            for text in sorted(t for each in call.args for t in texts(each, scopes, source)):
                text = _FIELD.sub(VALUE, text) if carrier == "_fixed" else text
                text = _LOG_VALUE.sub(VALUE, text) if carrier in _LOGGING else text
                text = re.sub(rf"{VALUE}(?:{VALUE})+", VALUE, " ".join(text.split()))
                is_state = carrier in _PARTS and " " not in text
                if _WORD.search(text) and not is_state:
                    found[Message(text, file, call.lineno, carrier)] = None
    return list(found)


if __name__ == "__main__":
    for message in messages():
        print(*message, sep="\t")
