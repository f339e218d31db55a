"""A folder laboratory for tests, and the rows that it has."""

from __future__ import annotations

from pathlib import Path

from onefs.demo.folder import FolderLaboratory
from onefs.demo.records import DatasetRecord

SESSION = "lab/Subjects/mouse/2020-01-01/001"


def put(root: Path, path: str, content: bytes = b"0123456789") -> Path:
    """A file of ``content`` at ``path`` below ``root``."""
    target = root / path
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_bytes(content)
    return target


def all_rows(laboratory: FolderLaboratory) -> list[DatasetRecord]:
    """The datasets of every session."""
    return [row for s in laboratory.sessions() for row in laboratory.datasets(s.eid)]


def inside(row: DatasetRecord) -> str:
    """A dataset's path from its session folder on."""
    return row.file_records[0].relative_path.split("/", 3)[3]
