"""The methods that ONE's tutorial uses: ``search``, ``list`` and ``load`` (docs/tutorial.md)."""

from __future__ import annotations

from onefs.one.client import ONE
from onefs.one.info import DatasetInfo, SessionDataInfo
from onefs.one.pretty_print import pprint
from onefs.one.warn import OnefsWarning

__all__ = ["ONE", "DatasetInfo", "OnefsWarning", "SessionDataInfo", "pprint"]
