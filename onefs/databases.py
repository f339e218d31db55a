"""Which laboratory is meant: what is named or set up, else the one that is mounted."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from onefs.config.cache_owner import read_owner
from onefs.config.credentials import DataCredentials
from onefs.config.secret import Secret
from onefs.config.settings import (
    Settings,
    default_cache_dir,
    load_settings_file,
    parse_data_hosts,
    resolve_settings,
)
from onefs.config.urls import host_key
from onefs.errors import CacheError, NotConfigured, UsageError
from onefs.lowlevel.mountinfo import read_mounts
from onefs.lowlevel.paths import absolute, resolved

if TYPE_CHECKING:
    from onefs.access import GivenLogin
    from onefs.mount.mount_registry import MountInfo

#: what the embedded laboratory's name begins with
_EMBEDDED_PREFIX = "demo-"


@dataclass(frozen=True, slots=True)
class ResolvedDatabase:
    """A database, and its folders."""

    settings: Settings
    #: the name of the laboratory: a host, or ``demo-<hash>``
    database: str

    def embedded_login(self) -> tuple[Settings, GivenLogin] | None:
        """How this user logs in at an embedded laboratory; None for any other.

        Raises UsageError when what its servers have kept for that is broken or not ours.
        """
        if not self.database.startswith(_EMBEDDED_PREFIX):
            return None
        from onefs.access import GivenLogin  # dear to load, and few need it
        from onefs.demo.logins import saved_login

        known = saved_login(self.database, self.settings.state_dir)
        data = DataCredentials(
            known.data_username, Secret(known.data_password), "embedded laboratory"
        )
        login = GivenLogin(Secret(known.password), data, embedded=True)
        return replace(self.settings, username=known.username), login


def resolve_database(
    flags: Mapping[str, str | None], *, allow_mounted: bool = True
) -> ResolvedDatabase:
    """The database that flags (as :func:`onefs.config.settings.resolve` has them), variables or the
    settings file name; where there is none, the only one that is mounted, unless not
    ``or_mounted``: what is secret is for nobody who was not named.

    Raises NotConfigured, and UsageError as ``resolve`` does.
    """
    try:
        settings = resolve_settings(flags)
    except NotConfigured:
        site = (
            mounted_fallback(flags, map(database_of_mount, list_database_mounts()))
            if allow_mounted
            else None
        )
        if site is None:
            raise
        return site
    return find_embedded(settings) or ResolvedDatabase(settings, host_key(settings.url))


def find_embedded(settings: Settings) -> ResolvedDatabase | None:
    """The embedded laboratory that is mounted from the URL of ``settings``; None for any other.

    A mount knows its login and its folders, which no profile has. Where a user, or a folder, is
    named, what is named stands.
    """
    named = (settings.username, settings.profile, os.environ.get("ONEFS_TOKEN"))
    usual = settings.cache_dir == default_cache_dir(settings.url)
    if any(named) or not usual or urlsplit(settings.url).hostname != "127.0.0.1":
        return None
    found = (
        database_of_mount(mount) for mount in list_database_mounts() if mount.url == settings.url
    )
    return next((site for site in found if site.database.startswith(_EMBEDDED_PREFIX)), None)


def mounted_fallback(
    flags: Mapping[str, str | None], sites: Iterable[ResolvedDatabase]
) -> ResolvedDatabase | None:
    """What is meant where ``resolve`` finds no database: the only one of those that are mounted.

    None where profiles are saved, of which one has to be named, and where the cache folder that
    is named is another one.
    """
    if load_settings_file().profiles:
        return None
    named = flags.get("cache_dir") or os.environ.get("ONEFS_CACHE_DIR")
    site = single_database(sites)
    if site is None or (
        named and not _is_same_path(Path(named).expanduser(), site.settings.cache_dir)
    ):
        return None
    given: dict[str, Any] = {
        name: value for name in ("username", "data_username") if (value := flags.get(name))
    }
    if hosts := flags.get("data_hosts"):
        given["data_hosts"] = parse_data_hosts(hosts, "data_hosts")
    return replace(site, settings=replace(site.settings, **given))


def _is_same_path(one: Path, other: Path) -> bool:
    return resolved(one) == resolved(other)


def list_database_mounts() -> list[MountInfo]:
    """This user's mounts that say which database they show."""
    from onefs.mount.mount_registry import list_mounts  # dear to load, and few need it

    return [mount for mount in list_mounts() if mount.state_dir and mount.url]


def mount_at(path: str | os.PathLike[str]) -> MountInfo | None:
    """Return the mount of another user that a path lies in, and this user may read; else None."""
    from onefs.mount.mount_registry import mounts_of_other_users

    try:
        places = [Path(absolute(path)), Path(resolved(path))]
    except (UsageError, ValueError):  # the current folder was deleted, or it can be no path
        return None
    points = [each.mountpoint for each in read_mounts() if each.is_onefs and each.other_owner]
    if not any(place.is_relative_to(point) for place in places for point in points):
        return None
    inside = [
        each
        for each in mounts_of_other_users()
        if any(p.is_relative_to(each.mountpoint) for p in places)
    ]
    return max(inside, key=lambda each: len(each.mountpoint), default=None)


def refuse_mount_of_another(path: str) -> None:
    """Raise UsageError for a path in a mount of another user: only reading works there."""
    from onefs.mount.kernel_mounts import other_owner_of

    other = mount_at(path)
    if other is not None:
        raise UsageError(
            f"{path} lies in {other_owner_of(other.mountpoint)}'s mount at {other.mountpoint}: "
            "read it "
            "there, or run `onefs setup` to use the database with a login of your own"
        )


def anothers_stand_in(flags: Mapping[str, str | None]) -> MountInfo | None:
    """Return the mount of another user that is meant where nothing is named, set up or mounted by
    this user: the one that the current folder lies in, else the only one. None where none is."""
    folder = os.environ.get("ONEFS_CACHE_DIR")
    try:
        resolve_settings(flags)
    except NotConfigured:
        if folder:
            return mount_at(folder)
        if load_settings_file().profiles or list_database_mounts():
            return None
        from onefs.mount.mount_registry import (
            mounts_of_other_users,  # dear to load, and few need it
        )

        others = mounts_of_other_users()
        return mount_at(".") or (others[0] if len(others) == 1 else None)
    return None


def database_of_mount(mount: MountInfo) -> ResolvedDatabase:
    """The database of a mount, with the cache's limit that the mount keeps to."""
    folder = Path(mount.cache_dir)
    settings = resolve_settings({"url": mount.url})
    settings = replace(
        settings,
        url=mount.url,
        username=mount.username or settings.username,
        cache_dir=folder,
        state_dir=Path(mount.state_dir),
        cache_options=replace(
            settings.cache_options,
            cache_size=mount.cache_limit or settings.cache_options.cache_size,
        ),
    )
    return ResolvedDatabase(settings, cache_owner_of(folder) or host_key(mount.url))


def single_database(sites: Iterable[ResolvedDatabase]) -> ResolvedDatabase | None:
    """The one that all of them are, mounted once or several times."""
    found = {site.settings.cache_dir: site for site in sites}
    return next(iter(found.values())) if len(found) == 1 else None


def cache_owner_of(folder: Path) -> str:
    """The database that a cache folder belongs to; '' when it does not say."""
    with suppress(CacheError):
        return read_owner(folder) or ""
    return ""
