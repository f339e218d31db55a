"""The known name that is most similar to a misspelt one.

The module of Python that finds it is slow to import, and is needed after a typing error only.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable


def most_similar(given: str, known: Iterable[str]) -> str:
    """Return the known name that is most similar, or '' if no known name is similar."""
    return next(iter(difflib.get_close_matches(given.casefold(), list(known), 1)), "")
