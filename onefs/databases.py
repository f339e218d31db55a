"""Find the database that a command uses.

This is the database that the user has named or set up. If the user has done neither, this is the
mounted database.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple
from urllib.parse import urlsplit

from onefs.cache.folder_check import check_usable_as_cache
from onefs.config.cache_options import parse_disks
from onefs.config.cache_owner import read_owner
from onefs.config.credentials import DataCredentials
from onefs.config.public_bucket import is_public_name
from onefs.config.releases import release_of
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
    from onefs.access import Access, GivenLogin
    from onefs.mount.mount_registry import MountInfo

#: prefix of the names of embedded laboratories
_EMBEDDED_PREFIX = "demo-"


class ResolvedDatabase(NamedTuple):
    """A database, and the settings for it: URL, login, folders and options."""

    settings: Settings
    #: the name of the database: a host, or ``demo-<hash>`` for an embedded laboratory
    database: str

    @property
    def is_embedded(self) -> bool:
        """Whether this is an embedded laboratory: the Alyx and file server inside onefs."""
        return self.database.startswith(_EMBEDDED_PREFIX)

    def embedded_login(self) -> tuple[Settings, GivenLogin] | None:
        """Return settings and login for an embedded laboratory. Return None for other databases.

        An embedded laboratory is the Alyx and file server inside onefs. Raises UsageError if its
        file of passwords is broken or belongs to another user.
        """
        if not self.is_embedded:
            return None
        from onefs.access import GivenLogin  # slow to import, and rarely needed
        from onefs.demo.logins import saved_login

        saved = saved_login(self.database, self.settings.state_dir)
        data = DataCredentials(
            saved.data_username, Secret(saved.data_password), "embedded laboratory"
        )
        login = GivenLogin(Secret(saved.password), data, embedded=True)
        return replace(self.settings, username=saved.username), login

    def open(
        self,
        login: GivenLogin | None = None,
        token: Callable[[Settings], str] | None = None,
        *,
        offline: bool = False,
    ) -> Access:
        """Open the database.

        - ``login`` is the login. An embedded laboratory uses its own saved login instead.
        - ``token`` is called if ``login`` has no password and no token. It returns a token, or ''
          to use the saved token. The default uses the saved token.
        - ``offline``: ask no server, and do not call ``token``.

        Raises UsageError, CacheError, and what :class:`onefs.access.Access` and ``token`` raise.
        """
        from onefs.access import Access, Deadlines, GivenLogin

        check_usable_as_cache(self.settings.cache_dir, self.settings.state_dir)
        settings, secret = self.settings, login is not None and (login.token or login.password)
        if not offline and (embedded := self.embedded_login()) is not None:
            settings, login = embedded
        elif not (offline or secret or token is None or settings.public) and (
            unsaved := token(settings)
        ):
            login = (login or GivenLogin())._replace(token=unsaved)
        deadlines = Deadlines.from_environment()
        access = Access(settings, self.database, login=login, deadlines=deadlines, offline=offline)
        if settings.public and not offline:
            from onefs.public_tables import ensure_tables

            try:
                ensure_tables(access)
            except BaseException:
                access.close()
                raise
        return access


def resolve_database(
    flags: Mapping[str, str | None], *, allow_mounted: bool = True
) -> ResolvedDatabase:
    """Return the database named in the flags, the environment or the settings file.

    If none is named, return the only mounted database. If ``allow_mounted`` is False, raises
    NotConfigured instead. ``flags`` are the flags of
    :func:`onefs.config.settings.resolve_settings`. Raises what ``resolve_settings`` raises.
    """
    try:
        settings = resolve_settings(flags)
    except NotConfigured:
        # for example for commands that send a password
        if not allow_mounted:
            raise
        fallback = mounted_fallback(flags, map(database_of_mount, list_database_mounts()))
        if fallback is None:
            raise
        return fallback
    return find_embedded(settings) or ResolvedDatabase(settings, settings.database_name)


def find_embedded(settings: Settings) -> ResolvedDatabase | None:
    """Return the embedded laboratory that is mounted and whose Alyx has the URL of ``settings``.

    An embedded laboratory is the Alyx and file server inside onefs. Return None if there is no such
    mount. Also return None if the user gave a user name, a token, a profile or a cache folder.
    """
    named = (settings.username, settings.profile, os.environ.get("ONEFS_TOKEN"))
    usual = settings.cache_dir == default_cache_dir(settings.url)
    if any(named) or not usual or urlsplit(settings.url).hostname != "127.0.0.1":
        return None
    # only the record of the mount has the laboratory's login and folders
    mounts = (mount for mount in list_database_mounts() if mount.url == settings.url)
    databases = map(database_of_mount, mounts)
    return next((each for each in databases if each.is_embedded), None)


def mounted_fallback(
    flags: Mapping[str, str | None], mounted: Iterable[ResolvedDatabase]
) -> ResolvedDatabase | None:
    """Return the only mounted database, for a command that names no database.

    Return None in these cases:

    - No database or several databases are mounted.
    - There are profiles: the user must name one.
    - The flags or ONEFS_CACHE_DIR name another cache folder.
    """
    if load_settings_file().profiles:
        return None
    # a database that is mounted several times counts once, and as a whole rather than a release
    by_cache_dir = {
        each.settings.cache_dir: each
        for each in sorted(mounted, key=lambda each: not release_of(each.settings.state_dir))
    }
    if len(by_cache_dir) != 1:
        return None
    ((cache_dir, database),) = by_cache_dir.items()
    named_dir = flags.get("cache_dir") or os.environ.get("ONEFS_CACHE_DIR")
    if named_dir and resolved(named_dir) != resolved(cache_dir):
        return None
    changes: dict[str, Any] = {
        name: value for name in ("username", "data_username") if (value := flags.get(name))
    }
    if hosts := flags.get("data_hosts"):
        changes["data_hosts"] = parse_data_hosts(hosts, "data_hosts")
    return with_disks(database._replace(settings=replace(database.settings, **changes)), flags)


def with_disks(database: ResolvedDatabase, flags: Mapping[str, str | None]) -> ResolvedDatabase:
    """Return a database with the disks that the flag ``source`` names, if it is given."""
    named = flags.get("source")
    if not named:
        return database
    options = replace(database.settings.cache_options, disks=parse_disks(named))
    return database._replace(settings=replace(database.settings, cache_options=options))


def list_database_mounts() -> list[MountInfo]:
    """Return this user's mounts for which the URL of Alyx and the catalogue's folder are known."""
    from onefs.mount.mount_registry import list_mounts  # slow to import, and rarely needed

    return [mount for mount in list_mounts() if mount.state_dir and mount.url]


def other_users_mount_at(path: str | os.PathLike[str]) -> MountInfo | None:
    """Return another user's mount that contains ``path`` and that this user can read, or None."""
    from onefs.mount.mount_registry import mounts_of_other_users

    try:
        places = [Path(absolute(path)), Path(resolved(path))]
    except (UsageError, ValueError):  # the working directory was deleted, or this is not a path
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


def refuse_other_users_mount(path: str) -> None:
    """Raise UsageError if ``path`` is in a mount of another user.

    The message says what the user can do instead.
    """
    from onefs.mount.kernel_mounts import other_owner_of

    other = other_users_mount_at(path)
    if other is not None:
        raise UsageError(
            f"{path} is in {other_owner_of(other.mountpoint)}'s mount at {other.mountpoint}: "
            "read it there, or run `onefs setup` to use the database with a login of your own"
        )


def other_users_mount(flags: Mapping[str, str | None]) -> MountInfo | None:
    """Return the mount of another user that a user without a database may use.

    - If ONEFS_CACHE_DIR is set: the mount that contains this folder.
    - Otherwise: the mount that contains the working directory, or the only mount of other users.

    Return None if there is no such mount, or if a database is named in the flags, the environment
    or the settings. Without ONEFS_CACHE_DIR, also return None if this user has a saved or mounted
    database. Raises UsageError as :func:`onefs.config.settings.resolve_settings`.
    """
    folder = os.environ.get("ONEFS_CACHE_DIR")
    try:
        resolve_settings(flags)
    except NotConfigured:
        if folder:
            return other_users_mount_at(folder)
        if load_settings_file().profiles or list_database_mounts():
            return None
        from onefs.mount.mount_registry import mounts_of_other_users

        others = mounts_of_other_users()
        return other_users_mount_at(".") or (others[0] if len(others) == 1 else None)
    return None


def database_of_mount(mount: MountInfo) -> ResolvedDatabase:
    """Return the database of a mount, with the mount's disks and its limit of the cache size."""
    cache_dir = Path(mount.cache_dir)
    owner = cache_owner_of(cache_dir)
    settings = resolve_settings({"url": mount.url})
    settings = replace(
        settings,
        url=mount.url,
        public=is_public_name(owner, mount.url),
        username=mount.username or settings.username,
        cache_dir=cache_dir,
        state_dir=Path(mount.state_dir),
        cache_options=replace(
            settings.cache_options,
            cache_size=mount.cache_limit or settings.cache_options.cache_size,
            disks=settings.cache_options.disks or mount.status.disks,
        ),
    )
    return ResolvedDatabase(settings, owner or host_key(mount.url))


def cache_owner_of(folder: Path) -> str:
    """Return the name of the database that owns a cache folder.

    Return '' if the folder has no owner, or if the owner cannot be read.
    """
    with suppress(CacheError):
        return read_owner(folder) or ""
    return ""
