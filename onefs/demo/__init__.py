"""The embedded laboratory: an Alyx and a file server, for tests and for trying onefs.

No account is needed.
"""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

from onefs.alf import SUBJECTS
from onefs.errors import OnefsError, UsageError

#: the number of times that the ids of the laboratory have been assigned. The number is part of the
#: laboratory's name, so that no cache or catalogue holds the ids of two assignments
GENERATION = 2


def demo_identity(data: Path | None) -> str:
    """Return the name for the caches and databases of a demo laboratory.

    The name is ``demo-<digits>-<GENERATION>``. It is the same after a restart and on other ports.

    - digits: the first 12 hex digits of the sha1 of the real path of ``data``, or of the word
      ``made`` if ``data`` is None
    - GENERATION: a number that is raised when new ids are given to the demo's sessions and files
    """
    source = b"made" if data is None else os.fsencode(os.path.realpath(data))
    return f"demo-{hashlib.sha1(source).hexdigest()[:12]}-{GENERATION}"


def check_not_inside_lab(data: Path) -> None:
    """Raise UsageError if ``data`` is the folder of one lab, or the lab's ``Subjects`` folder.

    The error names the folder that holds all labs.
    """
    real = Path(os.path.realpath(data))
    if (real / SUBJECTS).is_dir():
        holder = real.parent
    elif real.name == SUBJECTS:
        holder = real.parent.parent
    else:
        return
    raise UsageError(f"{data} is a folder of one lab: name {holder}, which holds the labs")


def missing_library(error: ModuleNotFoundError) -> Exception:
    """Return the error to raise after the import of a module has failed with ``error``.

    If Flask or Werkzeug is missing, this error says how to install Flask. Otherwise it is
    ``error``.
    """
    if error.name in ("flask", "werkzeug"):
        return OnefsError('the demo needs Flask: pip install "onefs[demo]"')
    return error
