"""Alyx's dataset types for file names, by the rule that Alyx uses when it registers files.

A type may have a ``filename_pattern`` with wildcards. The pattern is compared with the whole name,
ignoring case. A type without a pattern applies to files whose ``object.attribute`` is the type's
name.
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

#: largest number of characters in a pattern that Alyx stores
_MAX_PATTERN_LENGTH = 255
_NAMESPACE_PREFIX = re.compile("_[a-zA-Z0-9]+_")
#: the name of a clock, which follows an attribute in a file name
_CLOCK_SUFFIX = re.compile(r"(\.[a-zA-Z0-9]+(?:_times|_intervals)?)_[^.]*", re.DOTALL)


class _Pattern(NamedTuple):
    dataset_type: str
    wildcards: str
    #: number of characters that are not wildcards
    literal_count: int


class TypePatterns:
    """Alyx's dataset types, with their patterns for file names. Thread-safe."""

    def __init__(self, rows: Iterable[object]) -> None:
        """Read the types from ``rows``, the answer to ``/dataset-types``. Ignore invalid rows."""
        self._patterns: list[_Pattern] = []
        self._types_without_pattern: set[str] = set()
        self._type_by_name: dict[str, str] = {}
        for row in rows:
            if isinstance(row, dict):
                self._add(row.get("name"), row.get("filename_pattern") or "")

    def type_of(self, name: str) -> str:
        """Return the dataset type for a file name. Return '' if no type matches."""
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
            with suppress(re.error):  # older Pythons reject a range in reverse order, like [z-a]
                fnmatchcase("", pattern)
                literal_count = len(pattern) - pattern.count("*") - pattern.count("?")
                self._patterns.append(_Pattern(name, pattern, literal_count))

    def _find(self, name: str) -> str:
        for candidate in candidate_types(name):
            if candidate in self._types_without_pattern:
                return candidate
        folded = name.casefold()
        matching = [each for each in self._patterns if fnmatchcase(folded, each.wildcards)]
        # Alyx forbids that several patterns match; then the most specific pattern is used
        best = min(
            matching, key=lambda each: (-each.literal_count, each.dataset_type), default=None
        )
        return best.dataset_type if best is not None else ""


def candidate_types(name: str) -> list[str]:
    """Return the types that a file with the ALF name ``name`` may have.

    For ``_ibl_wheel.times_bpod.npy`` these are:

    - ``_ibl_wheel.times_bpod``
    - ``wheel.times_bpod``, without the namespace
    - ``wheel.times``, also without the clock (the name of a time scale)

    For any other name, return only the name without its extension.
    """
    whole = alf.dataset_type(name)
    if whole == "unknown":
        return [name.rpartition(".")[0] or name]
    plain = _NAMESPACE_PREFIX.sub("", whole, count=1)
    return [whole, plain, _CLOCK_SUFFIX.sub(r"\1", plain, count=1)]


@lru_cache(maxsize=4)
def parse_type_patterns(body: str) -> TypePatterns:
    """Return the types in ``body``, a stored answer to ``/dataset-types``.

    If ``body`` is '' or damaged, the returned patterns match no name.
    """
    try:
        rows = json.loads(body) if body else []
    except (ValueError, RecursionError):
        rows = []
    return TypePatterns(rows if isinstance(rows, list) else [])
