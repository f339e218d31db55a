"""The language of ``django=`` (and of ``extended_qc=`` and ``json=``): pairs joined by commas.

``lookup,value[,lookup,value...]``, all of which must hold; ``~lookup`` excludes. A value is None,
``true``/``false`` in any case, a number (a float), ``[..]`` or ``(..)`` (a Python list), else the
text as it is. The real server evaluates the brackets as Python; here they are literals only.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

from onefs.demo.rest.database import DemoDatabase
from onefs.demo.rest.errors import failure
from onefs.demo.rest.lookups import Test, lookup_test

_NUMBER = re.compile(r"[0-9]+(?:\.[0-9]+)?")
_CLOSING = {"[": "]", "(": ")"}


@dataclass(frozen=True, slots=True)
class DjangoLookup:
    """One pair, parsed."""

    path: str
    value: Any
    excluded: bool = False

    @property
    def field(self) -> str:
        """The first field of the path."""
        return self.path.split("__")[0]


def read_lookups(text: str) -> list[DjangoLookup]:
    """Return the pairs of a filter. Raises ApiError 500, as Alyx does, for an invalid text."""
    parts = list(_split(text))
    if len(parts) % 2:
        raise failure("list index out of range")
    paths, texts = parts[::2], parts[1::2]
    if len(set(paths)) < len(paths):
        raise failure(f'Duplicated fields in "{text}"')
    return [
        DjangoLookup(path.removeprefix("~"), _value(value), path.startswith("~"))
        for path, value in zip(paths, texts, strict=True)
    ]


def django_test(db: DemoDatabase, model: str, lookup: DjangoLookup) -> Test:
    """Return the test of one pair on rows of ``model``."""
    test = lookup_test(db, model, lookup.path, lookup.value)
    return (lambda row: not test(row)) if lookup.excluded else test


def json_test(db: DemoDatabase, model: str, field: str, text: str) -> Test:
    """Return the test of ``extended_qc=`` or ``json=``: look-ups inside one field."""
    lookups = [replace(each, path=f"{field}__{each.path}") for each in read_lookups(text)]
    tests = [django_test(db, model, lookup) for lookup in lookups]
    return lambda row: all(test(row) for test in tests)


def _split(text: str) -> Iterator[str]:
    """Yield the parts between commas outside brackets."""
    part, closing = "", ""
    for char in text:
        if char == "," and not closing:
            yield part
            part = ""
            continue
        if char == closing:
            closing = ""
        elif not closing:
            closing = _CLOSING.get(char, "")
        part += char
    yield part


def _value(text: str) -> Any:
    if text == "None":
        return None
    if text.lower() in ("true", "false"):
        return text.lower() == "true"
    if _NUMBER.fullmatch(text):
        return float(text)
    if text[:1] in _CLOSING:
        return _literal(text)
    return text


def _literal(text: str) -> Any:
    try:
        tree = ast.parse(text, mode="eval")
    except (SyntaxError, ValueError, MemoryError, RecursionError):
        raise failure("invalid syntax (<string>, line 1)") from None
    names = [node.id for node in ast.walk(tree) if isinstance(node, ast.Name)]
    if names:
        raise failure(f"name '{names[0]}' is not defined")
    try:
        return ast.literal_eval(tree)
    except (ValueError, TypeError, MemoryError, RecursionError):
        raise failure("malformed value") from None
