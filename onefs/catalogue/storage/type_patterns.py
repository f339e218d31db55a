"""Alyx's dataset types of file names, by the rule with which Alyx registers files.

A type has a ``filename_pattern`` with wildcards, which is compared with the whole name in any
case; a type without one is of files whose ``object.attribute`` is the type's name.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from contextlib import suppress
from fnmatch import fnmatchcase
from functools import lru_cache
from typing import Any, NamedTuple

from onefs import alf

#: longest pattern that Alyx keeps
_MAX_PATTERN_LENGTH = 255
_NAMESPACE_PREFIX = re.compile("_[a-zA-Z0-9]+_")
#: what follows an attribute in a name: the clock that it is of
_CLOCK_SUFFIX = re.compile(r"(\.[a-zA-Z0-9]+(?:_times|_intervals)?)_[^.]*", re.DOTALL)


class _Pattern(NamedTuple):
    dataset_type: str
    wildcards: str
    #: characters that are no wildcards
    literal_count: int


class TypePatterns:
    """The dataset types of a database, to tell them from names. Thread-safe."""

    def __init__(self, rows: Iterable[object]) -> None:
        """``rows`` as ``/dataset-types`` has them; those that make no sense are left out."""
        self._patterns: list[_Pattern] = []
        self._types_without_pattern: set[str] = set()
        self._type_by_name: dict[str, str] = {}
        for row in rows:
            if isinstance(row, dict):
                self._add(row.get("name"), row.get("filename_pattern") or "")

    def type_of(self, name: str) -> str:
        """The type of files of a name, '' when no type fits.

        Where several do, which Alyx forbids, it is the one that leaves the least to wildcards.
        """
        if name not in self._type_by_name:
            self._type_by_name[name] = self._find(name)
        return self._type_by_name[name]

    def _add(self, name: Any, pattern: Any) -> None:
        if not isinstance(name, str) or not isinstance(pattern, str) or not name:
            return
        pattern = pattern.strip().casefold()
        if not pattern:
            self._types_without_pattern.add(name)
        elif len(pattern) <= _MAX_PATTERN_LENGTH:
            with suppress(re.error):  # a range that runs backwards, in older Pythons
                fnmatchcase("", pattern)
                certain = len(pattern) - pattern.count("*") - pattern.count("?")
                self._patterns.append(_Pattern(name, pattern, certain))

    def _find(self, name: str) -> str:
        for form in candidate_types(name):
            if form in self._types_without_pattern:
                return form
        folded = name.casefold()
        fitting = [each for each in self._patterns if fnmatchcase(folded, each.wildcards)]
        best = min(fitting, key=lambda each: (-each.literal_count, each.dataset_type), default=None)
        return best.dataset_type if best is not None else ""


def candidate_types(name: str) -> list[str]:
    """What ALF's form of a name says: with its namespace and clock, and without either."""
    whole = alf.dataset_type(name)
    if whole == "unknown":
        return [name.rpartition(".")[0] or name]
    plain = _NAMESPACE_PREFIX.sub("", whole, count=1)
    return [whole, plain, _CLOCK_SUFFIX.sub(r"\1", plain, count=1)]


@lru_cache(maxsize=4)
def parse_type_patterns(body: str) -> TypePatterns:
    """The types of a kept answer; none for one that cannot be read, and for ''."""
    try:
        rows = json.loads(body) if body else []
    except (ValueError, RecursionError):
        rows = []
    return TypePatterns(rows if isinstance(rows, list) else [])
