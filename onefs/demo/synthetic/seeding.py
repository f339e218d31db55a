"""Random numbers for the synthetic laboratory. The same name gives the same numbers."""

from __future__ import annotations

import hashlib

import numpy as np


def generator(*name: str) -> np.random.Generator:
    """Return a random generator with the seed ``name``, so that a restart gives the same data."""
    digest = hashlib.sha1("/".join(name).encode()).digest()
    return np.random.default_rng(int.from_bytes(digest[:8], "big"))
