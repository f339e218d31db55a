"""Mismatches: responses that contradict the database, until they are confirmed.

An overloaded server may send an error text in place of a file, with status 200. So one response
with a wrong size or digest is no verdict on the file: it is requested again by the next read after
a pause, and the pauses grow. Only the same evidence in several requests, with these pauses between
them, makes the file ``bad``.

Mismatches are stored in ``.onefs/doubts/<dataset id>.json``, so that all processes and hosts that
share a folder count them together, short commands included.
"""

from __future__ import annotations

import json
import logging
import os
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path

from onefs.errors import BadContent
from onefs.lowlevel.files import read_small_file, replace_file
from onefs.model import Dataset

log = logging.getLogger(__name__)

#: responses of the same wrong size that make a file bad; with the pauses they take 30 seconds
REQUIRED_SIZE_MISMATCHES = 3
#: whole files with the same wrong digest that make a file bad
REQUIRED_DIGEST_MISMATCHES = 2
#: for evidence that proves nothing, however often it is seen: more than there can be
NEVER_CONFIRMED = 1 << 30
#: prefix of evidence that is the digest of a whole file
DIGEST_PREFIX = "digest "
#: seconds after the first mismatch in which the file is not requested
FIRST_PAUSE_SECONDS = 5.0
#: each further pause is longer by this factor
PAUSE_FACTOR = 5.0
LONGEST_PAUSE_SECONDS = 300.0
#: seconds after which a mismatch is forgotten
MISMATCH_TTL_SECONDS = 86400.0


class UnconfirmedMismatch(BadContent):
    """A response contradicts the database, and is not confirmed yet."""


@dataclass(frozen=True, slots=True)
class _Mismatch:
    """The mismatches of one dataset."""

    #: size and md5 that the database had then
    size: int | None
    md5: str
    #: size or digest of the last wrong response, in words
    evidence: str
    reason: str
    #: how often this evidence was seen in succession
    seen: int
    #: how often any evidence was seen
    count: int
    #: when it was last seen (seconds since the epoch)
    last: float
    #: when the file may be requested again (seconds since the epoch)
    until: float


class Mismatches:
    """The mismatches of one cache folder. Safe for threads and for other processes."""

    def __init__(self, folder: Path, clock: Callable[[], float] = time.time) -> None:
        self._folder = folder
        self.clock = clock
        with suppress(OSError):  # without its file a mismatch is only requested more often
            self._forget_old()

    def check(self, dataset: Dataset) -> bool:
        """Whether a dataset has mismatches. Raises UnconfirmedMismatch during the pause."""
        mismatch = self._get(dataset)
        if mismatch is None:
            return False
        remaining = mismatch.until - self.clock()
        if 0 < remaining <= LONGEST_PAUSE_SECONDS:  # otherwise the clock was set back
            raise _unconfirmed_error(dataset, mismatch.reason, remaining)
        return True

    def describe(self, dataset: Dataset) -> str:
        """The last mismatch of a dataset, in one sentence; '' if there is none."""
        mismatch = self._get(dataset)
        if mismatch is None:
            return ""
        return str(
            _unconfirmed_error(dataset, mismatch.reason, max(0.0, mismatch.until - self.clock()))
        )

    def note_mismatch(
        self, dataset: Dataset, evidence: str, reason: str, needed: int = REQUIRED_SIZE_MISMATCHES
    ) -> str:
        """Note a mismatch; return the reason of the verdict once it was seen ``needed`` times.

        Raises UnconfirmedMismatch until then. A mismatch during a pause is not counted.
        """
        before, now = self._get(dataset), self.clock()
        if before is not None and now < before.until <= now + LONGEST_PAUSE_SECONDS:
            raise _unconfirmed_error(dataset, reason, before.until - now)
        count = 1 if before is None else before.count + 1
        seen = before.seen + 1 if before is not None and before.evidence == evidence else 1
        if seen >= needed:
            self.clear(dataset.id)
            return with_advice(reason)
        pause = min(FIRST_PAUSE_SECONDS * PAUSE_FACTOR ** min(count - 1, 9), LONGEST_PAUSE_SECONDS)
        mismatch = _Mismatch(
            dataset.size, dataset.md5, evidence, reason, seen, count, now, now + pause
        )
        with suppress(OSError):
            self._put(dataset, mismatch)
        error = _unconfirmed_error(dataset, reason, pause)
        log.info("%s", error)  # it is raised too: the line is for a mount's log
        raise error

    def clear_size_mismatch(self, dataset: Dataset) -> None:
        """Forget mismatches of the size, since a response had the right one."""
        mismatch = self._get(dataset)
        if mismatch is not None and not mismatch.evidence.startswith(DIGEST_PREFIX):
            self.clear(dataset.id)

    def clear(self, dataset_id: str) -> None:
        """Forget the mismatches of a dataset."""
        with suppress(OSError):
            self._path(dataset_id).unlink()

    def dataset_ids(self) -> list[str]:
        """The ids of the datasets that have mismatches."""
        with suppress(OSError):
            return [path.stem for path in self._folder.glob("*.json")]
        return []

    def _get(self, dataset: Dataset) -> _Mismatch | None:
        try:
            mismatch = _Mismatch(**json.loads(read_small_file(str(self._path(dataset.id)))))
            is_old = self.clock() - mismatch.last > MISMATCH_TTL_SECONDS
            is_same = (mismatch.size, mismatch.md5) == (dataset.size, dataset.md5)
        except (OSError, ValueError, TypeError):
            return None
        return mismatch if is_same and not is_old else None

    def _put(self, dataset: Dataset, mismatch: _Mismatch) -> None:
        data = json.dumps(asdict(mismatch)).encode() + b"\n"
        replace_file(self._path(dataset.id), data)

    def _forget_old(self) -> None:
        with os.scandir(self._folder) as items:
            for item in items:
                with suppress(OSError):
                    if time.time() - item.stat().st_mtime > MISMATCH_TTL_SECONDS:
                        os.unlink(item.path)

    def _path(self, dataset_id: str) -> Path:
        return self._folder / f"{dataset_id}.json"


def with_advice(reason: str) -> str:
    """Return the reason of a verdict, with what to do when the server or the database is right."""
    return f"{reason}; when that is put right, run `onefs refresh` on it"


def _unconfirmed_error(dataset: Dataset, reason: str, pause: float) -> UnconfirmedMismatch:
    return UnconfirmedMismatch(
        f"{dataset.name}: {reason}; this may pass, and is asked again in {pause:.0f} s, or after "
        "`onefs refresh`"
    )
