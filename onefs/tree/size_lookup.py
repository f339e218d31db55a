"""Sizes that Alyx does not know: asked of the file server, one small request each, once for good.

Only a program that stats such a file pays. The first one starts the others of the same folder in
the background, since the next question will be for them. A size is what the server says, or an
error: never a guess, and never 0.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable
from dataclasses import replace
from threading import Lock

from cachetools import LRUCache, TTLCache

from onefs.catalogue.catalogue import Catalogue
from onefs.content.content import Content
from onefs.errors import DeadlineExceeded, OnefsError, Unreachable, copy_error
from onefs.lowlevel.single_flight import SingleFlight
from onefs.model import Dataset

log = logging.getLogger(__name__)

#: questions under way at once
SIZE_REQUEST_THREADS = 8
#: seconds for which nobody is asked after a file server did not answer, and not again for a file
#: of which it has given no size
NEGATIVE_TTL_SECONDS = 5.0
#: sizes kept in memory; all are in the catalogue
_MAX_CACHED_SIZES = 65536


class SizeLookup:
    """Finds sizes out. Thread-safe. ``deadline`` bounds in seconds how long anybody waits;
    ``clock`` tells how long ago a file server gave no answer."""

    def __init__(
        self,
        catalogue: Catalogue,
        content: Content,
        deadline: float,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._catalogue = catalogue
        self._content = content
        self._deadline = deadline
        self._single_flight: SingleFlight[int] = SingleFlight("onefs-size", SIZE_REQUEST_THREADS)
        self._lock = Lock()
        #: by the dataset and its hash
        self._sizes: LRUCache[tuple[str, str], int] = LRUCache(_MAX_CACHED_SIZES)
        self._clock = clock
        #: by what is known of the file: Alyx may give other copies of it, which may do
        self._negative_cache: TTLCache[Dataset, OnefsError] = TTLCache(
            _MAX_CACHED_SIZES, NEGATIVE_TTL_SECONDS, clock
        )
        self._server_failure: tuple[float, OnefsError] | None = None

    def close(self) -> None:
        """Wake who waits, with Stopping."""
        self._single_flight.close()

    def clear_negative_cache(self) -> None:
        """Forget which questions have just failed."""
        with self._lock:
            self._negative_cache.clear()
        self._server_failure = None

    def with_known_size(self, dataset: Dataset) -> Dataset:
        """The dataset with its size, if anybody knows it already."""
        if dataset.size is not None:
            return dataset
        with self._lock:
            size = self._sizes.get((dataset.id, dataset.md5))
        return dataset if size is None else replace(dataset, size=size)

    def with_size(self, dataset: Dataset, siblings: Iterable[Dataset]) -> Dataset:
        """The dataset with its size, which a file server is asked for if need be.

        Raises Unreachable, DeadlineExceeded, ServerError or DataServerCredentials.
        """
        known = self.with_known_size(dataset)
        if known.size is not None:
            return known
        self._raise_recent_failure(dataset)
        for each in (dataset, *siblings):
            if self.with_known_size(each).size is None and self._recent_failure(each) is None:
                self._single_flight.start(each, lambda each=each: self._request_size(each))  # type: ignore[misc]
        what = f"the size of {dataset.name}"
        try:
            size = self._single_flight.wait(
                dataset, lambda: self._request_size(dataset), self._deadline, what
            )
        except DeadlineExceeded as error:
            if self._catalogue.offline:
                raise Unreachable(f"{what} is not known, and its server is away") from error
            raise
        return replace(dataset, size=size)

    def _request_size(self, dataset: Dataset) -> int:
        known = self.with_known_size(dataset)
        if known.size is not None:  # by a question that has just been answered
            return known.size
        self._raise_recent_failure(dataset)
        try:
            size = self._content.probe_size(dataset)
        except (Unreachable, DeadlineExceeded) as error:
            self._server_failure = (self._clock(), error)
            raise
        except OnefsError as error:
            log.info("no size of %s: %s", dataset.name, error)
            with self._lock:
                self._negative_cache[dataset] = error
            raise
        self._catalogue.remember_size(dataset, size)
        with self._lock:
            self._sizes[dataset.id, dataset.md5] = size
        return size

    def _recent_failure(self, dataset: Dataset) -> OnefsError | None:
        """Why a file server has just given no size of this very file."""
        with self._lock:
            return self._negative_cache.get(dataset)

    def _raise_recent_failure(self, dataset: Dataset) -> None:
        """Fail at once where asking has just failed, so that a folder fails once, not each file,
        and what a server refuses is refused once, not at each look at a file beside it."""
        trouble, failure = self._server_failure, self._recent_failure(dataset)
        if trouble is not None and self._clock() - trouble[0] < NEGATIVE_TTL_SECONDS:
            raise copy_error(trouble[1])
        if failure is not None:
            raise copy_error(failure)
