"""Bulk download: fetch many datasets, several at a time."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from onefs.cache.folder import Place
from onefs.content.content import Content
from onefs.errors import OnefsError
from onefs.lowlevel.parallel import run_parallel
from onefs.model import Dataset

#: called now and then with a dataset and the number of its bytes that are present
DatasetProgressCallback = Callable[[Dataset, int], None]


@dataclass(frozen=True, slots=True)
class FetchResult:
    """The result of fetching one dataset."""

    dataset: Dataset
    #: its ONE path
    place: Place
    #: the verified file; None after an error
    path: Path | None
    error: OnefsError | None = None
    #: it was cached before, or other processes fetched all of it
    was_cached: bool = False


def fetch_datasets(
    content: Content,
    datasets: Iterable[tuple[Dataset, Place]],
    jobs: int,
    watch: DatasetProgressCallback = lambda dataset, done: None,
) -> Iterator[FetchResult]:
    """Fetch and verify datasets, ``jobs`` at a time; yield each result as soon as it is available.

    Cached datasets are skipped, partial files are resumed; one that fails does not stop the
    others. When the generator is closed, datasets that have not begun are dropped.
    """
    content.store.fetched_ids = fetched = set[str]()
    outcomes = run_parallel(
        lambda item: _fetch_dataset(content, *item, watch, fetched), datasets, jobs, "onefs-get"
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
