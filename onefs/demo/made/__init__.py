"""The made laboratory: sessions that nobody recorded, with arrays that look as if."""

from __future__ import annotations

from onefs.demo.made.laboratory import MadeLaboratory

__all__ = ["MadeLaboratory"]
