"""The made laboratory: sessions that nobody recorded, with arrays that look as if."""

from __future__ import annotations

from onefs.demo.synthetic.laboratory import SyntheticLaboratory

__all__ = ["SyntheticLaboratory"]
