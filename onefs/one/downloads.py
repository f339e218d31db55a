"""Parallel download of datasets, with a progress line on a terminal."""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from pathlib import Path

from onefs.cache.store import Place
from onefs.errors import BadContent, DataServerCredentials, OnefsError, ServerError, Unreachable
from onefs.lowlevel.parallel import run_parallel
from onefs.model import Dataset
from onefs.one.laboratory import DatasetFiles
from onefs.printable import plural

#: downloads at once
DOWNLOAD_THREADS = 8
#: seconds before the progress line is shown, and between two updates of it
PROGRESS_DELAY_SECONDS, REDRAW_SECONDS = 1.0, 0.2

#: a dataset and its path in the tree, beginning with the lab
RequestedDataset = tuple[Dataset, Place]


def download_all(
    content: DatasetFiles, requested: Sequence[RequestedDataset], *, offline: bool
) -> list[Path | OnefsError]:
    """Return the file of each dataset, in order.

    An error takes the place of a file that the file server lacks (ServerError 404 or 410) or that
    contradicts the database (BadContent). Any other error is raised at once, without waiting for
    the other downloads: DataServerCredentials, Unreachable, DeadlineExceeded, ServerError and
    CacheError.
    """
    files: dict[int, Path | OnefsError] = {}
    progress = _ProgressLine(content, len(requested))
    try:
        for outcome in run_parallel(
            lambda item: _download(content, *item[1], offline=offline),
            enumerate(requested),
            DOWNLOAD_THREADS,
            "onefs-load",
            on_wait=lambda: progress.draw(len(files)),
        ):
            files[outcome.item[0]] = outcome.result()
            progress.draw(len(files))
    finally:
        progress.clear()
    return [files[index] for index in range(len(requested))]


def _download(
    content: DatasetFiles, dataset: Dataset, place: Place, *, offline: bool
) -> Path | OnefsError:
    cached = content.cached_path(dataset)
    if cached is not None:
        return cached
    if offline:
        raise Unreachable(f"{'/'.join(place)} is not in the cache; offline, nothing is downloaded")
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


class _ProgressLine:
    """A line on the terminal with the number of files and the rate of the downloads."""

    def __init__(self, content: DatasetFiles, file_count: int) -> None:
        self._content = content
        self._file_count = file_count
        self._next_draw_at = time.monotonic() + PROGRESS_DELAY_SECONDS
        self._is_terminal = sys.stderr is not None and sys.stderr.isatty()
        self._is_drawn = False

    def draw(self, done: int) -> None:
        """Draw the line, unless it is too early."""
        if not self._is_terminal or time.monotonic() < self._next_draw_at:
            return
        self._next_draw_at = time.monotonic() + REDRAW_SECONDS
        self._is_drawn = True
        transfers = self._content.transfers()
        received = sum(each.done_bytes for each in transfers)
        rate = sum(each.bytes_per_second() for each in transfers)
        self._write(
            f"{done} of {self._file_count} {plural(self._file_count, 'file')}; "
            f"{received / 2**20:.1f} MiB of the next, {rate / 2**20:.1f} MiB/s"
        )

    def clear(self) -> None:
        """Remove the line."""
        if self._is_drawn:
            self._write("")

    def _write(self, text: str) -> None:
        sys.stderr.write(f"\r\x1b[K{text}")
        sys.stderr.flush()
