"""What is said aside: by Python's warnings, so that it can be filtered, or made an error."""

from __future__ import annotations

import sys
import warnings
from pathlib import Path

from onefs.printable import printable

_PACKAGE_DIR = str(Path(__file__).parent)


class OnefsWarning(UserWarning):
    """Something is missing or could not be read, and the answer says so by a gap or a path."""


def warn(sentence: str) -> None:
    """Warn whoever called ``onefs.one``, at the caller's own line."""
    level, frame = 1, sys._getframe()
    while frame.f_back is not None and frame.f_code.co_filename.startswith(_PACKAGE_DIR):
        level, frame = level + 1, frame.f_back
    warnings.warn(printable(sentence), OnefsWarning, stacklevel=level)
