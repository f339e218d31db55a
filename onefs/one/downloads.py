"""Files that are wanted at once: fetched in parallel, with a line that says how far they are."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Sequence
from concurrent.futures import FIRST_EXCEPTION, Future, ThreadPoolExecutor, wait
from pathlib import Path

from onefs.access import Access
from onefs.content.store import Place
from onefs.errors import BadContent, DataServerCredentials, OnefsError, ServerError, Unreachable
from onefs.model import Dataset
from onefs.printable import plural

#: downloads at once
WORKERS = 8
#: seconds before the line is shown, and between its changes
PATIENCE, STEP = 1.0, 0.2

#: a dataset and its place from the lab on
Wanted = tuple[Dataset, Place]


def fetch(access: Access, wanted: Sequence[Wanted], *, offline: bool) -> list[Path | OnefsError]:
    """The file of each dataset, in order; ServerError (404) or BadContent in place of what the
    file server lacks, or has wrong.

    Every other trouble is raised: DataServerCredentials, Unreachable, DeadlineExceeded,
    ServerError, CacheError.
    """

    def one(dataset: Dataset, place: Place) -> Path | OnefsError:
        known = access.content.known_path(dataset)
        if known is not None:
            return known
        if offline:
            raise Unreachable(f"{'/'.join(place)} is not in the cache, and offline was wanted")
        try:
            return access.content.path(dataset, place)
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

    pool = ThreadPoolExecutor(max_workers=WORKERS, thread_name_prefix="onefs-load")
    try:
        futures = [pool.submit(one, dataset, place) for dataset, place in wanted]
        _watch(access, futures)
        return [future.result() for future in futures]
    finally:  # not waited for: an error or Ctrl-C is for now, not for when the last file is there
        pool.shutdown(wait=False, cancel_futures=True)


def _watch(access: Access, futures: Sequence[Future[Path | OnefsError]]) -> None:
    """Return when all are done, or one has failed."""
    show = _line(access, futures) if sys.stderr is not None and sys.stderr.isatty() else None
    began = time.monotonic()
    shown = False
    while True:
        state = wait(futures, timeout=STEP, return_when=FIRST_EXCEPTION)
        failed = any(future.exception() is not None for future in state.done)
        if not state.not_done or failed:
            break
        if show is not None and time.monotonic() - began > PATIENCE:
            shown = True
            sys.stderr.write(f"\r\x1b[K{show()}")
            sys.stderr.flush()
    if shown:
        sys.stderr.write("\r\x1b[K")
        sys.stderr.flush()


def _line(access: Access, futures: Sequence[Future[Path | OnefsError]]) -> Callable[[], str]:
    def line() -> str:
        done = sum(future.done() for future in futures)
        transfers = access.content.transfers()
        here = sum(each.done for each in transfers)
        rate = sum(each.rate() for each in transfers)
        return (
            f"{done} of {len(futures)} {plural(len(futures), 'file')}; "
            f"{here / 2**20:.1f} MiB of the next, {rate / 2**20:.1f} MiB/s"
        )

    return line
