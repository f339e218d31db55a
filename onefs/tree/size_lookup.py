"""Look up file sizes that Alyx lacks, with one small request to the file server for each file.

Sizes are stored, so that each size is requested once. A request is made only if a program calls
``stat`` for a file without a size. Then the sizes of the other files in the folder are requested in
the background, because the program will probably need these sizes next. If the server gives no
size, ``stat`` fails, because a size is never guessed.
"""

from __future__ import annotations

import logging
import time
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import replace
from threading import Lock

from cachetools import LRUCache

from onefs.catalogue.catalogue import Catalogue
from onefs.content.content import Content
from onefs.errors import DeadlineExceeded, OnefsError, Unreachable, copy_error
from onefs.lowlevel.negative_cache import NegativeCache
from onefs.lowlevel.single_flight import SingleFlight
from onefs.model import Dataset

log = logging.getLogger(__name__)

#: most requests for sizes at the same time
SIZE_REQUEST_THREADS = 8
#: seconds for which no sizes are requested after a file server did not answer. If a server gave no
#: size for one file, only this size is not requested for these seconds.
NEGATIVE_TTL_SECONDS = 5.0
#: most sizes kept in memory; the catalogue stores all sizes
_MAX_CACHED_SIZES = 65536


class SizeLookup:
    """Looks up and caches the sizes of datasets. Thread-safe.

    ``deadline`` is the longest wait for a size, in seconds. ``clock`` returns the present time in
    seconds.
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
        #: sizes in bytes, by the dataset's UUID and hash
        self._sizes: LRUCache[tuple[str, str], int] = LRUCache(_MAX_CACHED_SIZES)
        #: how many programs wait for the size of each dataset
        self._wanted: Counter[Dataset] = Counter()
        #: replaced by another object when a size becomes known
        self.state = object()
        #: recent errors, by dataset. The key includes the replicas, because a size may be found if
        #: the replicas have changed. The key None is for a file server that did not answer.
        self._failures: NegativeCache[Dataset | None] = NegativeCache(
            _MAX_CACHED_SIZES, lambda error: NEGATIVE_TTL_SECONDS, clock
        )

    def close(self) -> None:
        """Raise Stopping in all threads that wait for a size."""
        self._single_flight.close()

    def clear_negative_cache(self) -> None:
        """Forget all recent errors of requests, so that the next look-up makes a request."""
        self._failures.clear()

    def with_known_size(self, dataset: Dataset) -> Dataset:
        """Return the dataset with its size if the size is in memory. Sends no request.

        If the size is not in memory, return the dataset unchanged.
        """
        if dataset.size is not None:
            return dataset
        with self._lock:
            size = self._sizes.get((dataset.id, dataset.md5))
        return dataset if size is None else replace(dataset, size=size)

    def with_size(self, dataset: Dataset, siblings: Iterable[Dataset]) -> Dataset:
        """Return the dataset with its size. Requests the size from a file server if necessary.

        ``siblings`` are the datasets in the same folder. Their sizes are requested in the
        background. Raises one of these errors:

        - Unreachable: no server is reachable
        - DeadlineExceeded: no size arrives in time
        - ServerError: the server gives no size
        - DataServerCredentials: the server refuses the login
        """
        known = self.with_known_size(dataset)
        if known.size is not None:
            return known
        self._failures.raise_failure(dataset)
        failure = self._failures.get(None)
        if failure is not None and not self._content.disk_files:
            raise copy_error(failure)
        with self._lock:
            self._wanted[dataset] += 1
        try:
            return self._wait(dataset, () if failure is not None else siblings)
        finally:
            with self._lock:
                self._wanted[dataset] -= 1
                if not self._wanted[dataset]:
                    del self._wanted[dataset]

    def _wait(self, dataset: Dataset, siblings: Iterable[Dataset]) -> Dataset:
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
                raise Unreachable(
                    f"{label} is unknown, and the server that has the file is unreachable"
                ) from error
            raise
        return replace(dataset, size=size)

    def _request_size(self, dataset: Dataset) -> int:
        known = self.with_known_size(dataset)
        if known.size is not None:  # a request of another thread has just ended
            return known.size
        self._failures.raise_failure(dataset)
        try:
            size = self._content.probe_size(
                dataset,
                # so a program waits for an unreachable server once, and not once for each file
                before_request=lambda: self._failures.raise_failure(None),
                is_wanted=lambda: dataset in self._wanted,
            )
        except (Unreachable, DeadlineExceeded) as error:
            if self._failures.get(None) is None:
                self._failures.add(None, error)
            raise
        except OnefsError as error:
            log.info("the size of the dataset %s cannot be fetched: %s", dataset.name, error)
            self._failures.add(dataset, error)
            raise
        self._catalogue.remember_size(dataset, size)
        with self._lock:
            self._sizes[dataset.id, dataset.md5] = size
            self.state = object()
        return size
