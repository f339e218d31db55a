"""Warnings of the verbs, as Python warnings: they can be filtered, or made errors."""

from __future__ import annotations

import sys
import warnings
from pathlib import Path

from onefs.printable import printable

_PACKAGE_DIR = str(Path(__file__).parent)


class OnefsWarning(UserWarning):
    """A dataset is missing or unreadable: the result has a gap, or a path, in its place."""


def warn(sentence: str) -> None:
    """Warn at the line outside ``onefs.one`` that called it."""
    level, frame = 1, sys._getframe()
    while frame.f_back is not None and frame.f_code.co_filename.startswith(_PACKAGE_DIR):
        level, frame = level + 1, frame.f_back
    warnings.warn(printable(sentence), OnefsWarning, stacklevel=level)
