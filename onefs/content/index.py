"""The store's SQLite index: rows in, rows out. Decides nothing (see ``index.sql``)."""

from __future__ import annotations

from dataclasses import astuple, dataclass
from importlib import resources
from pathlib import Path

from onefs.sqlite import SqliteFile

SCHEMA = 1


@dataclass(frozen=True, slots=True)
class Entry:
    """One row of the index; the fields are described in ``index.sql``."""

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


class Index:
    """Thread-safe, and safe beside other processes. Raises CacheError."""

    def __init__(self, path: Path) -> None:
        schema = resources.files("onefs.content").joinpath("index.sql").read_text("utf-8")
        self._file = SqliteFile(path, schema, SCHEMA, "the cache index")
        self._execute = self._file.rows

    def close(self) -> None:
        self._file.close()

    def get(self, dataset_id: str) -> Entry | None:
        found = self._execute("SELECT * FROM files WHERE dataset_id = ?", dataset_id)
        return Entry(*found[0]) if found else None

    def put(self, entry: Entry) -> None:
        self._execute(f"REPLACE INTO files VALUES ({', '.join('?' * 11)})", *astuple(entry))

    def forget(self, dataset_id: str) -> None:
        self._execute("DELETE FROM files WHERE dataset_id = ?", dataset_id)

    def touch(self, dataset_id: str, now: float) -> None:
        self._execute("UPDATE files SET used_at = ? WHERE dataset_id = ?", now, dataset_id)

    def total_bytes(self) -> int:
        """Bytes of the files that onefs downloaded."""
        return int(self._execute("SELECT coalesce(sum(size), 0) FROM files WHERE ours")[0][0])
