"""The methods of ONE's tutorial and of ONE-api (docs/tutorial.md, docs/ONE-SEMANTICS.md)."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from onefs.one.client import ONE
    from onefs.one.info import DatasetInfo, SessionDataInfo
    from onefs.one.pretty_print import pprint
    from onefs.one.warn import OnefsWarning

__all__ = ["ONE", "DatasetInfo", "OnefsWarning", "SessionDataInfo", "pprint"]

#: the module of each name. A command imports the few modules that it needs, and not all of ``ONE``
_MODULES = {
    "ONE": "client",
    "DatasetInfo": "info",
    "OnefsWarning": "warn",
    "SessionDataInfo": "info",
    "pprint": "pretty_print",
}


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module 'onefs.one' has no attribute {name!r}")
    value = getattr(importlib.import_module(f"onefs.one.{_MODULES[name]}"), name)
    globals()[name] = value
    return value
