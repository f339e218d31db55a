"""Permission checks: refuse a cache or state folder that other users can change or replace.

The state folder has the catalogue and the log of onefs.

A user with permission to change or replace the folder can add symbolic links through which onefs
writes outside of the folder. Such a user can also add records that declare any bytes verified.
"""

from __future__ import annotations

import os
import stat
from pathlib import Path

from onefs.cache.files import scan_folder
from onefs.config.cache_owner import PRIVATE_FOLDER
from onefs.errors import CacheError, UsageError, reason_of

_TRUST_HINT = "or give --trust-cache-dir (ONEFS_TRUST_CACHE_DIR=1) if you trust this folder"


def check_cache_and_state_folders(cache_dir: Path, state_dir: Path) -> None:
    """Raise UsageError if other users can change or replace one of the two folders.

    ``state_dir`` is the folder of the catalogue and the log. Raises CacheError if a folder cannot
    be read.
    """
    check_cache_folder(cache_dir)
    check_folder(state_dir, "state")


def check_cache_folder(root: Path) -> None:
    """Raise UsageError if other users may write to a cache folder, or if it has symbolic links.

    A group of this user may write to the folder. Symbolic links named ``*.pqt`` are allowed. Raises
    CacheError if the folder cannot be read.
    """
    check_folder(root, "cache")
    private = root / PRIVATE_FOLDER
    try:
        if private.is_symlink():
            raise UsageError(_symlink_message(private))
        if (status := _stat_or_none(private)) is not None:
            _check_mode(private, status, "cache")
        for item in scan_folder(private):
            if item.is_symlink():
                raise UsageError(_symlink_message(Path(item.path)))
            _check_mode(Path(item.path), item.stat(follow_symlinks=False), "cache")
        for item in scan_folder(root):
            if item.is_symlink() and not item.name.endswith(".pqt"):
                raise UsageError(_symlink_message(Path(item.path)))
    except OSError as error:
        raise CacheError(
            f"the cache folder {root} cannot be examined: {reason_of(error, root)}"
        ) from error


def check_folder(folder: Path, kind: str) -> None:
    """Raise UsageError if other users may write to a folder, or may replace it.

    ``kind`` is the kind of the folder for the message: ``cache``, ``state`` or ``data``. The folder
    may be missing.
    """
    real = Path(os.path.realpath(folder))
    own_status = _stat_or_none(real)
    parent_status = _stat_or_none(real.parent)
    if own_status is not None:
        _check_mode(real, own_status, kind)
        is_foreign = own_status.st_uid not in (os.geteuid(), 0)
        if is_foreign and parent_status is not None and _is_world_writable(parent_status):
            raise UsageError(
                f"the {kind} folder {real} belongs to another user, in a folder that every user "
                f"may write to: use another folder, {_TRUST_HINT}"
            )
    for parent in real.parents:
        status = _stat_or_none(parent)
        if status is not None and _is_world_writable(status) and not status.st_mode & stat.S_ISVTX:
            raise UsageError(
                f"every user may replace the {kind} folder {real}, since {parent} is writable by "
                f"all: run `chmod o-w {parent}`, {_TRUST_HINT}"
            )


def is_inside_without_symlinks(root: Path, folder: Path) -> bool:
    """Return True if ``folder`` is reached from ``root`` without any symbolic link."""
    # with strings, because this check is a part of each download
    path, top = os.fspath(folder), os.fspath(root)
    while path not in (top, "/", ""):
        if os.path.islink(path):
            return False
        path = path.rpartition("/")[0]
    return True


def _check_mode(path: Path, status: os.stat_result, kind: str) -> None:
    if _is_world_writable(status):
        raise UsageError(
            f"every user may write to {path} of the {kind} folder: run `chmod o-w {path}`, "
            f"{_TRUST_HINT}"
        )
    ours = status.st_uid == os.geteuid() != 0
    members = {os.getegid(), *os.getgroups()}
    if ours and status.st_mode & stat.S_IWGRP and status.st_gid not in members:
        raise UsageError(
            f"a group that this user is not in may write to {path} of the {kind} folder: run "
            f"`chmod g-w {path}`, {_TRUST_HINT}"
        )


def _is_world_writable(status: os.stat_result) -> bool:
    return bool(status.st_mode & stat.S_IWOTH)


def _symlink_message(path: Path) -> str:
    return (
        f"{path} is a symbolic link, through which files would be written elsewhere: remove the "
        f"link, {_TRUST_HINT}"
    )


def _stat_or_none(path: Path) -> os.stat_result | None:
    try:
        return os.stat(path)
    except OSError:
        return None
