"""An Alyx REST server for a laboratory of ours, quirks included."""

from __future__ import annotations

from onefs.demo.rest.app import create_app

__all__ = ["create_app"]
