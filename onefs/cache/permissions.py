"""Whether a cache or state folder can be trusted: nothing in it may have been planted by others.

A user who may write into the folder, or replace it, can make onefs write outside of it with a
symbolic link, and can give it records that call any bytes verified.
"""

from __future__ import annotations

import os
import stat
from pathlib import Path

from onefs.config.cache_owner import PRIVATE_FOLDER
from onefs.errors import CacheError, UsageError, reason_of

_TRUST_HINT = "or give --trust-cache-dir (ONEFS_TRUST_CACHE_DIR=1) if that is meant"


def check_cache_and_state_folders(cache_dir: Path, state_dir: Path) -> None:
    """Raise UsageError when one of the two folders is not to be trusted, CacheError when that
    cannot be told."""
    check_cache_folder(cache_dir)
    check_folder(state_dir, "state")


def check_cache_folder(root: Path) -> None:
    """Raise UsageError for a cache folder that others may write to without need, or with links.

    Members of the folder's group may write to it, where this user is one of them: so users share a
    cache. Raises CacheError when the folder cannot be looked at.
    """
    check_folder(root, "cache")
    private = root / PRIVATE_FOLDER
    try:
        if private.is_symlink():
            raise UsageError(_symlink_message(private))
        if (found := _stat_or_none(private)) is not None:
            _check_mode(private, found, "cache")
        for item in _scan_folder(private):
            if item.is_symlink():
                raise UsageError(_symlink_message(Path(item.path)))
            _check_mode(Path(item.path), item.stat(follow_symlinks=False), "cache")
        for item in _scan_folder(root):
            if item.is_symlink() and not item.name.endswith(".pqt"):
                raise UsageError(_symlink_message(Path(item.path)))
    except OSError as error:
        raise CacheError(
            f"the cache folder {root} cannot be looked at: {reason_of(error, root)}"
        ) from error


def check_folder(folder: Path, kind: str) -> None:
    """Raise UsageError for a folder that others may write to without need, or may replace.

    ``kind`` is what it is: ``cache``, ``state`` or ``data``. One that is not there yet may be made.
    """
    real = Path(os.path.realpath(folder))
    here = _stat_or_none(real)
    above = _stat_or_none(real.parent)
    if here is not None:
        _check_mode(real, here, kind)
        if above is not None and _is_world_writable(above) and here.st_uid not in (os.geteuid(), 0):
            raise UsageError(
                f"the {kind} folder {real} belongs to another user, in a folder that every user "
                f"may write to: use another one, {_TRUST_HINT}"
            )
    for parent in real.parents:
        found = _stat_or_none(parent)
        if found is not None and _is_world_writable(found) and not found.st_mode & stat.S_ISVTX:
            raise UsageError(
                f"every user may replace the {kind} folder {real}, since {parent} is writable by "
                f"all: run `chmod o-w {parent}`, {_TRUST_HINT}"
            )


def is_inside_without_symlinks(root: Path, folder: Path) -> bool:
    """Whether a folder below ``root`` lies there without a symbolic link on the way."""
    for path in (folder, *folder.parents):
        if path == root:
            return True
        if path.is_symlink():
            return False
    return True


def _check_mode(path: Path, found: os.stat_result, kind: str) -> None:
    if _is_world_writable(found):
        raise UsageError(
            f"every user may write to {path} of the {kind} folder: run `chmod o-w {path}`, "
            f"{_TRUST_HINT}"
        )
    ours = found.st_uid == os.geteuid() != 0
    members = {os.getegid(), *os.getgroups()}
    if ours and found.st_mode & stat.S_IWGRP and found.st_gid not in members:
        raise UsageError(
            f"a group that this user is not in may write to {path} of the {kind} folder: run "
            f"`chmod g-w {path}`, {_TRUST_HINT}"
        )


def _is_world_writable(found: os.stat_result) -> bool:
    return bool(found.st_mode & stat.S_IWOTH)


def _symlink_message(path: Path) -> str:
    return (
        f"{path} is a symbolic link, through which files would be written elsewhere: remove it, "
        f"{_TRUST_HINT}"
    )


def _stat_or_none(path: Path) -> os.stat_result | None:
    try:
        return os.stat(path)
    except OSError:
        return None


def _scan_folder(folder: Path) -> list[os.DirEntry[str]]:
    try:
        with os.scandir(folder) as items:
            return list(items)
    except (FileNotFoundError, NotADirectoryError):
        return []
