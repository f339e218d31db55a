"""Files that are wanted at once: fetched in parallel, with a line that says how far they are."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Sequence
from concurrent.futures import FIRST_EXCEPTION, Future, ThreadPoolExecutor, wait
from pathlib import Path

from onefs.access import Access
from onefs.cache.store import Place
from onefs.errors import BadContent, DataServerCredentials, OnefsError, ServerError, Unreachable
from onefs.model import Dataset
from onefs.printable import plural

#: downloads at once
DOWNLOAD_THREADS = 8
#: seconds before the line is shown, and between its changes
PROGRESS_DELAY_SECONDS, REDRAW_SECONDS = 1.0, 0.2

#: a dataset and its place from the lab on
RequestedDataset = tuple[Dataset, Place]


def download_all(
    access: Access, wanted: Sequence[RequestedDataset], *, offline: bool
) -> list[Path | OnefsError]:
    """The file of each dataset, in order; ServerError (404) or BadContent in place of what the
    file server lacks, or has wrong.

    Every other trouble is raised: DataServerCredentials, Unreachable, DeadlineExceeded,
    ServerError, CacheError.
    """

    def one(dataset: Dataset, place: Place) -> Path | OnefsError:
        known = access.content.cached_path(dataset)
        if known is not None:
            return known
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

    pool = ThreadPoolExecutor(max_workers=DOWNLOAD_THREADS, thread_name_prefix="onefs-load")
    try:
        futures = [pool.submit(one, dataset, place) for dataset, place in wanted]
        _wait_with_progress(access, futures)
        return [future.result() for future in futures]
    finally:  # not waited for: an error or Ctrl-C is for now, not for when the last file is there
        pool.shutdown(wait=False, cancel_futures=True)


def _wait_with_progress(access: Access, futures: Sequence[Future[Path | OnefsError]]) -> None:
    """Return when all are done, or one has failed."""
    show = (
        _progress_text(access, futures) if sys.stderr is not None and sys.stderr.isatty() else None
    )
    began = time.monotonic()
    shown = False
    while True:
        state = wait(futures, timeout=REDRAW_SECONDS, return_when=FIRST_EXCEPTION)
        failed = any(future.exception() is not None for future in state.done)
        if not state.not_done or failed:
            break
        if show is not None and time.monotonic() - began > PROGRESS_DELAY_SECONDS:
            shown = True
            sys.stderr.write(f"\r\x1b[K{show()}")
            sys.stderr.flush()
    if shown:
        sys.stderr.write("\r\x1b[K")
        sys.stderr.flush()


def _progress_text(
    access: Access, futures: Sequence[Future[Path | OnefsError]]
) -> Callable[[], str]:
    def line() -> str:
        done = sum(future.done() for future in futures)
        transfers = access.content.transfers()
        here = sum(each.done_bytes for each in transfers)
        rate = sum(each.bytes_per_second() for each in transfers)
        return (
            f"{done} of {len(futures)} {plural(len(futures), 'file')}; "
            f"{here / 2**20:.1f} MiB of the next, {rate / 2**20:.1f} MiB/s"
        )

    return line
