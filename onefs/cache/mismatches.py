"""Mismatches: responses that contradict the database, until they are confirmed.

An overloaded server may send an error text in place of a file, with status 200. So one response
with a wrong size or digest does not prove that the file is wrong. After a pause, the next read
requests the file again. Each further pause is longer. The file becomes ``bad`` only if several
requests, with these pauses between the requests, give the same evidence.

Mismatches are stored in ``.onefs/doubts/<dataset id>.json``. So all processes and hosts that share
a folder, including short commands, count the mismatches together.
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

#: number of responses with the same wrong size that make a file bad. With the pauses between them,
#: the responses take at least 30 seconds
REQUIRED_SIZE_MISMATCHES = 3
#: number of downloads of the whole file, with the same wrong digest, that make a file bad
REQUIRED_DIGEST_MISMATCHES = 2
#: a number that no count of mismatches reaches. It is used for evidence that proves nothing,
#: however often this evidence is seen
NEVER_CONFIRMED = 1 << 30
#: prefix of ``evidence`` if the evidence is the digest of a whole file
DIGEST_PREFIX = "digest "
#: seconds after the first mismatch during which the file is not requested
FIRST_PAUSE_SECONDS = 5.0
#: each pause is this many times as long as the pause before
PAUSE_FACTOR = 5.0
LONGEST_PAUSE_SECONDS = 300.0
#: seconds after which a mismatch is forgotten
MISMATCH_TTL_SECONDS = 86400.0
#: seconds after which the folder is listed again: a download need not look for each file
LISTING_TTL_SECONDS = 1.0


class UnconfirmedMismatch(BadContent):
    """A response contradicts the database, and the contradiction is not confirmed yet."""


@dataclass(frozen=True, slots=True)
class _Mismatch:
    """What is known about wrong responses for one dataset: they contradict the database."""

    #: size and md5 in the database when the mismatch was noted
    size: int | None
    md5: str
    #: size or digest of the last wrong response, in words
    evidence: str
    reason: str
    #: how often this evidence was seen in succession
    seen: int
    #: how often any mismatch was seen
    count: int
    #: when a mismatch was last seen (seconds since the epoch)
    last: float
    #: when the file may be requested again (seconds since the epoch)
    until: float


class Mismatches:
    """Responses that contradict the database (mismatches), recorded in one cache folder.

    Safe for threads and for other processes.
    """

    def __init__(self, folder: Path, clock: Callable[[], float] = time.time) -> None:
        self._folder = folder
        self.clock = clock
        #: the files that the folder had when it was listed, and until when that counts (monotonic)
        self._listed: tuple[frozenset[str], float] = frozenset(), 0.0
        with suppress(OSError):  # a mismatch without a file only causes more requests
            self._forget_old()

    def check(self, dataset: Dataset) -> bool:
        """Whether a response for a dataset has contradicted the database.

        Raises UnconfirmedMismatch during the pause after such a response, because the file must not
        be requested during the pause.
        """
        mismatch = self._get(dataset) if self._may_have(dataset) else None
        if mismatch is None:
            return False
        remaining = mismatch.until - self.clock()
        if 0 < remaining <= LONGEST_PAUSE_SECONDS:  # otherwise the clock was set back
            raise _unconfirmed_error(dataset, mismatch.reason, remaining)
        return True

    def describe(self, dataset: Dataset) -> str:
        """Return a sentence on how the last response for a dataset contradicted the database.

        Return '' if no response for the dataset has contradicted the database.
        """
        mismatch = self._get(dataset)
        if mismatch is None:
            return ""
        return str(
            _unconfirmed_error(dataset, mismatch.reason, max(0.0, mismatch.until - self.clock()))
        )

    def note_mismatch(
        self, dataset: Dataset, evidence: str, reason: str, needed: int = REQUIRED_SIZE_MISMATCHES
    ) -> str:
        """Count a mismatch: the server's bytes contradict the database.

        The mismatch is confirmed after ``needed`` responses in succession with the same
        ``evidence``. Then return ``reason`` with advice for the user. Before that, raises
        UnconfirmedMismatch.
        """
        before, now = self._get(dataset), self.clock()
        if before is not None and now < before.until <= now + LONGEST_PAUSE_SECONDS:
            # during the pause, mismatches are not counted
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
        log.info("%s", error)  # the error is also raised; this line is for the log of a mount
        raise error

    def clear_size_mismatch(self, dataset: Dataset) -> None:
        """Forget responses with a wrong size of a dataset, because a later response had the right
        size."""
        mismatch = self._get(dataset)
        if mismatch is not None and not mismatch.evidence.startswith(DIGEST_PREFIX):
            self.clear(dataset.id)

    def clear(self, dataset_id: str) -> None:
        """Forget that responses for a dataset contradicted the database."""
        with suppress(OSError):
            self._path(dataset_id).unlink()

    def dataset_ids(self) -> list[str]:
        """Return the ids of the datasets for which a response contradicted the database."""
        with suppress(OSError):
            return [path.stem for path in self._folder.glob("*.json")]
        return []

    def _may_have(self, dataset: Dataset) -> bool:
        """Whether there is a file for a dataset; one of another process counts a second later."""
        now = time.monotonic()
        names, until = self._listed
        if now > until:
            try:
                names = frozenset(os.listdir(self._folder))
            except OSError:
                return True
            self._listed = names, now + LISTING_TTL_SECONDS
        return f"{dataset.id}.json" in names

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
        self._listed = frozenset(), 0.0

    def _forget_old(self) -> None:
        with os.scandir(self._folder) as items:
            for item in items:
                with suppress(OSError):
                    if time.time() - item.stat().st_mtime > MISMATCH_TTL_SECONDS:
                        os.unlink(item.path)

    def _path(self, dataset_id: str) -> Path:
        return self._folder / f"{dataset_id}.json"


def with_advice(reason: str) -> str:
    """Return the reason why a file is bad, and the command to run after the cause is corrected."""
    return f"{reason}; when the file or the database is corrected, run `onefs refresh` on the file"


def _unconfirmed_error(dataset: Dataset, reason: str, pause: float) -> UnconfirmedMismatch:
    return UnconfirmedMismatch(
        f"{dataset.name}: {reason}; the mismatch may be temporary: the file can be fetched again "
        f"in {pause:.0f} s, or after `onefs refresh`"
    )
