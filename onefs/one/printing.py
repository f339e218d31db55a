"""``pprint``: things as JSON, for people."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import fields, is_dataclass
from pathlib import PurePath
from typing import Any
from uuid import UUID

from onefs.one.info import summary


def pprint(thing: Any) -> None:
    """Print ``json.dumps(thing, indent=4)``.

    UUIDs and paths become texts, dataclasses dicts, arrays and tables a few words.
    """
    print(json.dumps(_plain(thing), indent=4))


def _plain(thing: Any) -> Any:
    """``thing`` as JSON has it."""
    if thing is None or isinstance(thing, (str, bool, int, float)):
        return thing
    if isinstance(thing, (UUID, PurePath)):
        return str(thing)
    if is_dataclass(thing) and not isinstance(thing, type):
        return {each.name: _plain(getattr(thing, each.name)) for each in fields(thing)}
    if isinstance(thing, Mapping):
        return {str(_plain(key)): _plain(value) for key, value in thing.items()}
    if hasattr(thing, "_asdict"):
        return _plain(thing._asdict())
    if hasattr(thing, "dtype") and not getattr(thing, "shape", None):
        return _plain(thing.item())
    if isinstance(thing, Iterable) and not hasattr(thing, "shape"):
        return [_plain(each) for each in thing]
    return summary(thing)
