"""Releases: datasets that a tag of Alyx publishes together, as the tables of this tag list them.

Each release has a catalogue of its own, in ``<state dir>/.releases/<tag>``. Nothing in it comes
from Alyx later than its tables, so that it stays as it was published.
"""

from __future__ import annotations

import re
from pathlib import Path

from onefs.errors import UsageError

#: the folder in a state folder with a folder for each release. No state folder that a user names is
#: likely to be in a folder of this name
RELEASES_FOLDER = ".releases"
_TAG = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,99}")


def release_dir(state_dir: Path, tag: str) -> Path:
    """Return the folder of a release's catalogue. Raises UsageError for an invalid tag."""
    if not is_tag(tag):
        raise UsageError(
            f"{ascii(tag)[:80]} is not the name of a release: `onefs tags` lists the releases"
        )
    return state_dir / RELEASES_FOLDER / tag


def is_tag(text: str) -> bool:
    """Whether ``text`` can be the name of a release: letters, digits, dots, dashes, underscores."""
    return _TAG.fullmatch(text) is not None


def release_of(state_dir: Path) -> str:
    """Return the release whose catalogue is in ``state_dir``; '' for a whole database."""
    return state_dir.name if state_dir.parent.name == RELEASES_FOLDER else ""


def database_dir(state_dir: Path) -> Path:
    """Return the state folder of the whole database, if ``state_dir`` is that of a release."""
    return state_dir.parent.parent if release_of(state_dir) else state_dir
