"""Real files of an IBL rig (``tests/data/rig``; MIT, see its LICENSE), and their manifest."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

FOLDER = Path(__file__).parent / "data" / "rig"
#: an ALF folder: ``iblrig/Subjects/<subject>/<date>/<number>/...``
FILES = FOLDER / "files"
#: what the mount shows at ``iblrig``
SUBJECTS = FILES / "iblrig" / "Subjects"


@dataclass(frozen=True)
class RigFile:
    """A line of the manifest."""

    #: with ``Subjects/``
    path: str
    size: int
    md5: str

    @property
    def short(self) -> str:
        """The path without ``Subjects/``, as the mount lists it."""
        return self.path.replace("/Subjects/", "/", 1)


def manifest() -> list[RigFile]:
    """Return every file of the manifest."""
    lines = (FOLDER / "manifest.tsv").read_text().splitlines()
    rows = (line.split("\t") for line in lines)
    return [RigFile(path, int(size), md5) for path, size, md5 in rows]
