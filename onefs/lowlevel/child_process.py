"""Python child processes that run modules of onefs, and nothing of the user's working directory.

``python -m`` puts the working directory before the standard library, so that a user's ``json.py``
or ``random.py`` there would run in its stead. So children start in ``/``, with ``-P`` where Python
has it (3.11), and find the package after the standard library. Paths that they are given must be
absolute.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

#: runs the module of its second argument; the first is the folder that has the package. What lies
#: beside the package, in a checkout or a user's folder, comes last.
_BOOTSTRAP = """
import importlib.util, runpy, sys
root, module = sys.argv[1:3]
sys.path[:] = [path for path in sys.path if path not in ("", root)] + [root]
folder = root + "/onefs"
found = importlib.util.spec_from_file_location(
    "onefs", folder + "/__init__.py", submodule_search_locations=[folder]
)
sys.modules["onefs"] = package = importlib.util.module_from_spec(found)
found.loader.exec_module(package)
sys.argv[:] = [module, *sys.argv[3:]]
runpy.run_module(module, run_name="__main__", alter_sys=True)
"""
_SAFE_PATH_FLAGS = ("-P",) if sys.version_info >= (3, 11) else ()
#: the working directory of children
CHILD_WORKING_DIRECTORY = "/"


def child_command(module: str, *arguments: str) -> list[str]:
    """The command that runs a module of onefs as ``__main__``, in CHILD_WORKING_DIRECTORY."""
    root = str(Path(__file__).resolve().parents[2])
    return [sys.executable, *_SAFE_PATH_FLAGS, "-c", _BOOTSTRAP, root, module, *arguments]


def child_environment(without: tuple[str, ...] = ()) -> dict[str, str]:
    """The environment for a child, ``without`` some variables.

    Relative folders in ``PYTHONPATH`` mean our working directory, not the child's.
    """
    environment = {name: value for name, value in os.environ.items() if name not in without}
    folders = environment.pop("PYTHONPATH", "").split(os.pathsep)
    kept = [path for folder in folders if folder and (path := _absolute_or_empty(folder))]
    if kept:
        environment["PYTHONPATH"] = os.pathsep.join(kept)
    return environment


def _absolute_or_empty(folder: str) -> str:
    """'' for a relative folder where the working directory was deleted."""
    try:
        return os.path.abspath(folder)
    except FileNotFoundError:
        return ""
