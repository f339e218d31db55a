"""The syntax of ``django=``, ``extended_qc=`` and ``json=``: pairs joined by commas.

A filter is ``lookup,value[,lookup,value...]``. A row must fulfil all pairs. A pair that starts with
``~`` is inverted: a row must not fulfil the pair without ``~``. A value is None, ``true`` or
``false`` in upper or lower case, a number (read as a float), ``[..]`` or ``(..)`` (a Python list or
tuple), or any other text. The real server evaluates brackets as Python code. This server accepts
only literals.
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
    """One condition of a filter, such as ``lab__name,mylab``: a look-up's path, and its value.

    If ``excluded`` is True, a row must not fulfil the look-up.
    """

    path: str
    value: Any
    excluded: bool = False

    @property
    def field(self) -> str:
        """Return the first field of the look-up's path, such as ``lab`` of ``lab__name``."""
        return self.path.split("__")[0]


def read_lookups(text: str) -> list[DjangoLookup]:
    """Return the look-ups in the text of a filter.

    Raises ApiError 500, as Alyx does, if the text is invalid.
    """
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
    """Return a function that tests whether a row of the table ``model`` fulfils ``lookup``."""
    test = lookup_test(db, model, lookup.path, lookup.value)
    return (lambda row: not test(row)) if lookup.excluded else test


def json_test(db: DemoDatabase, model: str, field: str, text: str) -> Test:
    """Return the test for a filter of a JSON field, ``extended_qc=`` or ``json=``.

    The look-ups in ``text`` are paths inside the field ``field``.
    """
    lookups = [replace(each, path=f"{field}__{each.path}") for each in read_lookups(text)]
    tests = [django_test(db, model, lookup) for lookup in lookups]
    return lambda row: all(test(row) for test in tests)


def _split(text: str) -> Iterator[str]:
    """Yield the parts of a text between commas. Commas inside brackets do not separate parts."""
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
