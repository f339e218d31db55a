"""Whether a folder may become a cache folder: a project or a home folder may not, unasked."""

from __future__ import annotations

import os
from itertools import islice
from pathlib import Path

from onefs import alf
from onefs.descriptors import make_folder
from onefs.errors import CacheError, UsageError, reason_of
from onefs.owner import PRIVATE
from onefs.storing import yes_or_no

#: the variable of ``--adopt``
ADOPT = "ONEFS_ADOPT"

#: what is no content of a folder: every new ext4 disk has it
_OF_THE_DISK = ("lost+found",)
#: what a ONE folder, or the state folder of onefs, has at its top
_SIGNS = (".rest", "catalogue.sqlite", "onefs.log")
#: how many folders of a level are looked through for sessions
_LOOK_FOLDERS = 1000


def check_may_cache(root: Path, state_dir: Path | None = None) -> None:
    """Raise UsageError for a folder that holds other things when onefs uses it first.

    An empty folder, a new one and a ONE folder are taken, and any with ``--adopt``. ``state_dir``
    may lie in the folder. Raises CacheError when the folder cannot be looked at.
    """
    if adopts():
        return
    try:
        if (root / PRIVATE).exists():
            return
        items = [item for item in _items(root) if not _is_around(item, state_dir)]
        if not items or _is_one_folder(items):
            return
    except OSError as error:
        raise CacheError(
            f"the cache folder {root} cannot be looked at: {reason_of(error, root)}"
        ) from error
    raise UsageError(
        f"the folder {root} holds other things ({items[0].name!r}, ...) and is no ONE folder: name "
        f"another or an empty folder for the cache, or give --adopt ({ADOPT}=1) to keep files "
        "there all the same"
    )


def adopts() -> bool:
    """Whether ``--adopt`` is given. Raises UsageError when the variable has no clear value."""
    value = os.environ.get(ADOPT)
    try:
        return bool(value) and yes_or_no(value or "no")
    except UsageError as error:
        raise UsageError(f"{ADOPT}: {error}") from error


def adopt(root: Path) -> None:
    """Mark a folder that is there as a cache folder. Raises CacheError."""
    try:
        if root.is_dir():
            make_folder(root / PRIVATE, root)
    except OSError as error:
        raise CacheError(
            f"the cache folder {root} cannot be written: {reason_of(error, root)}"
        ) from error


def _is_around(item: os.DirEntry[str], state_dir: Path | None) -> bool:
    """Whether an item is the disk's own, or holds the state folder."""
    if item.name in _OF_THE_DISK:
        return True
    return state_dir is not None and state_dir.is_relative_to(item.path)


def _is_one_folder(items: list[os.DirEntry[str]]) -> bool:
    """Whether the top of a folder is that of a ONE folder: tables, labs, or subjects."""
    if any(item.name in _SIGNS or item.name.endswith(".pqt") for item in items):
        return True
    return any(_holds_sessions(item) for item in _folders(items))


def _holds_sessions(folder: os.DirEntry[str]) -> bool:
    """Whether a folder is a lab's or a subject's: it holds Subjects, DATE or SUBJECT/DATE."""
    below = _items_if_readable(folder)
    if any(item.name == alf.SUBJECTS or alf.is_date(item.name) for item in below):
        return True
    return any(
        alf.is_date(item.name)
        for subject in _folders(below)
        for item in _items_if_readable(subject)
    )


def _folders(items: list[os.DirEntry[str]]) -> list[os.DirEntry[str]]:
    """The first folders among ``items``; links are not followed."""
    found = (item for item in items if item.is_dir(follow_symlinks=False))
    return list(islice(found, _LOOK_FOLDERS))


def _items_if_readable(folder: os.DirEntry[str]) -> list[os.DirEntry[str]]:
    try:
        return _items(Path(folder.path))
    except OSError:
        return []


def _items(folder: Path) -> list[os.DirEntry[str]]:
    try:
        with os.scandir(folder) as items:
            return list(items)
    except (FileNotFoundError, NotADirectoryError):
        return []
