"""An Alyx REST server for any :class:`onefs.demo.records.Source`, quirks included."""

from __future__ import annotations

from onefs.demo.rest.app import create_app

__all__ = ["create_app"]
