"""The progress of one download, for displays and for threads that wait for the download."""

from __future__ import annotations

import time
from dataclasses import dataclass, field

from onefs.errors import OnefsError


@dataclass(slots=True)
class Transfer:
    """The progress of one download. Times are from ``time.monotonic``."""

    #: path of the file in the tree
    path: str
    #: size of the file in bytes; None if unknown
    size: int | None
    done_bytes: int = 0
    started_at: float = field(default_factory=time.monotonic)
    #: when enough bytes for a progress report last arrived
    last_progress_at: float = field(default_factory=time.monotonic)
    #: URL of the replica that is being tried, and error of the replica that failed last
    url: str = ""
    last_error: OnefsError | None = None
    #: whether no reader waits for the file
    is_ahead: bool = False

    def bytes_per_second(self) -> float:
        """Return the average number of bytes per second since the download began."""
        return self.done_bytes / max(time.monotonic() - self.started_at, 1e-3)
