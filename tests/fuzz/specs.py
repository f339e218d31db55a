"""Descriptions of odd texts and values in JSON, and what they stand for.

An input is kept as a small JSON file, although what it makes a server send may be megabytes: a
long text is described by its token and its length, deep nesting by its depth. An object with a
single key that begins with ``$`` is a description, everything else stands for itself.
"""

from __future__ import annotations

import re
from functools import lru_cache
from typing import Any

Json = Any

_URL = re.compile(r"([A-Za-z]+)://([^/]*)(.*)", re.DOTALL)
#: nested lists and objects are spelt as text, since Python's own encoder gives up at 1,000
RAW = "\0raw:"


def text(spec: Json) -> str:
    """The text of a description; a text stands for itself."""
    if isinstance(spec, str):
        return spec
    return _repeated(
        str(spec.get("before", "")),
        str(spec["token"]) or "x",
        int(spec["size"]),
        str(spec.get("after", "")),
    )


@lru_cache(maxsize=4)
def _repeated(before: str, token: str, size: int, after: str) -> str:
    return before + token * max(size // len(token), 1) + after


def value(spec: Json, old: Json = None) -> Json:
    """The value of a description, in the place of ``old``.

    ``{"$text": ...}`` is a text, ``{"$integer": "123"}`` an integer of any length, ``{"$nested":
    depth}`` lists in lists, ``{"$url": {part: text}}`` the old URL with a part replaced,
    ``{"$edit": [where, removed, inserted]}`` the old text with a piece replaced.
    """
    if not isinstance(spec, dict) or len(spec) != 1:
        return spec
    kind, given = next(iter(spec.items()))
    if kind == "$text":
        return text(given)
    if kind == "$integer":
        return RAW + given
    if kind == "$nested":
        return RAW + "[" * given + "]" * given
    if kind == "$url":
        return _url(given, old)
    if kind == "$edit":
        return _edited(str(old if old is not None else ""), *given)
    return spec


def _edited(old: str, where: int, removed: int, inserted: str) -> str:
    at = where % (len(old) + 1)
    return old[:at] + inserted + old[at + removed :]


def _url(parts: dict[str, str], old: Json) -> str:
    match = _URL.fullmatch(old) if isinstance(old, str) else None
    scheme, host, path = match.groups() if match else ("http", "127.0.0.1:9", "/x")
    scheme, host = parts.get("scheme", scheme), parts.get("host", host)
    return f"{scheme}://{host}{parts.get('path', path)}"
