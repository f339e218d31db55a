"""``pprint``: prints values as JSON."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import fields, is_dataclass
from pathlib import PurePath
from typing import Any
from uuid import UUID

from onefs.one.info import summarize


def pprint(thing: Any) -> None:
    """Print a value as JSON, indented by 4 spaces.

    UUIDs and paths are printed as texts, and dataclasses as dicts. Arrays and tables are described
    in a few words.

    Args:
        thing: The value.
    """
    print(json.dumps(_to_json_value(thing), indent=4))


def _to_json_value(thing: Any) -> Any:
    """Return ``thing`` as a value that :mod:`json` can write (see :func:`pprint`)."""
    if thing is None or isinstance(thing, (str, bool, int, float)):
        return thing
    if isinstance(thing, (UUID, PurePath)):
        return str(thing)
    if is_dataclass(thing) and not isinstance(thing, type):
        return {each.name: _to_json_value(getattr(thing, each.name)) for each in fields(thing)}
    if isinstance(thing, Mapping):
        return {str(_to_json_value(key)): _to_json_value(value) for key, value in thing.items()}
    if hasattr(thing, "_asdict"):
        return _to_json_value(thing._asdict())
    if hasattr(thing, "dtype") and not getattr(thing, "shape", None):
        return _to_json_value(thing.item())
    if isinstance(thing, Iterable) and not hasattr(thing, "shape"):
        return [_to_json_value(each) for each in thing]
    return summarize(thing)
