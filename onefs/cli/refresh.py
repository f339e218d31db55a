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

from onefs.cli.options import FAILED, database_options, folder_options, named, say
from onefs.errors import NotConfigured, NotFound, UsageError
from onefs.paths import joined
from onefs.settings import resolve
from onefs.sites import owner_of
from onefs.storing import storing
from onefs.urls import host_key

if TYPE_CHECKING:
    from onefs.mount.records import MountInfo
    from onefs.tree.variant import Variant

#: folders that have a listing of their own: lab, subject, date, number
_DEPTH = 4
#: seconds that all mounts have together, and that the look at PATH may take of them
_PATIENCE_SECONDS = 5.0
_LOOK_SECONDS = 2.0

_DEAD = "{0} is dead: remove it with `onefs umount {0}`"
#: what is said of a mount that did not refresh, by its errno
_REFUSALS = {
    errno.ENODATA: "{0} runs an older onefs and shows what is new within a minute; mount it again "
    "to see it at once",
    errno.ENOTCONN: _DEAD,
    errno.ECONNABORTED: _DEAD,
}


@click.command()
@click.argument("path", required=False, type=click.Path(), callback=named)
@database_options
@folder_options
def refresh(path: str | None, **flags: str | None) -> None:
    """Have the server asked again for what stands at PATH and below, or for everything.

    PATH lies in a mount, where it need not be there yet, or any more. Nothing is asked at once:
    each folder is when it is next looked at, by mounts that run, which drop all names and listings
    that they and the kernel know, and those to come. While the server is away, what is known
    stays. Files that were found bad are fetched again when they are next read.
    """
    from onefs.mount.records import list_mounts

    mounts = list_mounts()
    if path is None:
        folders = _folders(flags, mounts)
        _want_anew(folders, [()], flags)
        _forgive(folders, (), flags)
        _wake(mounts, folders, _PATIENCE_SECONDS)
        return
    began = time.monotonic()
    target = _find(path, mounts)
    patience = _PATIENCE_SECONDS - (time.monotonic() - began)
    folders = _same_database([_database(target.mount)], mounts)
    _want_anew(folders, target.scopes(), flags)
    _forgive(folders, target.inner, flags, target.variant)
    _wake(mounts, folders, patience)
    if target.missing:
        _check_there(target)


@dataclass(frozen=True, slots=True)
class _Target:
    """The mount, and the place in it, that PATH names."""

    mount: MountInfo
    #: where it is, without links
    real: str
    #: its folders from the lab on
    inner: tuple[str, ...]
    variant: Variant
    #: how many of its last names were not there
    missing: int

    def scopes(self) -> list[tuple[str, ...]]:
        """The folders that are wanted anew."""
        # a folder that bears a mark shares its name with another: refresh them both
        depth = next((i for i, name in enumerate(self.inner) if "~" in name), _DEPTH)
        deepest = self.inner[: min(depth, _DEPTH)]
        # of what is not there, each folder may be new
        first = min(len(self.inner) - self.missing + 1, len(deepest))
        return [deepest[:length] for length in range(max(first, 0), len(deepest) + 1)]


def _find(path: str, mounts: Iterable[MountInfo]) -> _Target:
    """Return the mount and the place that a path names. Raises UsageError for one outside."""
    from onefs.mount.mounts import look
    from onefs.sites import refuse_mount_of_another
    from onefs.tree.variant import split_variant

    # the folder's own links (Subjects, 1 for 001) are resolved by the mount, if it answers
    whole = path if os.path.isabs(path) else joined(path)
    real, missing = look(whole, _LOOK_SECONDS) or (os.path.normpath(whole), 0)
    inside = [
        mount for mount in mounts if mount.state_dir and Path(real).is_relative_to(mount.mountpoint)
    ]
    if not inside:
        refuse_mount_of_another(path)
        raise UsageError(f"{path} lies in no mount of onefs: `onefs status` shows them")
    mount = max(inside, key=lambda each: len(each.mountpoint))
    below = Path(real).relative_to(mount.mountpoint).parts
    variant, inner = split_variant((*mount.variant.folders, *below))
    return _Target(mount, real, inner, variant, missing)


def _trusts(flags: dict[str, str | None]) -> bool:
    """Whether folders are used that others may write to."""
    try:
        return resolve(flags).storing.trust_cache_dir
    except NotConfigured:
        return storing(flags, os.environ, {}).trust_cache_dir


def _database(mount: MountInfo) -> str:
    """The name of the database that a mount shows."""
    return owner_of(Path(mount.cache_dir)) or host_key(mount.url)


def _same_database(databases: Iterable[str], mounts: Iterable[MountInfo]) -> set[Path]:
    """The state folders of the mounts that show one of these databases."""
    wanted = set(databases)
    return {
        Path(mount.state_dir) for mount in mounts if mount.state_dir and _database(mount) in wanted
    }


def _folders(flags: dict[str, str | None], mounts: Iterable[MountInfo]) -> set[Path]:
    """The state folders of the database that is named, or else of every mount and of the default
    one."""
    found = set()
    if not any(flags.values()):
        found = {Path(mount.state_dir) for mount in mounts if mount.state_dir}
    try:
        settings = resolve(flags)
    except NotConfigured:
        if not found:
            raise
        return found
    return found | {settings.state_dir} | _same_database([host_key(settings.url)], mounts)


def _want_anew(
    folders: Iterable[Path], scopes: Iterable[tuple[str, ...]], flags: dict[str, str | None]
) -> None:
    from onefs.metadata.database import Database
    from onefs.trust import check_folder

    trusted = _trusts(flags)
    for path in (folder / "catalogue.sqlite" for folder in sorted(folders)):
        if path.exists():
            if not trusted:
                check_folder(path.parent, "state")
            database = Database(path)
            for scope in scopes:
                database.force(scope, time.time())
            database.close()


def _forgive(
    folders: set[Path],
    inner: tuple[str, ...],
    flags: dict[str, str | None],
    variant: Variant | None = None,
) -> None:
    """Withdraw the verdicts on bad files at and below a path."""
    from onefs.cli.chosen import forgive
    from onefs.cli.opening import access_to, sites, using
    from onefs.owner import PRIVATE
    from onefs.tree.variant import EVERYTHING

    for site in sites(flags):
        settings = site.settings
        if settings.state_dir not in folders or not (settings.cache_dir / PRIVATE).is_dir():
            continue
        with using(access_to(site, offline=True)) as access:
            forgive(access, inner, variant or EVERYTHING)


def _wake(mounts: Iterable[MountInfo], folders: set[Path], patience: float) -> None:
    """Have the mounts with these state folders drop what they and the kernel know.

    Says which did not, and ends the command with :data:`FAILED` for one that may yet.
    """
    from onefs.mount.mounts import refresh as refresh_all

    wanted = [each.mountpoint for each in mounts if Path(each.state_dir) in folders]
    answers = refresh_all(wanted, patience)
    for mountpoint, code in answers.items():
        if code is None:
            say(
                f"onefs: {mountpoint} did not answer within {_PATIENCE_SECONDS:g} s: it shows what "
                "is new within a minute after it does",
                err=True,
            )
        elif code:
            refusal = _REFUSALS.get(code, f"{{0}} could not be refreshed: {os.strerror(code)}")
            say(f"onefs: {refusal.format(mountpoint)}", err=True)
    if any(code not in (0, *_REFUSALS) for code in answers.values()):
        sys.exit(FAILED)


def _check_there(target: _Target) -> None:
    """Raise NotFound for a path that was not there before and is not now."""
    from onefs.mount.mounts import look

    found = look(target.real, _LOOK_SECONDS)
    if found is not None and found[1]:
        raise NotFound(f"there is no {target.real}, neither before the refresh nor after it")
