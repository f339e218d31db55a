"""The synthetic laboratory: sessions that were computed, with arrays like recorded ones."""

from __future__ import annotations

from onefs.demo.synthetic.laboratory import SyntheticLaboratory

__all__ = ["SyntheticLaboratory"]
