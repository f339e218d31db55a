"""What is known of a file in the cache folder: an entry, kept in the index and beside the files.

The *record* of a file is its entry as JSON in ``.onefs/files/<dataset id>.json``, published by
rename. It is what processes and hosts that share a folder tell each other; the index is each
host's own copy of it, and can be rebuilt from the records. A record's mtime is when the file was
last used (to the minute), for the order of eviction.
"""

from __future__ import annotations

import json
import os
import secrets
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path

from onefs.content.holes import created, write_all


@dataclass(frozen=True, slots=True)
class Entry:
    """One file; the fields are described in ``index.sql``."""

    dataset_id: str
    path: str
    size: int
    mtime_ns: int
    inode: int
    claimed_size: int | None
    claimed_md5: str
    state: str
    reason: str
    #: 1 or 0
    ours: int
    used_at: float
    boot: str = ""
    generation: str = ""
    digest: str = ""


class Records:
    """The records of one cache folder. Thread-safe, and safe beside other processes.

    ``marks`` is a folder with an empty file for each dataset that is accepted: these few are found
    without reading every record. Raises OSError.
    """

    def __init__(self, folder: Path, marks: Path) -> None:
        self._folder = folder
        self._marks = marks
        for each in (folder, marks):
            each.mkdir(parents=True, exist_ok=True)

    def get(self, dataset_id: str) -> Entry | None:
        """None when there is no record, or one that makes no sense."""
        try:
            found = json.loads(self._path(dataset_id).read_bytes())
            entry = Entry(**found)
        except (FileNotFoundError, ValueError, TypeError):
            return None
        return entry if entry.dataset_id == dataset_id else None

    def put(self, entry: Entry) -> None:
        fresh = self._folder / f".{entry.dataset_id}.{secrets.token_hex(4)}"
        try:
            with created(fresh) as file:
                write_all(file, memoryview(json.dumps(asdict(entry)).encode() + b"\n"), 0)
            if entry.state == "accepted":
                (self._marks / entry.dataset_id).touch()
            else:
                (self._marks / entry.dataset_id).unlink(missing_ok=True)
            fresh.replace(self._path(entry.dataset_id))
        except OSError:
            fresh.unlink(missing_ok=True)
            raise

    def forget(self, dataset_id: str) -> None:
        self._path(dataset_id).unlink(missing_ok=True)

    def touch(self, dataset_id: str, now: float) -> None:
        """The file is being read."""
        with suppress(FileNotFoundError):
            os.utime(self._path(dataset_id), (now, now))

    def used(self) -> list[tuple[float, str]]:
        """When each file was last used, and its dataset's id."""
        found = []
        with os.scandir(self._folder) as items:
            for item in items:
                if item.name.endswith(".json") and not item.name.startswith("."):
                    with suppress(FileNotFoundError):
                        found.append((item.stat().st_mtime, item.name.removesuffix(".json")))
        return found

    def all(self) -> Iterator[Entry]:
        """Every record that makes sense."""
        for _, dataset_id in self.used():
            entry = self.get(dataset_id)
            if entry is not None:
                yield entry

    def accepted(self) -> Iterator[Entry]:
        """What the user has accepted although the database claims otherwise."""
        for name in os.listdir(self._marks):
            entry = self.get(name)
            if entry is not None and entry.state == "accepted":
                yield entry

    def _path(self, dataset_id: str) -> Path:
        return self._folder / f"{dataset_id}.json"


def boot_id() -> str:
    """What names this run of the machine's kernel."""
    return Path("/proc/sys/kernel/random/boot_id").read_text("ascii").strip()
