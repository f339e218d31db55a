"""A folder laboratory for tests, and the rows of the laboratory."""

from __future__ import annotations

import os
from pathlib import Path

from onefs.demo.folder_laboratory import FolderLaboratory
from onefs.demo.records import DatasetRecord

SESSION = "lab/Subjects/mouse/2020-01-01/001"


def put(root: Path, path: str, content: bytes = b"0123456789") -> Path:
    """Write ``content`` to the file ``path`` below ``root``."""
    target = root / path
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_bytes(content)
    return target


def all_rows(laboratory: FolderLaboratory) -> list[DatasetRecord]:
    """Return the datasets of all sessions."""
    return [row for s in laboratory.sessions() for row in laboratory.datasets(s.eid)]


def path_in_session(row: DatasetRecord) -> str:
    """Return the path of a dataset inside its session folder."""
    return row.file_records[0].relative_path.split("/", 3)[3]


def slow_disk(site: Path, folder: Path, seconds: float) -> dict[str, str]:
    """Return an environment in which Python waits ``seconds`` before it lists ``folder``.

    ``site`` is a new folder for start-up code of Python. A file ``waits`` in ``site`` says that a
    program waits.
    """
    return _disk(
        site,
        f"    if path == {os.path.realpath(folder)!r}:\n"
        f"        open({str(site / 'waits')!r}, 'w').close()\n"
        f"        time.sleep({seconds})\n",
    )


def unreadable_disk(site: Path, name: str) -> dict[str, str]:
    """Return an environment in which Python cannot list a folder of that name, not even as root.

    ``site`` is a new folder for start-up code of Python.
    """
    return _disk(
        site,
        f"    if str(path).endswith({'/' + name!r}):\n"
        "        raise PermissionError(errno.EACCES, 'Permission denied', path)\n",
    )


def _disk(site: Path, before: str) -> dict[str, str]:
    """Return an environment in which Python runs ``before`` when it lists ``path``."""
    site.mkdir()
    (site / "sitecustomize.py").write_text(
        "import errno, os, time\n"
        "_scan = os.scandir\n"
        "def scandir(path='.'):\n"
        f"{before}"
        "    return _scan(path)\n"
        "os.scandir = scandir\n"
    )
    others = os.environ.get("PYTHONPATH", "")
    return {"PYTHONPATH": f"{site}{os.pathsep}{others}"}
