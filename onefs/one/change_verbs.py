"""The methods that say what has changed in a database."""

from __future__ import annotations

from onefs.one.laboratory_client import LaboratoryClient


class ChangeVerbs(LaboratoryClient):
    """The methods that say what has changed in a database."""
