"""``onefs refresh``: invalidates cached listings."""

from __future__ import annotations

import errno
import os
import sys
import time
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import click

from onefs import alf
from onefs.cli.options import database_options, folder_options, require_value
from onefs.cli.output import EXIT_FAILED, say
from onefs.config.cache_options import resolve_cache_options
from onefs.config.settings import resolve_settings
from onefs.config.urls import host_key
from onefs.databases import cache_owner_of
from onefs.errors import NotConfigured, NotFound, UsageError
from onefs.lowlevel.paths import absolute_as_written

if TYPE_CHECKING:
    from onefs.mount.mount_registry import MountInfo
    from onefs.tree.variant import Variant

#: number of folders in the path of a session (lab, subject, date, number); deeper folders have no
#: listing of their own
_SESSION_DEPTH = 4
#: seconds in which all mounts together must refresh, including the time to look up PATH
_REFRESH_TIMEOUT_SECONDS = 5.0
#: seconds in which PATH must be looked up
_LOOKUP_TIMEOUT_SECONDS = 2.0

_DEAD_MESSAGE = "the mount at {0} is dead: remove it with `onefs umount {0}`"
#: errno of a failed refresh -> message about the mount
_FAILURE_MESSAGES = {
    errno.ENODATA: "the mount at {0} runs an older onefs, and shows new data within a minute; "
    "unmount it and mount again to see new data at once",
    errno.ENOTCONN: _DEAD_MESSAGE,
    errno.ECONNABORTED: _DEAD_MESSAGE,
}


@click.command()
@click.argument("path", required=False, type=click.Path(), callback=require_value)
@database_options
@folder_options
def refresh(path: str | None, **flags: str | None) -> None:
    """Invalidate the cached listings of PATH and below. Without PATH, invalidate all listings.

    PATH is in a mount. PATH may be a path that does not exist yet, or does not exist any more.
    Running mounts and the kernel drop the names and listings that they have cached. When a program
    next lists a folder, the server is asked again. While the server is unreachable, the old listing
    is shown. Rejected files are fetched again at the next read.
    """
    from onefs.mount.mount_registry import list_mounts

    mounts = list_mounts()
    if path is None:
        folders = _selected_state_dirs(flags, mounts)
        _invalidate(folders, [()], flags)
        _clear_rejections(folders, (), flags)
        _refresh_mounts(mounts, folders, _REFRESH_TIMEOUT_SECONDS)
        return
    began = time.monotonic()
    target = _find_target(path, mounts)
    timeout = _REFRESH_TIMEOUT_SECONDS - (time.monotonic() - began)
    folders = _state_dirs_of([_database_of(target.mount)], mounts)
    _invalidate(folders, target.scopes_to_invalidate(), flags)
    _clear_rejections(folders, target.place, flags, target.variant)
    _refresh_mounts(mounts, folders, timeout)
    if target.missing_count:
        _check_exists(target)


@dataclass(frozen=True, slots=True)
class _Target:
    """The mount that PATH is in, and the place that PATH names in this mount."""

    mount: MountInfo
    #: PATH as an absolute path without symbolic links
    real: str
    #: the names in PATH, beginning with the lab
    place: tuple[str, ...]
    #: the variant of the tree that contains PATH
    variant: Variant
    #: the number of names at the end of PATH that do not exist
    missing_count: int

    def scopes_to_invalidate(self) -> list[tuple[str, ...]]:
        """Return the folders whose listings must be invalidated."""
        if self.place[:1] == (alf.AGGREGATES,):  # one listing has all of them
            return [self.place[:1]]
        # "~" marks one of two folders with the same name: invalidate both, through their parent
        depth = next((i for i, name in enumerate(self.place) if "~" in name), _SESSION_DEPTH)
        deepest = self.place[: min(depth, _SESSION_DEPTH)]
        # each name that does not exist may be a new folder
        first = min(len(self.place) - self.missing_count + 1, len(deepest))
        return [deepest[:length] for length in range(max(first, 0), len(deepest) + 1)]


def _find_target(path: str, mounts: Iterable[MountInfo]) -> _Target:
    """Return the mount that contains ``path``, and the place that ``path`` names in this mount.

    Raises UsageError if ``path`` is in no mount of this user.
    """
    from onefs.databases import refuse_other_users_mount
    from onefs.mount.mount_probes import resolve_path
    from onefs.tree.variant import split_variant

    # links in a mount (Subjects, 1 instead of 001) are resolved by the mount, if it answers
    whole = path if os.path.isabs(path) else absolute_as_written(path)
    real, missing = resolve_path(whole, _LOOKUP_TIMEOUT_SECONDS) or (os.path.normpath(whole), 0)
    inside = [
        mount for mount in mounts if mount.state_dir and Path(real).is_relative_to(mount.mountpoint)
    ]
    if not inside:
        refuse_other_users_mount(path)
        raise UsageError(f"{path} is not in a mount of onefs: `onefs status` shows the mounts")
    mount = max(inside, key=lambda each: len(each.mountpoint))
    below = Path(real).relative_to(mount.mountpoint).parts
    variant, inner = split_variant((*mount.variant.folders, *below))
    return _Target(mount, real, inner, variant, missing)


def _is_trust_enabled(flags: dict[str, str | None]) -> bool:
    """Whether folders that other users may write to are trusted."""
    try:
        return resolve_settings(flags).cache_options.trust_cache_dir
    except NotConfigured:
        return resolve_cache_options(flags, os.environ, {}).trust_cache_dir


def _database_of(mount: MountInfo) -> str:
    """Return the name of the database that a mount shows."""
    return cache_owner_of(Path(mount.cache_dir)) or host_key(mount.url)


def _state_dirs_of(databases: Iterable[str], mounts: Iterable[MountInfo]) -> set[Path]:
    """Return the state folders (with the catalogues) of all mounts of these databases."""
    names = set(databases)
    return {
        Path(mount.state_dir)
        for mount in mounts
        if mount.state_dir and _database_of(mount) in names
    }


def _selected_state_dirs(flags: dict[str, str | None], mounts: Iterable[MountInfo]) -> set[Path]:
    """Return the folders with the catalogues (state folders) of the database that ``flags`` name.

    Without flags, return the folders of all mounts and of the default database. Raises
    NotConfigured if there are none.
    """
    folders = set()
    if not any(flags.values()):
        folders = {Path(mount.state_dir) for mount in mounts if mount.state_dir}
    try:
        settings = resolve_settings(flags)
    except NotConfigured:
        if not folders:
            raise
        return folders
    return folders | {settings.state_dir} | _state_dirs_of([settings.database_name], mounts)


def _invalidate(
    folders: Iterable[Path], scopes: Iterable[tuple[str, ...]], flags: dict[str, str | None]
) -> None:
    from onefs.cache.permissions import check_folder
    from onefs.catalogue.storage.database import CatalogueDatabase

    trusted = _is_trust_enabled(flags)
    for path in (folder / "catalogue.sqlite" for folder in sorted(folders)):
        if path.exists():
            if not trusted:
                check_folder(path.parent, "state")
            database = CatalogueDatabase(path)
            for scope in scopes:
                database.invalidate(scope, time.time())
            database.close()


def _clear_rejections(
    folders: set[Path],
    place: tuple[str, ...],
    flags: dict[str, str | None],
    variant: Variant | None = None,
) -> None:
    """Forget which files at and below a place contradict the database.

    ``folders`` are the state folders of the databases. ``variant`` tells whether ``place`` is in a
    mount that shows one day (``--as-of``) or a flat tree. None means a mount of all revisions.
    """
    from onefs.cli.cached_datasets import clear_rejections
    from onefs.cli.open_database import closing_access, open_database
    from onefs.cli.targets import known_databases
    from onefs.config.cache_owner import PRIVATE_FOLDER
    from onefs.tree.variant import FULL_TREE

    for database in known_databases(flags):
        settings = database.settings
        if settings.state_dir not in folders or not (settings.cache_dir / PRIVATE_FOLDER).is_dir():
            continue
        with closing_access(open_database(database, offline=True)) as access:
            clear_rejections(access, place, variant or FULL_TREE)


def _refresh_mounts(mounts: Iterable[MountInfo], folders: set[Path], timeout: float) -> None:
    """Make each mount with a state folder in ``folders`` drop its caches and the kernel's caches.

    Prints a message for each mount that failed. After a time-out or an unexpected error, ends the
    command with EXIT_FAILED. ``timeout`` is in seconds.
    """
    from onefs.mount.mount_probes import refresh_mounts as refresh_all

    mountpoints = [each.mountpoint for each in mounts if Path(each.state_dir) in folders]
    answers = refresh_all(mountpoints, timeout)
    for mountpoint, code in answers.items():
        if code is None:
            say(
                f"onefs: the mount at {mountpoint} did not answer within "
                f"{_REFRESH_TIMEOUT_SECONDS:g} s: it shows new data within a minute after it "
                "answers",
                err=True,
            )
        elif code:
            other = f"the mount at {{0}} could not be refreshed: {os.strerror(code)}"
            message = _FAILURE_MESSAGES.get(code, other).format(mountpoint)
            say(f"onefs: {message}", err=True)
    if any(code not in (0, *_FAILURE_MESSAGES) for code in answers.values()):
        sys.exit(EXIT_FAILED)


def _check_exists(target: _Target) -> None:
    """Raise NotFound if the path did not exist before the refresh and does not exist now."""
    from onefs.mount.mount_probes import resolve_path

    resolved = resolve_path(target.real, _LOOKUP_TIMEOUT_SECONDS)
    if resolved is not None and resolved[1]:
        raise NotFound(
            f"the path {target.real} did not exist before the refresh, and does not exist now"
        )
