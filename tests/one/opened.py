"""What a ``ONE`` object reads from, for the tests that look into its parts."""

from __future__ import annotations

from onefs.access import Access
from onefs.one import ONE


def access_of(one: ONE) -> Access:
    """Return the opened laboratory of ``one``."""
    found = one._laboratory
    assert isinstance(found, Access)
    return found
