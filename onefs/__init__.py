"""onefs: the data of the International Brain Laboratory as files.

``from onefs import ONE, pprint`` imports the verbs of the ONE tutorial. Importing this package is
fast: numpy, requests and sqlite3 are not imported before one of the two is used.
"""

from __future__ import annotations

import importlib
import os
import sys
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from onefs.one import ONE, pprint

__version__ = "0.1.0"
__all__ = ["ONE", "__version__", "pprint"]


def _remove_deleted_cwd_from_sys_path() -> None:
    """Remove the working directory from the module path if it was deleted.

    Nothing can be imported from it, and libraries that search the path fail on it.
    """
    if "" in sys.path:
        try:
            os.getcwd()
        except FileNotFoundError:
            sys.path[:] = [folder for folder in sys.path if folder]


_remove_deleted_cwd_from_sys_path()


def __getattr__(name: str) -> Any:
    if name not in ("ONE", "pprint"):
        raise AttributeError(f"module 'onefs' has no attribute {name!r}")
    # by name, so that import-linter sees no import of onefs.one in this package, which all import
    return getattr(importlib.import_module("onefs.one"), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
