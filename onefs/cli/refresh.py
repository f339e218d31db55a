"""``onefs refresh``."""

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

from onefs.cli.options import EXIT_FAILED, database_options, folder_options, require_value, say
from onefs.config.cache_options import resolve_cache_options
from onefs.config.settings import resolve_settings
from onefs.config.urls import host_key
from onefs.databases import cache_owner_of
from onefs.errors import NotConfigured, NotFound, UsageError
from onefs.lowlevel.paths import absolute_as_written

if TYPE_CHECKING:
    from onefs.mount.mount_registry import MountInfo
    from onefs.tree.variant import Variant

#: folders that have a listing of their own: lab, subject, date, number
_SESSION_DEPTH = 4
#: seconds that all mounts have together, and that the look at PATH may take of them
_REFRESH_TIMEOUT_SECONDS = 5.0
_LOOKUP_TIMEOUT_SECONDS = 2.0

_DEAD_MESSAGE = "{0} is dead: remove it with `onefs umount {0}`"
#: what is said of a mount that did not refresh, by its errno
_FAILURE_MESSAGES = {
    errno.ENODATA: "{0} runs an older onefs and shows what is new within a minute; mount it again "
    "to see it at once",
    errno.ENOTCONN: _DEAD_MESSAGE,
    errno.ECONNABORTED: _DEAD_MESSAGE,
}


@click.command()
@click.argument("path", required=False, type=click.Path(), callback=require_value)
@database_options
@folder_options
def refresh(path: str | None, **flags: str | None) -> None:
    """Have the server asked again for what stands at PATH and below, or for everything.

    PATH lies in a mount, where it need not be there yet, or any more. Nothing is asked at once:
    each folder is when it is next looked at, by mounts that run, which drop all names and listings
    that they and the kernel know, and those to come. While the server is away, what is known
    stays. Files that were found bad are fetched again when they are next read.
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
    patience = _REFRESH_TIMEOUT_SECONDS - (time.monotonic() - began)
    folders = _state_dirs_of([_database_of(target.mount)], mounts)
    _invalidate(folders, target.scopes_to_invalidate(), flags)
    _clear_rejections(folders, target.place, flags, target.variant)
    _refresh_mounts(mounts, folders, patience)
    if target.missing_count:
        _check_exists(target)


@dataclass(frozen=True, slots=True)
class _Target:
    """The mount, and the place in it, that PATH names."""

    mount: MountInfo
    #: where it is, without links
    real: str
    #: its folders from the lab on
    place: tuple[str, ...]
    variant: Variant
    #: how many of its last names were not there
    missing_count: int

    def scopes_to_invalidate(self) -> list[tuple[str, ...]]:
        """The folders that are wanted anew."""
        # a folder that bears a mark shares its name with another: refresh them both
        depth = next((i for i, name in enumerate(self.place) if "~" in name), _SESSION_DEPTH)
        deepest = self.place[: min(depth, _SESSION_DEPTH)]
        # of what is not there, each folder may be new
        first = min(len(self.place) - self.missing_count + 1, len(deepest))
        return [deepest[:length] for length in range(max(first, 0), len(deepest) + 1)]


def _find_target(path: str, mounts: Iterable[MountInfo]) -> _Target:
    """Return the mount and the place that a path names. Raises UsageError for one outside."""
    from onefs.databases import refuse_other_users_mount
    from onefs.mount.mount_probes import resolve_path
    from onefs.tree.variant import split_variant

    # the folder's own links (Subjects, 1 for 001) are resolved by the mount, if it answers
    whole = path if os.path.isabs(path) else absolute_as_written(path)
    real, missing = resolve_path(whole, _LOOKUP_TIMEOUT_SECONDS) or (os.path.normpath(whole), 0)
    inside = [
        mount for mount in mounts if mount.state_dir and Path(real).is_relative_to(mount.mountpoint)
    ]
    if not inside:
        refuse_other_users_mount(path)
        raise UsageError(f"{path} lies in no mount of onefs: `onefs status` shows them")
    mount = max(inside, key=lambda each: len(each.mountpoint))
    below = Path(real).relative_to(mount.mountpoint).parts
    variant, inner = split_variant((*mount.variant.folders, *below))
    return _Target(mount, real, inner, variant, missing)


def _is_trust_enabled(flags: dict[str, str | None]) -> bool:
    """Whether folders are used that others may write to."""
    try:
        return resolve_settings(flags).cache_options.trust_cache_dir
    except NotConfigured:
        return resolve_cache_options(flags, os.environ, {}).trust_cache_dir


def _database_of(mount: MountInfo) -> str:
    """The name of the database that a mount shows."""
    return cache_owner_of(Path(mount.cache_dir)) or host_key(mount.url)


def _state_dirs_of(databases: Iterable[str], mounts: Iterable[MountInfo]) -> set[Path]:
    """The state folders of the mounts that show one of these databases."""
    wanted = set(databases)
    return {
        Path(mount.state_dir)
        for mount in mounts
        if mount.state_dir and _database_of(mount) in wanted
    }


def _selected_state_dirs(flags: dict[str, str | None], mounts: Iterable[MountInfo]) -> set[Path]:
    """The state folders of the database that is named, or else of every mount and of the default
    one."""
    found = set()
    if not any(flags.values()):
        found = {Path(mount.state_dir) for mount in mounts if mount.state_dir}
    try:
        settings = resolve_settings(flags)
    except NotConfigured:
        if not found:
            raise
        return found
    return found | {settings.state_dir} | _state_dirs_of([host_key(settings.url)], mounts)


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
    inner: tuple[str, ...],
    flags: dict[str, str | None],
    variant: Variant | None = None,
) -> None:
    """Withdraw the verdicts on bad files at and below a path."""
    from onefs.cli.cached_datasets import clear_rejections
    from onefs.cli.targets import closing_access, known_sites, open_site
    from onefs.config.cache_owner import PRIVATE_FOLDER
    from onefs.tree.variant import FULL_TREE

    for site in known_sites(flags):
        settings = site.settings
        if settings.state_dir not in folders or not (settings.cache_dir / PRIVATE_FOLDER).is_dir():
            continue
        with closing_access(open_site(site, offline=True)) as access:
            clear_rejections(access, inner, variant or FULL_TREE)


def _refresh_mounts(mounts: Iterable[MountInfo], folders: set[Path], patience: float) -> None:
    """Have the mounts with these state folders drop what they and the kernel know.

    Says which did not, and ends the command with :data:`FAILED` for one that may yet.
    """
    from onefs.mount.mount_probes import refresh_mounts as refresh_all

    wanted = [each.mountpoint for each in mounts if Path(each.state_dir) in folders]
    answers = refresh_all(wanted, patience)
    for mountpoint, code in answers.items():
        if code is None:
            say(
                f"onefs: {mountpoint} did not answer within {_REFRESH_TIMEOUT_SECONDS:g} s: it "
                "shows what "
                "is new within a minute after it does",
                err=True,
            )
        elif code:
            refusal = _FAILURE_MESSAGES.get(
                code, f"{{0}} could not be refreshed: {os.strerror(code)}"
            )
            say(f"onefs: {refusal.format(mountpoint)}", err=True)
    if any(code not in (0, *_FAILURE_MESSAGES) for code in answers.values()):
        sys.exit(EXIT_FAILED)


def _check_exists(target: _Target) -> None:
    """Raise NotFound for a path that was not there before and is not now."""
    from onefs.mount.mount_probes import resolve_path

    found = resolve_path(target.real, _LOOKUP_TIMEOUT_SECONDS)
    if found is not None and found[1]:
        raise NotFound(f"there is no {target.real}, neither before the refresh nor after it")
