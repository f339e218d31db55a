"""Fetching many datasets beforehand, several at a time."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from pathlib import Path

from onefs.cache.store import Place
from onefs.content.content import Content
from onefs.errors import OnefsError
from onefs.model import Dataset

#: told of a dataset and how many of its bytes are there, now and then
DatasetProgressCallback = Callable[[Dataset, int], None]


@dataclass(frozen=True, slots=True)
class FetchResult:
    """What fetching one dataset came to: a path, or an error."""

    dataset: Dataset
    place: Place
    path: Path | None
    error: OnefsError | None = None
    #: it was complete before, or other processes fetched all of it
    was_cached: bool = False


def fetch_datasets(
    content: Content,
    wanted: Iterable[tuple[Dataset, Place]],
    jobs: int,
    watch: DatasetProgressCallback = lambda dataset, done: None,
) -> Iterator[FetchResult]:
    """Fetch and verify datasets, ``jobs`` at a time, each given as it is done.

    What is there is skipped, what was begun is resumed; one that fails does not stop the others.
    When the caller stops listening, those that have not begun are not begun.
    """
    content.store.fetched_ids = fetched = set[str]()
    with ThreadPoolExecutor(jobs, thread_name_prefix="onefs-get") as pool:
        futures = [pool.submit(_fetch_dataset, content, *item, watch, fetched) for item in wanted]
        try:
            for future in as_completed(futures):
                yield future.result()
        finally:
            for future in futures:
                future.cancel()


def _fetch_dataset(
    content: Content,
    dataset: Dataset,
    place: Place,
    watch: DatasetProgressCallback,
    fetched: set[str],
) -> FetchResult:
    try:
        known = content.cached_path(dataset)
        if known is not None:
            return FetchResult(dataset, place, known, was_cached=True)
        path = content.fetch_file(dataset, place, lambda done: watch(dataset, done))
    except OnefsError as error:
        return FetchResult(dataset, place, None, error)
    if dataset.size is not None:
        watch(dataset, dataset.size)
    return FetchResult(dataset, place, path, was_cached=dataset.id not in fetched)
