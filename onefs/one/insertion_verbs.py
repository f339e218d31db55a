"""The methods of ONE-api that search and name probe insertions."""

from __future__ import annotations

from onefs.one.laboratory_client import LaboratoryClient


class InsertionVerbs(LaboratoryClient):
    """The methods of ONE-api that search and name probe insertions."""
