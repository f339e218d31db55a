"""The owner of a cache folder: the only database whose files the folder holds.

The name of the owner is stored in a file in the cache folder.
"""

from __future__ import annotations

import json
from pathlib import Path

from onefs.errors import CacheError, UsageError, reason_of
from onefs.lowlevel.files import replace_file

#: the folder for onefs's own files inside a cache folder
PRIVATE_FOLDER = ".onefs"


def read_owner(root: Path) -> str | None:
    """Return the name of the database that owns a cache folder, or None if there is no owner yet.

    Raises CacheError if the file that holds the name cannot be read or is damaged.
    """
    label = _owner_file(root)
    try:
        return str(json.loads(label.read_text("utf-8"))["database"])
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        raise CacheError(f"the file {label} cannot be read: {reason_of(error, label)}") from error
    except (ValueError, KeyError, TypeError) as error:
        raise CacheError(
            f"the file {label} is damaged: remove this file if the cache folder belongs to this "
            "database"
        ) from error


def check_owner(root: Path, database: str) -> bool:
    """Return True if ``database`` owns a cache folder, and False if the folder has no owner yet.

    Raises UsageError if another database owns the folder. Raises CacheError if the owner cannot be
    read.
    """
    owner = read_owner(root)
    if owner not in (None, database):
        raise UsageError(
            f"the cache folder {root} belongs to {owner}, not to {database}: "
            "give another folder with --cache-dir"
        )
    return owner is not None


def claim_cache_folder(root: Path, database: str) -> None:
    """Make ``database`` the owner of a cache folder, if the folder has no owner yet.

    Raises UsageError if another database owns the folder. Raises CacheError if the owner cannot be
    read, and OSError if the owner cannot be written.
    """
    if check_owner(root, database):
        return
    replace_file(_owner_file(root), json.dumps({"database": database}).encode() + b"\n")


def _owner_file(root: Path) -> Path:
    return root / PRIVATE_FOLDER / "database.json"
