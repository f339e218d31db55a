"""The quota for fetched bytes: limits the bytes that are fetched in an hour (``--max-fetch``)."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial

from onefs.errors import FetchLimit

#: seconds in the sliding window for which fetched bytes are limited, and seconds in one step: the
#: fetched bytes are summed up for each step
QUOTA_WINDOW_SECONDS = 3600.0
QUOTA_STEP_SECONDS = 60.0


class FetchQuota:
    """Counts fetched bytes. Thread-safe.

    ``limit`` is in bytes per hour. None means that there is no limit.
    """

    def __init__(
        self, limit: int | None = None, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self.limit = limit
        self._clock = clock
        self._lock = threading.Lock()
        #: pairs of the number of a step and the bytes fetched in this step
        self._bytes_by_step: deque[tuple[int, int]] = deque()
        self._bytes_in_window = 0
        #: total number of bytes fetched
        self.received_bytes = 0
        #: by key: the number of reservations, and the bytes of the largest reservation
        self._reserved: dict[str, tuple[int, int]] = {}
        #: by key: size of each file that is being fetched ahead, and bytes that are still to arrive
        self._ahead: dict[str, tuple[int, int]] = {}

    def count(self, size: int) -> None:
        """Count ``size`` bytes that were fetched."""
        step = int(self._clock() / QUOTA_STEP_SECONDS)
        with self._lock:
            self.received_bytes += size
            self._bytes_in_window += size
            if self._bytes_by_step and self._bytes_by_step[-1][0] == step:
                size += self._bytes_by_step.pop()[1]
            self._bytes_by_step.append((step, size))

    def spent_bytes(self) -> int:
        """Return the number of bytes fetched in the last hour."""
        oldest = int((self._clock() - QUOTA_WINDOW_SECONDS) / QUOTA_STEP_SECONDS)
        with self._lock:
            while self._bytes_by_step and self._bytes_by_step[0][0] <= oldest:
                self._bytes_in_window -= self._bytes_by_step.popleft()[1]
            return self._bytes_in_window

    def left_bytes(self) -> int | None:
        """Return how many bytes can still be fetched and are not reserved. None means no limit.

        Bytes of files that are fetched ahead are not reserved.
        """
        if self.limit is None:
            return None
        spent = self.spent_bytes()
        with self._lock:
            return max(0, self._left_bytes(self.limit, spent))

    def _left_bytes(self, limit: int, spent: int) -> int:
        """As :meth:`left_bytes`, but negative above the limit. The caller holds the lock."""
        return limit - spent - sum(size for _, size in self._reserved.values())

    def is_within_limit(self, size: int) -> bool:
        """Whether ``size`` more bytes can be fetched within the limit."""
        return self.limit is None or self.spent_bytes() + size <= self.limit

    def _limit_error(self, name: str, spent: int, size: int) -> FetchLimit:
        """Return the error for the file ``name``, whose ``size`` bytes would exceed the limit.

        ``spent`` is the number of bytes fetched in the last hour.
        """
        # the error says when the file can be fetched, or that it is larger than the limit
        message = (
            f"the file {name} is not fetched: {spent} bytes were fetched within the hour, and "
            f"--max-fetch allows {self.limit}"
        )
        left = self._seconds_until(size)
        if left is None:
            return FetchLimit(f"{message}, but {size} bytes are needed at once: raise --max-fetch")
        until = time.time() + left
        at = time.strftime("%H:%M", time.localtime(until))
        return FetchLimit(f"{message}; try again after {at}", until)

    def _seconds_until(self, size: int) -> float | None:
        """Return after how many seconds ``size`` bytes can be fetched within the limit.

        Return None if ``size`` is larger than the limit.
        """
        assert self.limit is not None
        if size > self.limit:
            return None
        left = self._bytes_in_window
        for step, count in self._bytes_by_step:
            left -= count
            if left + size <= self.limit:
                return max(
                    0.0, (step + 1) * QUOTA_STEP_SECONDS + QUOTA_WINDOW_SECONDS - self._clock()
                )
        return QUOTA_STEP_SECONDS  # other reservations use up the limit; they end soon

    @contextmanager
    def reserve(self, key: str, size: int, name: str) -> Iterator[Callable[[], None]]:
        """Reserve ``size`` bytes of the limit inside the ``with`` block.

        Bytes that were fetched ahead before this call are not reserved again. Yield a function that
        must be called before they are fetched again, and raises FetchLimit as this method does.

        Reads that fetch the same bytes use the same ``key``. Of their reservations, only the
        largest counts. ``name`` is the name of the file in the error message. Raises FetchLimit if
        the bytes of the last hour and all reservations exceed the limit. Files that are fetched
        ahead make room for this.
        """
        if self.limit is None:
            yield lambda: None
            return
        with self._lock:
            # bytes that were fetched ahead before this read are counted already
            missing = min(size, self._ahead.get(key, (0, size))[1])
        self._raise_reservation(key, missing, name, users=1)
        try:
            yield partial(self._raise_reservation, key, size, name)
        finally:
            with self._lock:
                users, most = self._reserved.pop(key)
                if users > 1:
                    self._reserved[key] = users - 1, most

    def _raise_reservation(self, key: str, size: int, name: str, users: int = 0) -> None:
        """Reserve at least ``size`` bytes for ``key``, for so many ``users`` more."""
        assert self.limit is not None
        spent = self.spent_bytes()
        with self._lock:
            others, most = self._reserved.get(key, (0, 0))
            most = max(most, size)
            total = sum(each for other, (_, each) in self._reserved.items() if other != key) + most
            if most and spent + total > self.limit:
                raise self._limit_error(name, spent, most)
            self._reserved[key] = others + users, most

    @contextmanager
    def reserve_ahead(self, key: str, size: int) -> Iterator[Callable[[int], bool] | None]:
        """Reserve ``size`` bytes for a file that is fetched ahead, inside the ``with`` block.

        Yield None if all files that are being fetched ahead would take more than half of what is
        left. Otherwise yield a function that must be called with the length of each chunk that
        arrives, after :meth:`count`. It returns False if reads need the rest of the limit, so that
        no more may be fetched ahead. ``key`` is that of the reads of the file.
        """
        if self.limit is None:
            yield lambda size: True
            return
        spent = self.spent_bytes()
        with self._lock:
            total = size + sum(each for each, _ in self._ahead.values())
            arrived = sum(each - missing for each, missing in self._ahead.values())
            left = self._left_bytes(self.limit, spent) + arrived
            is_reserved = key not in self._ahead and 2 * total <= left
            if is_reserved:
                self._ahead[key] = size, size
        try:
            yield partial(self._may_go_on_ahead, key) if is_reserved else None
        finally:
            if is_reserved:
                with self._lock:
                    del self._ahead[key]

    def _may_go_on_ahead(self, key: str, size: int) -> bool:
        assert self.limit is not None
        spent = self.spent_bytes()
        with self._lock:
            total, missing = self._ahead[key]
            missing = max(0, missing - size)
            self._ahead[key] = total, missing
            if key in self._reserved or not missing:  # the reservation of the read counts
                return True
            # files that began before this one are the first to get what is left
            for each, (_, still) in self._ahead.items():
                if each == key:
                    break
                missing += still if each not in self._reserved else 0
            return missing <= self._left_bytes(self.limit, spent)
