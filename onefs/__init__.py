"""onefs: the data of the International Brain Laboratory as files.

``from onefs import ONE, pprint`` imports the two names that the tutorial of ONE-api uses. To import
this package is fast, because numpy, requests and sqlite3 are imported only when ``ONE`` or
``pprint`` is used.
"""

from __future__ import annotations

import importlib
import os
import sys
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from onefs.one import ONE, pprint

#: the only place of the version: pyproject.toml reads it
__version__ = "0.2.0"
__all__ = ["ONE", "__version__", "pprint"]


def _remove_deleted_cwd_from_sys_path() -> None:
    """Remove the working directory from the module path if the directory was deleted."""
    # a library that searches the module path would raise an error at this directory
    if "" in sys.path:
        try:
            os.getcwd()
        except FileNotFoundError:
            sys.path[:] = [folder for folder in sys.path if folder]


_remove_deleted_cwd_from_sys_path()


def __getattr__(name: str) -> Any:
    if name not in ("ONE", "pprint"):
        raise AttributeError(f"module 'onefs' has no attribute {name!r}")
    # by name, because all modules import this package: import-linter must not see that it imports
    # onefs.one
    return getattr(importlib.import_module("onefs.one"), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
