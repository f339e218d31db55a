"""onefs: the laboratory as a directory.

``from onefs import ONE, pprint`` gives the verbs of the ONE tutorial. Importing this package is
cheap: it loads no numpy, requests, mfusepy or sqlite3 until one of the two is asked for.
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
    """Take the working directory off the module path where it was deleted.

    Nothing can be imported from it, and libraries that look through the path fail at it.
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
    # by name: what lies below imports this package, and must not seem to import what is above
    return getattr(importlib.import_module("onefs.one"), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
