"""One download under way, as others see it."""

from __future__ import annotations

import time
from dataclasses import dataclass, field

from onefs.errors import OnefsError


@dataclass(slots=True)
class Transfer:
    """One download under way, for whoever watches."""

    path: str
    size: int | None
    done: int = 0
    began: float = field(default_factory=time.monotonic)
    #: when it last got on: bytes came, and not too few
    moved: float = field(default_factory=time.monotonic)
    #: the URL that is asked, and what went wrong last
    url: str = ""
    trouble: OnefsError | None = None

    def rate(self) -> float:
        """Bytes a second since it began."""
        return self.done / max(time.monotonic() - self.began, 1e-3)
