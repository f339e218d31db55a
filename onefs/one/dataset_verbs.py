"""The methods of ONE-api that list and load datasets, by file name, object or collection."""

from __future__ import annotations

from onefs.one.laboratory_client import LaboratoryClient


class DatasetVerbs(LaboratoryClient):
    """The methods of ONE-api that list and load datasets, by file name, object or collection."""
