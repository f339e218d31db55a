"""Parallel downloads of the files that a call needs, with a progress line."""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from pathlib import Path

from onefs.access import Access
from onefs.cache.store import Place
from onefs.errors import BadContent, DataServerCredentials, OnefsError, ServerError, Unreachable
from onefs.lowlevel.parallel import run_parallel
from onefs.model import Dataset
from onefs.printable import plural

#: downloads at once
DOWNLOAD_THREADS = 8
#: seconds before the line is shown, and between its changes
PROGRESS_DELAY_SECONDS, REDRAW_SECONDS = 1.0, 0.2

#: a dataset and its path in the tree, beginning with the lab
RequestedDataset = tuple[Dataset, Place]


def download_all(
    access: Access, wanted: Sequence[RequestedDataset], *, offline: bool
) -> list[Path | OnefsError]:
    """The file of each dataset, in order; ServerError (404) or BadContent in place of a file that
    is missing or wrong on the file server.

    Any other error is raised at once, without waiting for the other downloads:
    DataServerCredentials, Unreachable, DeadlineExceeded, ServerError, CacheError.
    """
    files: dict[int, Path | OnefsError] = {}
    progress = _ProgressLine(access, len(wanted))
    try:
        for outcome in run_parallel(
            lambda item: _download(access, *item[1], offline=offline),
            enumerate(wanted),
            DOWNLOAD_THREADS,
            "onefs-load",
            on_wait=lambda: progress.draw(len(files)),
        ):
            files[outcome.item[0]] = outcome.result()
            progress.draw(len(files))
    finally:
        progress.clear()
    return [files[index] for index in range(len(wanted))]


def _download(
    access: Access, dataset: Dataset, place: Place, *, offline: bool
) -> Path | OnefsError:
    cached = access.content.cached_path(dataset)
    if cached is not None:
        return cached
    if offline:
        raise Unreachable(f"{'/'.join(place)} is not in the cache, and offline was wanted")
    try:
        return access.content.fetch_file(dataset, place)
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

    def __init__(self, access: Access, file_count: int) -> None:
        self._access = access
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
        transfers = self._access.content.transfers()
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
