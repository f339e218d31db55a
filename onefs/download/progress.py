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
    done_bytes: int = 0
    started_at: float = field(default_factory=time.monotonic)
    #: when it last got on: bytes came, and not too few
    last_progress_at: float = field(default_factory=time.monotonic)
    #: the URL that is asked, and what went wrong last
    url: str = ""
    last_error: OnefsError | None = None

    def bytes_per_second(self) -> float:
        """Bytes a second since it began."""
        return self.done_bytes / max(time.monotonic() - self.started_at, 1e-3)
