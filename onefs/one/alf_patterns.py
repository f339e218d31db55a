"""Patterns of ALF names: regular expressions that select datasets by the parts of their paths.

The grammar and the arguments are those of ONE-api (``one.alf.spec``, ``one.util``). A dataset's
path below its session is::

    [collection/][#revision#/][_namespace_]object.attribute[_timescale][.extra].extension
"""

from __future__ import annotations

import fnmatch
import re
from collections.abc import Iterable, Mapping
from functools import lru_cache
from typing import NamedTuple

from onefs.errors import UsageError
from onefs.one.alf_grammar import FILE, PARTS, pattern

#: the end of a pattern that ``fnmatch.translate`` has made
_END = re.compile(r"\\[Zz]$")
#: a ``*`` at the beginning of such a pattern
_LEADING_STAR = re.compile(r"^(\(\?s:)?\.\*")


class AlfParts(NamedTuple):
    """The parts of a file's name. A part that the name lacks is None."""

    namespace: str | None
    object: str
    attribute: str
    timescale: str | None
    extra: str | None
    extension: str


@lru_cache(maxsize=8192)
def parse_name(name: str) -> AlfParts | None:
    """Return the parts of a file's name. Return None if the name is not an ALF name."""
    match = pattern(FILE).match(name)
    return AlfParts(**match.groupdict()) if match is not None else None


def path_pattern(
    filename: object,
    collection: object,
    revision: object,
    *,
    match_revision: bool,
    wildcards: bool,
) -> re.Pattern[str]:
    """Return a pattern that matches the beginning of the paths of the selected datasets.

    - ``filename`` is a pattern or a list of patterns, or a dict with patterns of a name's parts.
    - ``collection`` and ``revision`` are patterns or lists of patterns. None matches any value, and
      '' only a path without this part. If ``match_revision`` is False, ``revision`` is not used.
    - ``wildcards``: whether patterns are those of the shell. Otherwise they are regular
      expressions.

    Raises UsageError for an argument that is not a pattern.
    """
    given: dict[str, object] = {"collection": collection}
    filename = filename or {}
    if isinstance(filename, Mapping):
        given.update(filename)
    if match_revision:
        given["revision"] = revision
    unknown = next((name for name in given if name not in PARTS), None)
    if unknown is not None:
        raise UsageError(
            f"{ascii(unknown)[:80]} is no part of an ALF name: the parts are "
            "namespace, object, attribute, timescale, extra and extension"
        )
    patterns = dict(PARTS)
    for part, value in given.items():
        if value is not None:
            patterns[part] = _joined(part, value, wildcards)
    folders = _folder_pattern(collection, revision if match_revision else None, patterns)
    if isinstance(filename, Mapping):
        name = _name_pattern(filename, patterns)
    else:
        name = _whole_name_pattern(filename, wildcards)
    try:
        return re.compile(f"^{folders}{name}")
    except re.error as error:
        raise UsageError(
            f"the pattern of a dataset is no regular expression ({error}): "
            "with wildcards=True, * and ? stand for any text"
        ) from error


def _folder_pattern(collection: object, revision: object, patterns: Mapping[str, str]) -> str:
    spec = ""
    for value, text in (
        (collection, f"{_group('collection', patterns)}/"),
        (revision, f"#{_group('revision', patterns)}#/"),
    ):
        if value:
            spec += text
        elif value is None:
            spec += f"({text})?"
    return spec


def _name_pattern(given: Mapping[str, object], patterns: Mapping[str, str]) -> str:
    """Return the pattern of a file's name. A part in ``given`` with a pattern must be there."""
    namespace, timescale, extra = (
        "" if given.get(part) is not None else default
        for part, default in (("namespace", "?"), ("timescale", "?"), ("extra", "*"))
    )
    return (
        f"_?{_group('namespace', patterns)}{namespace}_?{_group('object', patterns)}"
        rf"\.{_group('attribute', patterns)}(?:_{_group('timescale', patterns)}){timescale}"
        rf"(?:\.{_group('extra', patterns)}){extra}\.{_group('extension', patterns)}$"
    )


def _group(part: str, patterns: Mapping[str, str]) -> str:
    return f"(?P<{part}>{patterns[part]})"


def _whole_name_pattern(filename: object, wildcards: bool) -> str:
    """Return the pattern of whole names, as an alternative for each name in ``filename``."""
    names = _texts("filename", filename)
    if wildcards:
        # a star at the beginning stands for no folder: the folders have a pattern of their own
        alternatives = [_LEADING_STAR.sub(r"\g<1>[^/]*", fnmatch.translate(name)) for name in names]
    else:
        alternatives = [f"{name}$" for name in names]
    return f"(?:{'|'.join(alternatives)})"


def _joined(part: str, value: object, wildcards: bool) -> str:
    texts = _texts(part, value)
    if wildcards:
        texts = [_END.sub("", fnmatch.translate(text)) for text in texts]
    return "|".join(texts)


def _texts(part: str, value: object) -> list[str]:
    texts = [value] if isinstance(value, str) else value
    if not isinstance(texts, Iterable) or isinstance(texts, (bytes, Mapping)):
        raise UsageError(f"the argument {part} is {type(value).__name__}: give a text or texts")
    listed = list(texts)
    if not all(isinstance(text, str) for text in listed):
        raise UsageError(f"the argument {part} contains a value that is not a text: give texts")
    return listed
