"""Warnings by the methods of ``ONE``. Python can filter these warnings, or make them errors."""

from __future__ import annotations

import sys
import warnings
from pathlib import Path

from onefs.printable import printable

_PACKAGE_DIR = str(Path(__file__).parent)


class OnefsWarning(UserWarning):
    """Warning from a method of ``ONE``, for example that a dataset is missing or unreadable."""


def warn(sentence: str) -> None:
    """Issue a warning. The warning shows the line of the user's code that called ``ONE``."""
    level, frame = 1, sys._getframe()
    while frame.f_back is not None and frame.f_code.co_filename.startswith(_PACKAGE_DIR):
        level, frame = level + 1, frame.f_back
    warnings.warn(printable(sentence), OnefsWarning, stacklevel=level)
