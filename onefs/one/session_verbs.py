"""The methods of ONE-api that name sessions and datasets: eids, paths, refs and URLs."""

from __future__ import annotations

from onefs.one.laboratory_client import LaboratoryClient


class SessionVerbs(LaboratoryClient):
    """The methods of ONE-api that name sessions and datasets: eids, paths, refs and URLs."""
