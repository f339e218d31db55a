"""``onefs refresh``."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import TYPE_CHECKING

import click

from onefs.cli.options import database_options, folder_options, named
from onefs.errors import NotConfigured, UsageError
from onefs.settings import resolve
from onefs.storing import storing

if TYPE_CHECKING:
    from onefs.tree.variant import Variant

#: folders that have a listing of their own: lab, subject, date, number
_DEPTH = 4


@click.command()
@click.argument("path", required=False, type=click.Path(), callback=named)
@database_options
@folder_options
def refresh(path: str | None, **flags: str | None) -> None:
    """Have the server asked again for what stands at PATH and below, or for everything.

    PATH lies in a mount. Nothing is asked at once: each folder is when it is next looked at, by
    mounts that run and those to come. While the server is away, what is known stays. Files that
    were found bad are fetched again when they are next read.
    """
    if path is not None:
        catalogue, inner, variant = _find(path)
        # a folder that bears a mark shares its name with another: refresh them both
        depth = next((i for i, name in enumerate(inner) if "~" in name), _DEPTH)
        _want_anew([catalogue], inner[: min(depth, _DEPTH)], flags)
        _forgive([catalogue], inner, flags, variant)
        return
    catalogues = _catalogues(flags)
    _want_anew(catalogues, (), flags)
    _forgive(catalogues, (), flags)


def _find(path: str) -> tuple[Path, tuple[str, ...], Variant]:
    """The catalogue of the mount that a path lies in, its parts from the lab on, its variant."""
    from onefs.mount.records import list_mounts
    from onefs.tree.variant import split_variant

    # the folder's own links (Subjects, 1 for 001) are resolved by the mount
    real = os.path.realpath(path)
    for mount in list_mounts():
        if mount.state_dir and Path(real).is_relative_to(mount.mountpoint):
            below = Path(real).relative_to(mount.mountpoint).parts
            variant, inner = split_variant((*mount.variant.folders, *below))
            return Path(mount.state_dir) / "catalogue.sqlite", inner, variant
    raise UsageError(f"{path} lies in no mount of onefs: `onefs status` shows them")


def _trusts(flags: dict[str, str | None]) -> bool:
    """Whether folders are used that others may write to."""
    try:
        return resolve(flags).storing.trust_cache_dir
    except NotConfigured:
        return storing(flags, os.environ, {}).trust_cache_dir


def _catalogues(flags: dict[str, str | None]) -> list[Path]:
    """Those of the database that is named, or else of every mount and of the default one."""
    from onefs.mount.records import list_mounts

    found = set()
    if not any(flags.values()):
        found = {Path(mount.state_dir) for mount in list_mounts() if mount.state_dir}
    try:
        found.add(resolve(flags).state_dir)
    except NotConfigured:
        if not found:
            raise
    return [folder / "catalogue.sqlite" for folder in sorted(found)]


def _want_anew(
    catalogues: list[Path], scope: tuple[str, ...], flags: dict[str, str | None]
) -> None:
    from onefs.metadata.database import Database
    from onefs.trust import check_folder

    trusted = _trusts(flags)
    for path in catalogues:
        if path.exists():
            if not trusted:
                check_folder(path.parent, "state")
            database = Database(path)
            database.force(scope, time.time())
            database.close()


def _forgive(
    catalogues: list[Path],
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
        if settings.state_dir / "catalogue.sqlite" not in catalogues:
            continue
        if not (settings.cache_dir / PRIVATE).is_dir():
            continue
        with using(access_to(site, offline=True)) as access:
            forgive(access, inner, variant or EVERYTHING)
