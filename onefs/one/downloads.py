"""Parallel download of datasets, with a progress line on a terminal."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from onefs.cache.folder import Place
from onefs.errors import BadContent, DataServerCredentials, OnefsError, ServerError, Unreachable
from onefs.lowlevel.parallel import run_parallel
from onefs.lowlevel.progress_display import ProgressDisplay
from onefs.model import Dataset
from onefs.one.laboratory import DatasetFiles

#: most downloads at the same time
MAX_DOWNLOADS = 16

#: a dataset, and its path in the tree from the lab on
RequestedDataset = tuple[Dataset, Place]


def download_all(
    content: DatasetFiles,
    requested: Sequence[RequestedDataset],
    *,
    offline: bool,
    meanwhile: Callable[[], object] = lambda: None,
) -> list[Path | OnefsError]:
    """Return the file of each dataset, in the order of ``requested``.

    Downloads the files that are not cached. ``meanwhile`` is called in this thread after downloads
    were begun. The list has an error instead of a file:

    - ServerError 404 or 410 if the file server lacks the file.
    - BadContent if the bytes of the file contradict the database.

    Raises any other error at once: DataServerCredentials, Unreachable, DeadlineExceeded,
    ServerError or CacheError.
    """
    files: dict[int, Path | OnefsError] = {}
    with ProgressDisplay(content.transfers) as progress:
        progress.expect_files(("/".join(place), dataset.size) for dataset, place in requested)
        for index, file in _downloads(content, requested, meanwhile, offline=offline):
            files[index] = file
            progress.finish("/".join(requested[index][1]))
    return [files[index] for index in range(len(requested))]


def _downloads(
    content: DatasetFiles,
    requested: Sequence[RequestedDataset],
    meanwhile: Callable[[], object],
    *,
    offline: bool,
) -> Iterator[tuple[int, Path | OnefsError]]:
    """Yield the number and the file of each dataset, as soon as it is on this machine."""

    def download(index: int) -> Path | OnefsError:
        return _download(content, *requested[index], offline=offline)

    # a download that can be begun needs no thread that waits for it, and all files of an object
    # are requested at once
    waiting: list[int] = []
    others: list[int] = []
    for index, wanted in enumerate(requested):
        has_begun = not offline and len(waiting) < MAX_DOWNLOADS and content.begin_fetch(*wanted)
        (waiting if has_begun else others).append(index)
    meanwhile()
    for outcome in run_parallel(download, others, MAX_DOWNLOADS, "onefs-load"):
        yield outcome.item, outcome.result()
    for index in waiting:
        yield index, download(index)


def _download(
    content: DatasetFiles, dataset: Dataset, place: Place, *, offline: bool
) -> Path | OnefsError:
    cached = content.cached_path(dataset)
    if cached is not None:
        return cached
    if offline and content.cached_path(dataset, place) is None:
        raise Unreachable(
            f"{'/'.join(place)} is not cached, and nothing is downloaded in offline mode"
        )
    try:
        return content.fetch_file(dataset, place)
    except DataServerCredentials as error:
        raise DataServerCredentials(
            f"{error}; in Python: ONE(data_username=..., data_password=..., data_hosts=...)"
        ) from error
    except BadContent as error:
        reason = str(error).removeprefix(f"{dataset.name}: ")
        return BadContent(f"{'/'.join(place)}: {reason}")
    except ServerError as error:
        if error.status in (404, 410):
            return error
        raise
