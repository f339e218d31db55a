"""Bulk download: fetch many datasets, several of them at the same time."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from onefs.cache.folder import Place
from onefs.content.content import Content
from onefs.errors import OnefsError
from onefs.lowlevel.parallel import DOWNLOADS_AT_FIRST, run_parallel
from onefs.model import Dataset

#: called from time to time with a dataset and the number of the dataset's bytes that are present
DatasetProgressCallback = Callable[[Dataset, int], None]


@dataclass(frozen=True, slots=True)
class FetchResult:
    """The dataset that was fetched, and the path of its file or the error."""

    dataset: Dataset
    #: the ONE path of the dataset
    place: Place
    #: the path of the verified file; None after an error
    path: Path | None
    error: OnefsError | None = None
    #: the dataset was cached before, or other processes fetched all its bytes
    was_cached: bool = False


def fetch_datasets(
    content: Content,
    datasets: Iterable[tuple[Dataset, Place]],
    jobs: int,
    watch: DatasetProgressCallback = lambda dataset, done: None,
) -> Iterator[FetchResult]:
    """Fetch and verify datasets, at most ``jobs`` at a time. Yield each result when it is known.

    Partial files are completed. An error for one dataset does not stop the other datasets. After
    the caller closes the generator, no more datasets are started.
    """
    content.store.fetched_ids = fetched = set[str]()
    content.store.syncs_at_once = True
    outcomes = run_parallel(
        lambda item: _fetch_dataset(content, *item, watch, fetched),
        datasets,
        jobs,
        "onefs-get",
        DOWNLOADS_AT_FIRST,
    )
    for outcome in outcomes:
        yield outcome.result()


def _fetch_dataset(
    content: Content,
    dataset: Dataset,
    place: Place,
    watch: DatasetProgressCallback,
    fetched: set[str],
) -> FetchResult:
    try:
        cached = content.cached_path(dataset)
        if cached is not None:
            return FetchResult(dataset, place, cached, was_cached=True)
        path = content.fetch_file(dataset, place, lambda done: watch(dataset, done))
    except OnefsError as error:
        return FetchResult(dataset, place, None, error)
    if dataset.size is not None:
        watch(dataset, dataset.size)
    return FetchResult(dataset, place, path, was_cached=dataset.id not in fetched)
