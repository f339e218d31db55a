"""Whose a cache folder is: it belongs to one laboratory, and says to which."""

from __future__ import annotations

import json
from pathlib import Path

from onefs.errors import CacheError, UsageError, reason_of
from onefs.lowlevel.files import replace_file

#: what is ours inside a cache folder
PRIVATE_FOLDER = ".onefs"


def read_owner(root: Path) -> str | None:
    """The laboratory that a cache folder belongs to; None when it belongs to nobody yet.

    Raises CacheError when that cannot be told.
    """
    label = _owner_file(root)
    try:
        return str(json.loads(label.read_text("utf-8"))["database"])
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        raise CacheError(f"{label} cannot be read: {reason_of(error, label)}") from error
    except (ValueError, KeyError, TypeError) as error:
        raise CacheError(f"{label} is not readable: remove it if the folder is ours") from error


def check_owner(root: Path, database: str) -> bool:
    """Whether a cache folder says that it belongs to a laboratory. Raises UsageError when it
    belongs to another, CacheError when that cannot be told."""
    owner = read_owner(root)
    if owner not in (None, database):
        raise UsageError(
            f"the cache folder {root} belongs to {owner}, not to {database}: "
            "give another one with --cache-dir"
        )
    return owner is not None


def claim_cache_folder(root: Path, database: str) -> None:
    """Write a laboratory's name into a new cache folder, or compare it with the one there.

    Raises as :func:`check_owner` does, and OSError.
    """
    if check_owner(root, database):
        return
    replace_file(_owner_file(root), json.dumps({"database": database}).encode() + b"\n")


def _owner_file(root: Path) -> Path:
    return root / PRIVATE_FOLDER / "database.json"
