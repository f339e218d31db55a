"""The synthetic laboratory: computed sessions, with arrays similar to recorded arrays."""

from __future__ import annotations

from onefs.demo.synthetic.laboratory import SyntheticLaboratory

__all__ = ["SyntheticLaboratory"]
