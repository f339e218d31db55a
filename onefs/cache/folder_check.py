"""Check whether a folder may become a cache folder.

A folder that already holds files of other programs may become a cache folder only with ``--adopt``.
"""

from __future__ import annotations

import os
from itertools import islice
from pathlib import Path

from onefs import alf
from onefs.cache.files import scan_folder
from onefs.config.cache_options import ADOPT_VARIABLE, parse_boolean
from onefs.config.cache_owner import PRIVATE_FOLDER
from onefs.errors import CacheError, UsageError, reason_of
from onefs.lowlevel.files import make_folder

#: entries that the file system creates on every new ext4 disk
_FILESYSTEM_ENTRIES = ("lost+found",)
#: names of entries in a folder of ONE-api, or in the folder of onefs's catalogue
_ONE_FOLDER_ENTRIES = (".rest", "catalogue.sqlite", "onefs.log")
#: most folders that are searched for sessions in each folder
_MAX_SCANNED_FOLDERS = 1000


def check_usable_as_cache(root: Path, state_dir: Path | None = None) -> None:
    """Raise UsageError if a folder may not be used as the cache folder.

    These folders may be used:

    - a cache folder, or a folder of ONE-api
    - a missing or empty folder
    - a folder that contains only ``state_dir``, the folder of the catalogue and the log
    - any folder, if the user gave ``--adopt``

    Raises CacheError if the folder cannot be read.
    """
    if is_adopt_requested():
        return
    try:
        if (root / PRIVATE_FOLDER).exists():
            return
        items = [item for item in scan_folder(root) if not _is_ignored_entry(item, state_dir)]
        if not items or _is_one_folder(items):
            return
    except OSError as error:
        raise CacheError(
            f"the cache folder {root} cannot be examined: {reason_of(error, root)}"
        ) from error
    raise UsageError(
        f"the folder {root} is not empty ({items[0].name!r}, ...) and is not a ONE folder: choose "
        f"another or an empty folder for the cache, or give --adopt ({ADOPT_VARIABLE}=1) to use "
        "this folder anyway"
    )


def is_adopt_requested() -> bool:
    """Whether the user gave the flag ``--adopt`` or set the variable ONEFS_ADOPT.

    The flag allows a cache folder with files of other programs. Raises UsageError if the variable
    has an invalid value.
    """
    value = os.environ.get(ADOPT_VARIABLE)
    try:
        return bool(value) and parse_boolean(value or "no")
    except UsageError as error:
        raise UsageError(f"{ADOPT_VARIABLE}: {error}") from error


def mark_as_cache_folder(root: Path) -> None:
    """Make the subfolder ``.onefs``, which marks a folder as a cache folder.

    Do nothing if the folder is missing. Raises CacheError if the subfolder cannot be made.
    """
    try:
        if root.is_dir():
            make_folder(root / PRIVATE_FOLDER, root)
    except OSError as error:
        raise CacheError(
            f"the cache folder {root} cannot be written: {reason_of(error, root)}"
        ) from error


def _is_ignored_entry(item: os.DirEntry[str], state_dir: Path | None) -> bool:
    """Whether a folder with only this entry counts as empty.

    True for ``lost+found``, ``state_dir``, and folders that contain ``state_dir``, the folder of
    the catalogue and the log.
    """
    if item.name in _FILESYSTEM_ENTRIES:
        return True
    return state_dir is not None and state_dir.is_relative_to(item.path)


def _is_one_folder(items: list[os.DirEntry[str]]) -> bool:
    """Whether ``items`` are the entries of a folder of ONE-api.

    Such a folder has files of ONE-api, or folders of labs or subjects.
    """
    if any(item.name in _ONE_FOLDER_ENTRIES or item.name.endswith(".pqt") for item in items):
        return True
    return any(_has_sessions(item) for item in _first_folders(items))


def _has_sessions(folder: os.DirEntry[str]) -> bool:
    """Whether a folder is the folder of a lab or of a subject.

    A lab has a folder ``Subjects`` or folders ``<subject>/<date>``. A subject has folders named by
    date.
    """
    below = _scan_if_readable(folder)
    if any(item.name == alf.SUBJECTS or alf.is_date(item.name) for item in below):
        return True
    return any(
        alf.is_date(item.name)
        for subject in _first_folders(below)
        for item in _scan_if_readable(subject)
    )


def _first_folders(items: list[os.DirEntry[str]]) -> list[os.DirEntry[str]]:
    """Return the first _MAX_SCANNED_FOLDERS folders in ``items``.

    Symbolic links to folders are left out.
    """
    folders = (item for item in items if item.is_dir(follow_symlinks=False))
    return list(islice(folders, _MAX_SCANNED_FOLDERS))


def _scan_if_readable(folder: os.DirEntry[str]) -> list[os.DirEntry[str]]:
    try:
        return scan_folder(Path(folder.path))
    except OSError:
        return []
