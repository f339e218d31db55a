"""Child processes that run a module of onefs, and import nothing from the user's working directory.

``python -m`` puts the working directory before the standard library on the module path. A user's
``json.py`` or ``random.py`` would then be imported in place of Python's module. Therefore child
processes start in ``/``, with the option ``-P`` (Python 3.11 and later). The folder that contains
the package ``onefs`` is behind the standard library on the module path. Paths in the arguments of a
child process must be absolute.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

#: a program that runs a module of onefs. Its first argument is the folder that holds the package,
#: its second argument is the name of the module. The folder comes last on the module path, because
#: it may be a checkout or a folder of the user, with other modules in it
_BOOTSTRAP = """
import sys  # built into Python, so it is imported from no folder
root, module = sys.argv[1:3]
sys.path[:] = [path for path in sys.path if path not in ("", root)] + [root]
import importlib.util, runpy
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

    The default ``environment`` is that of :func:`child_environment`. ``options`` are passed to
    ``subprocess.Popen``. Raises OSError if the child cannot be started.
    """
    return subprocess.Popen(
        child_command(module, *arguments),
        cwd=CHILD_WORKING_DIRECTORY,
        env=child_environment() if environment is None else environment,
        stdin=subprocess.PIPE,
        **options,
    )


def child_command(module: str, *arguments: str) -> list[str]:
    """Return the command that runs a module of onefs.

    The caller must start the command in CHILD_WORKING_DIRECTORY.
    """
    root = str(Path(__file__).resolve().parents[2])
    return [sys.executable, *_SAFE_PATH_FLAGS, "-c", _BOOTSTRAP, root, module, *arguments]


def child_environment(without: tuple[str, ...] = ()) -> dict[str, str]:
    """Return a copy of this process's environment, without the variables named in ``without``.

    Relative folders in ``PYTHONPATH`` become absolute, because the child gets another working
    directory.
    """
    environment = {name: value for name, value in os.environ.items() if name not in without}
    folders = environment.pop("PYTHONPATH", "").split(os.pathsep)
    kept = [path for folder in folders if folder and (path := _absolute_or_empty(folder))]
    if kept:
        environment["PYTHONPATH"] = os.pathsep.join(kept)
    return environment


def _absolute_or_empty(folder: str) -> str:
    """Return a folder's absolute path.

    Return '' if ``folder`` is a relative path and the working directory was deleted.
    """
    try:
        return os.path.abspath(folder)
    except FileNotFoundError:
        return ""
