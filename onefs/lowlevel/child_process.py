"""Child processes that run a module of onefs, and import nothing from the user's working directory.

``python -m`` puts the working directory before the standard library on the module path, so that a
user's ``json.py`` or ``random.py`` would be imported in place of Python's. Therefore children start
in ``/``, with ``-P`` where Python has it (3.11), and with the package behind the standard library.
Paths in their arguments must be absolute.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

#: runs the module that its second argument names; the first one is the folder of the package. That
#: folder comes last on the module path: it may be a checkout, or one of the user's with other files
_BOOTSTRAP = """
import importlib.util, runpy, sys
root, module = sys.argv[1:3]
sys.path[:] = [path for path in sys.path if path not in ("", root)] + [root]
folder = root + "/onefs"
spec = importlib.util.spec_from_file_location(
    "onefs", folder + "/__init__.py", submodule_search_locations=[folder]
)
sys.modules["onefs"] = package = importlib.util.module_from_spec(spec)
spec.loader.exec_module(package)
sys.argv[:] = [module, *sys.argv[3:]]
runpy.run_module(module, run_name="__main__", alter_sys=True)
"""
_SAFE_PATH_FLAGS = ("-P",) if sys.version_info >= (3, 11) else ()
#: the working directory of children
CHILD_WORKING_DIRECTORY = "/"


def start_child(
    module: str,
    *arguments: str,
    environment: Mapping[str, str] | None = None,
    **options: Any,
) -> subprocess.Popen[bytes]:
    """Start a module of onefs as ``__main__``, with a pipe as its standard input.

    ``environment`` is :func:`child_environment` by default. ``options`` are those of
    ``subprocess.Popen``. Raises OSError.
    """
    return subprocess.Popen(
        child_command(module, *arguments),
        cwd=CHILD_WORKING_DIRECTORY,
        env=child_environment() if environment is None else environment,
        stdin=subprocess.PIPE,
        **options,
    )


def child_command(module: str, *arguments: str) -> list[str]:
    """Return the command that runs a module of onefs, for use in CHILD_WORKING_DIRECTORY."""
    root = str(Path(__file__).resolve().parents[2])
    return [sys.executable, *_SAFE_PATH_FLAGS, "-c", _BOOTSTRAP, root, module, *arguments]


def child_environment(without: tuple[str, ...] = ()) -> dict[str, str]:
    """Return this process's environment for a child, ``without`` some variables.

    Relative folders in ``PYTHONPATH`` become absolute: the child's working directory is another.
    """
    environment = {name: value for name, value in os.environ.items() if name not in without}
    folders = environment.pop("PYTHONPATH", "").split(os.pathsep)
    kept = [path for folder in folders if folder and (path := _absolute_or_empty(folder))]
    if kept:
        environment["PYTHONPATH"] = os.pathsep.join(kept)
    return environment


def _absolute_or_empty(folder: str) -> str:
    """Return a folder's absolute path; '' if it is relative to a deleted working directory."""
    try:
        return os.path.abspath(folder)
    except FileNotFoundError:
        return ""
