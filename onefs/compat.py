"""Old scripts as they are: ``python -m onefs.compat SCRIPT``, or ``import onefs.compat`` before.

Scripts of 2019 and 2020 import ``ONE`` from ``oneibl.one`` and ``pprint`` from ``ibllib.misc``.
Where these packages are not installed, these two names are those of onefs. An installed package is
used instead, since it is found first.
"""

from __future__ import annotations

import importlib
import logging
import os
import runpy
import sys
from collections.abc import Sequence
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType, TracebackType
from typing import Any

log = logging.getLogger(__name__)

_USAGE = "usage: python -m onefs.compat SCRIPT [ARGUMENT...] | -m MODULE ... | -c CODE ..."
_EXIT_USAGE = 2
#: by module, the names that it has
_NAMES: dict[str, tuple[str, ...]] = {
    "oneibl": (),
    "oneibl.one": ("ONE", "SessionDataInfo", "pprint"),
    "oneibl.dataclass": ("SessionDataInfo",),
    "ibllib": (),
    "ibllib.misc": ("pprint",),
}


class _OldModules(MetaPathFinder, Loader):
    """Finds and makes the modules in :data:`_NAMES`."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        package, _, _ = fullname.rpartition(".")
        # an installed package that lacks the module lacks it for a reason
        is_ours = not package or getattr(sys.modules.get(package), "__loader__", None) is self
        if fullname not in _NAMES or not is_ours:
            return None
        return ModuleSpec(fullname, self, origin="onefs.compat", is_package=not package)

    def exec_module(self, module: ModuleType) -> None:
        one = importlib.import_module("onefs.one")
        for name in _NAMES[module.__name__]:
            setattr(module, name, _make_one() if name == "ONE" else getattr(one, name))


def install() -> None:
    """Let ``oneibl.one`` and ``ibllib.misc`` be imported, if they are not installed."""
    if not any(isinstance(each, _OldModules) for each in sys.meta_path):
        sys.meta_path.append(_OldModules())  # at the end, so that installed packages are found


def _make_one() -> type[Any]:
    """Return the class ``ONE`` for old scripts.

    Where the variable ONEFS_URL is set, the database and the login come from the variables, because
    many old scripts name a server that exists no more.
    """
    base: type[Any] = importlib.import_module("onefs").ONE

    class ONE(base):  # type: ignore[misc]  # the class is loaded when it is needed
        def __init__(
            self,
            username: str | None = None,
            password: str | None = None,
            base_url: str | None = None,
            *arguments: Any,
            **more: Any,
        ) -> None:
            wanted = os.environ.get("ONEFS_URL")
            if wanted and base_url and base_url.rstrip("/") != wanted.rstrip("/"):
                log.warning("the script names the database %s: ONEFS_URL is used", base_url)
                username = password = base_url = None
            super().__init__(username, password, base_url, *arguments, **more)

    ONE.__doc__ = base.__doc__
    ONE.__module__, ONE.__qualname__ = "oneibl.one", "ONE"
    return ONE


def main(arguments: Sequence[str]) -> None:
    """Run a script, a module or code as ``python`` does, with the old modules.

    Its arguments, exit code and traceback are those that it has without onefs.
    """
    if not arguments or arguments[0] in ("-h", "--help") or arguments[0:] in (["-m"], ["-c"]):
        sys.stderr.write(f"{_USAGE}\n")
        sys.exit(0 if arguments[:1] in (["-h"], ["--help"]) else _EXIT_USAGE)
    sys.excepthook = _print_without_own_frames
    kind, rest = arguments[0], list(arguments[1:])
    if kind == "-m":
        sys.argv = rest
        sys.path[0] = os.getcwd()
        runpy.run_module(rest[0], run_name="__main__", alter_sys=True)
    elif kind == "-c":
        sys.argv = ["-c", *rest[1:]]
        sys.path[0] = ""
        names = _new_main().__dict__
        exec(compile(rest[0], "<string>", "exec"), names)
    else:
        _run_script(kind, rest)


def _run_script(script: str, arguments: list[str]) -> None:
    try:
        with open(script, "rb") if not os.path.isdir(script) else os.scandir(script):
            pass
    except OSError as error:
        from onefs.errors import reason_of

        reason = reason_of(error, script)
        sys.stderr.write(f"onefs: the script {script} cannot be opened: {reason}\n")
        sys.exit(_EXIT_USAGE)
    sys.argv = [script, *arguments]
    if not os.path.isdir(script):  # runpy itself adds a folder
        sys.path[0] = os.path.dirname(os.path.realpath(script))
    runpy.run_path(script, run_name="__main__")


def _new_main() -> ModuleType:
    module = sys.modules["__main__"] = ModuleType("__main__")
    return module


def _print_without_own_frames(
    kind: type[BaseException], error: BaseException, traceback: TracebackType | None
) -> None:
    """Print an error as Python does, from the first line of the script on."""
    own = (__file__, runpy.__file__)
    while traceback is not None and _file_of(traceback) in own:
        traceback = traceback.tb_next
    sys.__excepthook__(kind, error.with_traceback(traceback), traceback)


def _file_of(traceback: TracebackType) -> str:
    name = traceback.tb_frame.f_code.co_filename
    return runpy.__file__ if name == "<frozen runpy>" else name


install()

if __name__ == "__main__":
    main(sys.argv[1:])
