"""Which laboratory is meant: what is named or set up, else the one that is mounted."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from onefs.credentials import DataCredentials
from onefs.errors import CacheError, NotConfigured, UsageError
from onefs.owner import read_owner
from onefs.paths import absolute, resolved
from onefs.secret import Secret
from onefs.settings import Settings, data_hosts, default_cache_dir, load, resolve
from onefs.urls import host_key

if TYPE_CHECKING:
    from onefs.access import GivenLogin
    from onefs.mount.records import MountInfo

#: what the embedded laboratory's name begins with
_EMBEDDED = "demo-"


@dataclass(frozen=True, slots=True)
class Site:
    """A database, and its folders."""

    settings: Settings
    #: the name of the laboratory: a host, or ``demo-<hash>``
    database: str

    def embedded(self) -> tuple[Settings, GivenLogin] | None:
        """How this user logs in at an embedded laboratory; None for any other.

        Raises UsageError when what its servers have kept for that is broken or not ours.
        """
        if not self.database.startswith(_EMBEDDED):
            return None
        from onefs.access import GivenLogin  # dear to load, and few need it
        from onefs.demo.logins import known_login

        known = known_login(self.database, self.settings.state_dir)
        data = DataCredentials(
            known.data_username, Secret(known.data_password), "embedded laboratory"
        )
        login = GivenLogin(Secret(known.password), data, embedded=True)
        return replace(self.settings, username=known.username), login


def decide(flags: Mapping[str, str | None], *, or_mounted: bool = True) -> Site:
    """The database that flags (as :func:`onefs.settings.resolve` has them), variables or the
    settings file name; where there is none, the only one that is mounted, unless not
    ``or_mounted``: what is secret is for nobody who was not named.

    Raises NotConfigured, and UsageError as ``resolve`` does.
    """
    try:
        settings = resolve(flags)
    except NotConfigured:
        site = stand_in(flags, map(of_mount, mounted())) if or_mounted else None
        if site is None:
            raise
        return site
    return embedded_at(settings) or Site(settings, host_key(settings.url))


def embedded_at(settings: Settings) -> Site | None:
    """The embedded laboratory that is mounted from the URL of ``settings``; None for any other.

    A mount knows its login and its folders, which no profile has. Where a user, or a folder, is
    named, what is named stands.
    """
    named = (settings.username, settings.profile, os.environ.get("ONEFS_TOKEN"))
    usual = settings.cache_dir == default_cache_dir(settings.url)
    if any(named) or not usual or urlsplit(settings.url).hostname != "127.0.0.1":
        return None
    found = (of_mount(mount) for mount in mounted() if mount.url == settings.url)
    return next((site for site in found if site.database.startswith(_EMBEDDED)), None)


def stand_in(flags: Mapping[str, str | None], sites: Iterable[Site]) -> Site | None:
    """What is meant where ``resolve`` finds no database: the only one of those that are mounted.

    None where profiles are saved, of which one has to be named, and where the cache folder that
    is named is another one.
    """
    if load().profiles:
        return None
    named = flags.get("cache_dir") or os.environ.get("ONEFS_CACHE_DIR")
    site = only(sites)
    if site is None or (named and not _same(Path(named).expanduser(), site.settings.cache_dir)):
        return None
    given: dict[str, Any] = {
        name: value for name in ("username", "data_username") if (value := flags.get(name))
    }
    if hosts := flags.get("data_hosts"):
        given["data_hosts"] = data_hosts(hosts, "data_hosts")
    return replace(site, settings=replace(site.settings, **given))


def _same(one: Path, other: Path) -> bool:
    return resolved(one) == resolved(other)


def mounted() -> list[MountInfo]:
    """This user's mounts that say which database they show."""
    from onefs.mount.records import list_mounts  # dear to load, and few need it

    return [mount for mount in list_mounts() if mount.state_dir and mount.url]


def mount_at(path: str | os.PathLike[str]) -> MountInfo | None:
    """Return the mount of another user that a path lies in, and this user may read; else None."""
    from onefs.mount.mounts import read_mounts
    from onefs.mount.records import of_others

    try:
        places = [Path(absolute(path)), Path(resolved(path))]
    except (UsageError, ValueError):  # the current folder was deleted, or it can be no path
        return None
    points = [each.mountpoint for each in read_mounts() if each.ours and each.owner]
    if not any(place.is_relative_to(point) for place in places for point in points):
        return None
    inside = [
        each for each in of_others() if any(p.is_relative_to(each.mountpoint) for p in places)
    ]
    return max(inside, key=lambda each: len(each.mountpoint), default=None)


def refuse_mount_of_another(path: str) -> None:
    """Raise UsageError for a path in a mount of another user: only reading works there."""
    from onefs.mount.mounts import owner

    other = mount_at(path)
    if other is not None:
        raise UsageError(
            f"{path} lies in {owner(other.mountpoint)}'s mount at {other.mountpoint}: read it "
            "there, or run `onefs setup` to use the database with a login of your own"
        )


def anothers_stand_in(flags: Mapping[str, str | None]) -> MountInfo | None:
    """Return the mount of another user that is meant where nothing is named, set up or mounted by
    this user: the one that the current folder lies in, else the only one. None where none is."""
    folder = os.environ.get("ONEFS_CACHE_DIR")
    try:
        resolve(flags)
    except NotConfigured:
        if folder:
            return mount_at(folder)
        if load().profiles or mounted():
            return None
        from onefs.mount.records import of_others  # dear to load, and few need it

        others = of_others()
        return mount_at(".") or (others[0] if len(others) == 1 else None)
    return None


def of_mount(mount: MountInfo) -> Site:
    """The database of a mount, with the cache's limit that the mount keeps to."""
    folder = Path(mount.cache_dir)
    settings = resolve({"url": mount.url})
    settings = replace(
        settings,
        url=mount.url,
        username=mount.username or settings.username,
        cache_dir=folder,
        state_dir=Path(mount.state_dir),
        storing=replace(
            settings.storing, cache_size=mount.cache_limit or settings.storing.cache_size
        ),
    )
    return Site(settings, owner_of(folder) or host_key(mount.url))


def only(sites: Iterable[Site]) -> Site | None:
    """The one that all of them are, mounted once or several times."""
    found = {site.settings.cache_dir: site for site in sites}
    return next(iter(found.values())) if len(found) == 1 else None


def owner_of(folder: Path) -> str:
    """The database that a cache folder belongs to; '' when it does not say."""
    with suppress(CacheError):
        return read_owner(folder) or ""
    return ""
