"""The progress of one download, for displays and for waiting threads."""

from __future__ import annotations

import time
from dataclasses import dataclass, field

from onefs.errors import OnefsError


@dataclass(slots=True)
class Transfer:
    """The progress of one download. Times are of ``time.monotonic``."""

    #: path in the tree
    path: str
    #: bytes of the file; None when unknown
    size: int | None
    done_bytes: int = 0
    started_at: float = field(default_factory=time.monotonic)
    #: when enough bytes last arrived
    last_progress_at: float = field(default_factory=time.monotonic)
    #: the URL of the current replica, and the error of the last one that failed
    url: str = ""
    last_error: OnefsError | None = None

    def bytes_per_second(self) -> float:
        """Average bytes per second since the start."""
        return self.done_bytes / max(time.monotonic() - self.started_at, 1e-3)
