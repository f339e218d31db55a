"""Sizes that Alyx lacks: requested from the file server, with one small request per file.

Sizes are stored, so that each is requested once. A request is made only if a program stats such a
file. The first one also starts requests for the other files of the folder, in the background, as
the program will likely stat them next. A size is the server's or an error: never a guess, never 0.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable
from dataclasses import replace
from threading import Lock

from cachetools import LRUCache

from onefs.catalogue.catalogue import Catalogue
from onefs.content.content import Content
from onefs.errors import DeadlineExceeded, OnefsError, Unreachable
from onefs.lowlevel.negative_cache import NegativeCache
from onefs.lowlevel.single_flight import SingleFlight
from onefs.model import Dataset

log = logging.getLogger(__name__)

#: requests at the same time
SIZE_REQUEST_THREADS = 8
#: seconds without any request after a file server did not answer, and without a request for one
#: file after the server gave no size for it
NEGATIVE_TTL_SECONDS = 5.0
#: sizes kept in memory; the catalogue has all of them
_MAX_CACHED_SIZES = 65536


class SizeLookup:
    """Looks up sizes. Thread-safe.

    ``deadline`` is the longest wait for a size, in seconds. ``clock`` returns seconds, and times
    the negative cache.
    """

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
        #: by dataset, with its replicas: Alyx may give others, which may have a size; None stands
        #: for the file servers
        self._failures: NegativeCache[Dataset | None] = NegativeCache(
            _MAX_CACHED_SIZES, lambda error: NEGATIVE_TTL_SECONDS, clock
        )

    def close(self) -> None:
        """Wake all waiting threads, with Stopping."""
        self._single_flight.close()

    def clear_negative_cache(self) -> None:
        """Drop the stored failures, so that the next look makes a request."""
        self._failures.clear()

    def with_known_size(self, dataset: Dataset) -> Dataset:
        """Return the dataset with its size, if that is known without a request."""
        if dataset.size is not None:
            return dataset
        with self._lock:
            size = self._sizes.get((dataset.id, dataset.md5))
        return dataset if size is None else replace(dataset, size=size)

    def with_size(self, dataset: Dataset, siblings: Iterable[Dataset]) -> Dataset:
        """Return the dataset with its size, requested from a file server if necessary.

        ``siblings`` are the other files of its folder. Raises Unreachable, DeadlineExceeded,
        ServerError or DataServerCredentials.
        """
        known = self.with_known_size(dataset)
        if known.size is not None:
            return known
        self._raise_recent_failure(dataset)
        for each in (dataset, *siblings):
            if self.with_known_size(each).size is None and self._failures.get(each) is None:
                self._single_flight.start(each, lambda each=each: self._request_size(each))  # type: ignore[misc]
        label = f"the size of {dataset.name}"
        try:
            size = self._single_flight.wait(
                dataset, lambda: self._request_size(dataset), self._deadline, label
            )
        except DeadlineExceeded as error:
            if self._catalogue.offline:
                raise Unreachable(f"{label} is unknown, and its server is unreachable") from error
            raise
        return replace(dataset, size=size)

    def _request_size(self, dataset: Dataset) -> int:
        known = self.with_known_size(dataset)
        if known.size is not None:  # a request of another thread has just ended
            return known.size
        self._raise_recent_failure(dataset)
        try:
            size = self._content.probe_size(dataset)
        except (Unreachable, DeadlineExceeded) as error:
            self._failures.add(None, error)
            raise
        except OnefsError as error:
            log.info("no size of %s: %s", dataset.name, error)
            self._failures.add(dataset, error)
            raise
        self._catalogue.remember_size(dataset, size)
        with self._lock:
            self._sizes[dataset.id, dataset.md5] = size
        return size

    def _raise_recent_failure(self, dataset: Dataset) -> None:
        """Raise the error of a recent request to the server, or for this file, without a request.

        So an unreachable server costs one wait for a folder, instead of one for each file.
        """
        self._failures.raise_failure(None)
        self._failures.raise_failure(dataset)
