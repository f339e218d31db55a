"""The embedded laboratory: an Alyx and a FlatIron to try onefs without an account, and to test."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

from onefs.alf import SUBJECTS
from onefs.errors import OnefsError, UsageError

#: how often the laboratory's ids have been assigned anew; part of its name, so that no cache or
#: catalogue holds the ids of two assignments
GENERATION = 2


def demo_identity(data: Path | None) -> str:
    """Return a name for the laboratory that stays the same across restarts and ports.

    ``demo-``, the first 12 hex digits of the sha1 of the data folder's real path (of ``made``
    where ``data`` is None), ``-`` and the generation of its ids. Caches and databases of the
    demo have this name.
    """
    source = b"made" if data is None else os.fsencode(os.path.realpath(data))
    return f"demo-{hashlib.sha1(source).hexdigest()[:12]}-{GENERATION}"


def check_not_inside_lab(data: Path) -> None:
    """Raise UsageError for a folder inside a lab, naming the folder that holds the labs."""
    real = Path(os.path.realpath(data))
    if (real / SUBJECTS).is_dir():
        holder = real.parent
    elif real.name == SUBJECTS:
        holder = real.parent.parent
    else:
        return
    raise UsageError(f"{data} is a folder of one lab: name {holder}, which holds the labs")


def missing_library(error: ModuleNotFoundError) -> Exception:
    """Return the error to raise for a missing module: advice to install it where it is Flask."""
    if error.name in ("flask", "werkzeug"):
        return OnefsError('the demo needs Flask: pip install "onefs[demo]"')
    return error
