"""Answers that contradict the database, until they came often enough to be believed.

A server in trouble may send a sentence in the place of a file, with status 200. So one answer of a
wrong size, or with a wrong hash, is no verdict on the file: the next read after a pause asks again,
and the pauses grow. Only the same evidence, seen on separate requests with these pauses between
them, makes the file ``bad``.

What was seen is kept in ``.onefs/doubts/<dataset id>.json``, so that the processes and hosts which
share a folder count together, and short commands too.
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

#: answers of the same wrong size that make a file bad; with the pauses they take 30 seconds
REQUIRED_SIZE_MISMATCHES = 3
#: whole files with the same wrong hash that do
REQUIRED_DIGEST_MISMATCHES = 2
#: more than there can be: of what proves nothing, however often it is seen
NEVER_CONFIRMED = 1 << 30
#: begins the evidence that is a hash of a whole file
DIGEST_PREFIX = "digest "
#: seconds after the first answer in which the file is not asked for; then so much longer each time
FIRST_PAUSE_SECONDS = 5.0
PAUSE_FACTOR = 5.0
LONGEST_PAUSE_SECONDS = 300.0
#: seconds after which what was seen is forgotten
MISMATCH_TTL_SECONDS = 86400.0


class UnconfirmedMismatch(BadContent):
    """An answer contradicts the database, and has not come often enough to be believed."""


@dataclass(frozen=True, slots=True)
class _Mismatch:
    """What was seen of one dataset."""

    #: what the database claimed then
    size: int | None
    md5: str
    evidence: str
    reason: str
    #: how often the evidence was seen in succession, and how often any was
    seen: int
    count: int
    #: when it was last seen, and when the file may be asked for again; seconds since 1970
    last: float
    until: float


class Mismatches:
    """The doubts about datasets of one cache folder. Thread-safe, and safe beside others."""

    def __init__(self, folder: Path, clock: Callable[[], float] = time.time) -> None:
        self._folder = folder
        self.clock = clock
        with suppress(OSError):  # what cannot be kept is only asked for more often
            self._forget_old()

    def check(self, dataset: Dataset) -> bool:
        """Whether there are doubts about a dataset. Raises Unconfirmed during the pause."""
        doubt = self._get(dataset)
        if doubt is None:
            return False
        left = doubt.until - self.clock()
        if 0 < left <= LONGEST_PAUSE_SECONDS:  # else the clock was set back
            raise _unconfirmed_error(dataset, doubt.reason, left)
        return True

    def describe(self, dataset: Dataset) -> str:
        """What was last seen of a dataset, in a sentence; '' when there are no doubts."""
        doubt = self._get(dataset)
        if doubt is None:
            return ""
        return str(_unconfirmed_error(dataset, doubt.reason, max(0.0, doubt.until - self.clock())))

    def note_mismatch(
        self, dataset: Dataset, evidence: str, reason: str, needed: int = REQUIRED_SIZE_MISMATCHES
    ) -> str:
        """Note an answer; the reason of the verdict once it has come ``needed`` times.

        Raises Unconfirmed until then. What is seen during a pause belongs to the answer before it.
        """
        known, now = self._get(dataset), self.clock()
        if known is not None and now < known.until <= now + LONGEST_PAUSE_SECONDS:
            raise _unconfirmed_error(dataset, reason, known.until - now)
        count = 1 if known is None else known.count + 1
        seen = known.seen + 1 if known is not None and known.evidence == evidence else 1
        if seen >= needed:
            self.clear(dataset.id)
            return with_advice(reason)
        pause = min(FIRST_PAUSE_SECONDS * PAUSE_FACTOR ** min(count - 1, 9), LONGEST_PAUSE_SECONDS)
        doubt = _Mismatch(
            dataset.size, dataset.md5, evidence, reason, seen, count, now, now + pause
        )
        with suppress(OSError):
            self._put(dataset, doubt)
        error = _unconfirmed_error(dataset, reason, pause)
        log.info("%s", error)  # it is raised, too: the line is for a mount's log
        raise error

    def clear_size_mismatch(self, dataset: Dataset) -> None:
        """Forget wrong sizes: an answer had the right one."""
        doubt = self._get(dataset)
        if doubt is not None and not doubt.evidence.startswith(DIGEST_PREFIX):
            self.clear(dataset.id)

    def clear(self, dataset_id: str) -> None:
        """Forget what was seen of a dataset: it is good, or bad, or the user wants it anew."""
        with suppress(OSError):
            self._path(dataset_id).unlink()

    def dataset_ids(self) -> list[str]:
        """The ids of the datasets about which there are doubts."""
        with suppress(OSError):
            return [path.stem for path in self._folder.glob("*.json")]
        return []

    def _get(self, dataset: Dataset) -> _Mismatch | None:
        try:
            doubt = _Mismatch(**json.loads(read_small_file(str(self._path(dataset.id)))))
            old = self.clock() - doubt.last > MISMATCH_TTL_SECONDS
            same = (doubt.size, doubt.md5) == (dataset.size, dataset.md5)
        except (OSError, ValueError, TypeError):
            return None
        return doubt if same and not old else None

    def _put(self, dataset: Dataset, doubt: _Mismatch) -> None:
        data = json.dumps(asdict(doubt)).encode() + b"\n"
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
