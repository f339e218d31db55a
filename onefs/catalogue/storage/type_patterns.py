"""Alyx's dataset types of file names, by the rule with which Alyx registers files.

A type has a ``filename_pattern`` with wildcards, which is compared with the whole name, ignoring
case; a type without a pattern applies to files whose ``object.attribute`` is the type's name.
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

#: length of the longest pattern that Alyx stores
_MAX_PATTERN_LENGTH = 255
_NAMESPACE_PREFIX = re.compile("_[a-zA-Z0-9]+_")
#: the clock that follows an attribute in a name
_CLOCK_SUFFIX = re.compile(r"(\.[a-zA-Z0-9]+(?:_times|_intervals)?)_[^.]*", re.DOTALL)


class _Pattern(NamedTuple):
    dataset_type: str
    wildcards: str
    #: characters that are no wildcards
    literal_count: int


class TypePatterns:
    """The dataset types of a database, matched with file names. Thread-safe."""

    def __init__(self, rows: Iterable[object]) -> None:
        """``rows`` are those of ``/dataset-types``; invalid ones are ignored."""
        self._patterns: list[_Pattern] = []
        self._types_without_pattern: set[str] = set()
        self._type_by_name: dict[str, str] = {}
        for row in rows:
            if isinstance(row, dict):
                self._add(row.get("name"), row.get("filename_pattern") or "")

    def type_of(self, name: str) -> str:
        """The type of files of a name; '' if no type matches.

        If several match, which Alyx forbids, the one with the most literal characters.
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
            with suppress(re.error):  # a range in reverse order, in older Pythons
                fnmatchcase("", pattern)
                literal_count = len(pattern) - pattern.count("*") - pattern.count("?")
                self._patterns.append(_Pattern(name, pattern, literal_count))

    def _find(self, name: str) -> str:
        for candidate in candidate_types(name):
            if candidate in self._types_without_pattern:
                return candidate
        folded = name.casefold()
        matching = [each for each in self._patterns if fnmatchcase(folded, each.wildcards)]
        best = min(
            matching, key=lambda each: (-each.literal_count, each.dataset_type), default=None
        )
        return best.dataset_type if best is not None else ""


def candidate_types(name: str) -> list[str]:
    """The types that an ALF name implies: with namespace and clock, and without either."""
    whole = alf.dataset_type(name)
    if whole == "unknown":
        return [name.rpartition(".")[0] or name]
    plain = _NAMESPACE_PREFIX.sub("", whole, count=1)
    return [whole, plain, _CLOCK_SUFFIX.sub(r"\1", plain, count=1)]


@lru_cache(maxsize=4)
def parse_type_patterns(body: str) -> TypePatterns:
    """The types of a stored answer; none for a damaged one, and for ''."""
    try:
        rows = json.loads(body) if body else []
    except (ValueError, RecursionError):
        rows = []
    return TypePatterns(rows if isinstance(rows, list) else [])
