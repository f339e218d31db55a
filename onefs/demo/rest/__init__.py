"""An Alyx REST server for any :class:`onefs.demo.records.Source`, with Alyx's known faults."""

from __future__ import annotations

from onefs.demo.rest.app import create_app

__all__ = ["create_app"]
