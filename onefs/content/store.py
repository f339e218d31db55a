"""The cache folder: where files stand, whether they are verified, and how they get there.

The folder is a ONE cache folder: a complete file stands at
``<lab>/Subjects/<subject>/<date>/<nnn>/<collection>/<name>``. What is ours alone is in ``.onefs/``:
``database.json`` names the laboratory that the folder belongs to, ``partial/`` holds what is being
fetched, ``aside/`` complete files whose ONE path is taken by a file that onefs did not download,
and ``locks`` carries one byte-range lock a dataset.
"""

from __future__ import annotations

import errno
import json
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from onefs.alf import SUBJECTS
from onefs.content.index import Entry, Index
from onefs.content.verify import Verdict, judge_file
from onefs.errors import CacheError, CacheFull, OnefsError, UsageError
from onefs.model import Dataset

#: what is ours inside a cache folder
PRIVATE = ".onefs"

#: a dataset's folders from the lab on, and its name: ("cortexlab", "KS023", ..., "spikes.npy")
Place = tuple[str, ...]


class Store:
    """The files of one laboratory in one cache folder. Thread-safe, and safe beside others.

    ``database`` names the laboratory (its host, or ``demo-<hash>``): a folder that belongs to
    another is refused with UsageError. Raises CacheError or CacheFull when the disk fails.
    """

    def __init__(self, root: Path, index: Index, database: str) -> None:
        self.root = root
        self._index = index
        with disk_errors(root):
            (root / PRIVATE / "partial").mkdir(parents=True, exist_ok=True)
            self._claim(database)

    def verdict(self, dataset: Dataset) -> Verdict | None:
        """What is known of a dataset's bytes without reading them; None when nothing is."""
        entry = self._index.get(dataset.id)
        if entry is None or not _claims_agree(entry, dataset):
            return None
        if entry.state != "bad" and not self._unchanged(entry):
            return None
        return Verdict(entry.state, entry.reason)

    def known(self, dataset: Dataset) -> Path | None:
        """The verified file of a dataset by the index alone; None when there is none."""
        entry = self._index.get(dataset.id)
        if entry is None or entry.state == "bad" or not _claims_agree(entry, dataset):
            return None
        return self.root / entry.path if self._unchanged(entry) else None

    def adopt(self, dataset: Dataset, place: Place) -> Path | None:
        """Take the file that stands at the ONE path, if it is what the database describes.

        It is read whole and hashed; without a hash in the database nothing is taken.
        """
        final = self._final(place)
        with disk_errors(self.root):
            if not dataset.md5 or not final.is_file():
                return None
            verdict = judge_file(dataset, final)
            if not verdict.good:
                return None
            self._record(dataset, final, verdict, ours=self._is_ours(dataset, final))
        return final

    def stands(self, dataset: Dataset, place: Place) -> bool:
        """Whether a file is at the ONE path that :meth:`adopt` would look into."""
        return bool(dataset.md5) and self._final(place).is_file()

    def publish(self, dataset: Dataset, place: Place, partial: Path, verdict: Verdict) -> Path:
        """Give a verified partial file its final name, with an atomic rename.

        What onefs did not download is never overwritten: where such a file has the name, ours
        stands in ``.onefs/aside`` instead.
        """
        with disk_errors(self.root):
            final = self._final(place)
            if final.exists() and not self._is_ours(dataset, final):
                final = self.root / PRIVATE / "aside" / dataset.id
            final.parent.mkdir(parents=True, exist_ok=True)
            os.utime(partial, (time.time(), dataset.mtime))
            partial.replace(final)
            self._record(dataset, final, verdict, ours=True)
        return final

    def condemn(self, dataset: Dataset, reason: str) -> None:
        """Remember that the server's bytes contradict the database, until the claims change."""
        self._index.put(
            Entry(dataset.id, "", 0, 0, 0, dataset.size, dataset.md5, "bad", reason, 0, 0.0)
        )

    def used(self, dataset: Dataset) -> None:
        """Note that a file is being read, for the order of eviction."""
        self._index.touch(dataset.id, time.time())

    def partial(self, dataset: Dataset) -> Path:
        """Where a dataset is fetched to, by whoever holds its lock."""
        return self.root / PRIVATE / "partial" / dataset.id

    def total_bytes(self) -> int:
        """Bytes of the files that onefs downloaded."""
        return self._index.total_bytes()

    def space(self) -> tuple[int, int]:
        """``(total, free)`` bytes of the disk that the folder lies on."""
        with disk_errors(self.root):
            found = os.statvfs(self.root)
        return found.f_blocks * found.f_frsize, found.f_bavail * found.f_frsize

    def _claim(self, database: str) -> None:
        """Write our laboratory's name into a new folder, or compare it with the one there."""
        label = self.root / PRIVATE / "database.json"
        try:
            owner = json.loads(label.read_text("utf-8"))["database"]
        except FileNotFoundError:
            fresh = label.with_suffix(f".{os.getpid()}")
            fresh.write_text(json.dumps({"database": database}) + "\n", "utf-8")
            fresh.replace(label)
            return
        except (ValueError, KeyError, TypeError) as error:
            raise CacheError(f"{label} is not readable: remove it if the folder is ours") from error
        if owner != database:
            raise UsageError(
                f"the cache folder {self.root} belongs to {owner}, not to {database}: "
                "give another one with --cache-dir"
            )

    def _final(self, place: Place) -> Path:
        lab, *rest = place
        return self.root.joinpath(lab, SUBJECTS, *rest)

    def _is_ours(self, dataset: Dataset, path: Path) -> bool:
        """Whether onefs downloaded the file at ``path`` (and nobody has replaced it since)."""
        entry = self._index.get(dataset.id)
        relative = str(path.relative_to(self.root))
        if entry is None or not entry.ours or entry.path != relative:
            return False
        return self._unchanged(entry)

    def _unchanged(self, entry: Entry) -> bool:
        try:
            found = (self.root / entry.path).stat()
        except OSError:
            return False
        return (found.st_size, found.st_mtime_ns, found.st_ino) == (
            entry.size,
            entry.mtime_ns,
            entry.inode,
        )

    def _record(self, dataset: Dataset, path: Path, verdict: Verdict, ours: bool) -> None:
        found = path.stat()
        self._index.put(
            Entry(
                dataset_id=dataset.id,
                path=str(path.relative_to(self.root)),
                size=found.st_size,
                mtime_ns=found.st_mtime_ns,
                inode=found.st_ino,
                claimed_size=dataset.size,
                claimed_md5=dataset.md5,
                state=verdict.state,
                reason="",
                ours=int(ours),
                used_at=time.time(),
            )
        )


def _claims_agree(entry: Entry, dataset: Dataset) -> bool:
    return (entry.claimed_size, entry.claimed_md5) == (dataset.size, dataset.md5)


@contextmanager
def disk_errors(root: Path) -> Iterator[None]:
    """Turn the disk's errors into ours."""
    try:
        yield
    except OnefsError:  # some of ours are OSErrors too
        raise
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise CacheFull(f"the disk of the cache folder {root} is full") from error
        raise CacheError(f"the cache folder {root} cannot be used: {error}") from error


def remove(path: Path) -> None:
    """Remove a file of ours that may not be there."""
    with suppress(OSError):
        path.unlink()
