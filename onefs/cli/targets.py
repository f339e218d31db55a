"""Which database and cache folder a command is about, from what its arguments name.

An argument is a path in a mount, a path in a cache folder, a path of the tree
(``lab/subject/...``), an eid or a ref; parts of paths may be shell patterns.
"""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import unquote

import platformdirs

from onefs import alf
from onefs.access import Access, Deadlines, GivenLogin
from onefs.alyx.auth import log_in as get_token
from onefs.alyx.auth import unsaved_token
from onefs.cache.folder_check import check_usable_as_cache
from onefs.cli.options import can_prompt, prompt_secret, refuse_empty
from onefs.config.cache_options import resolve_cache_options
from onefs.config.credentials import CredentialStore
from onefs.config.secret import Secret
from onefs.config.settings import Settings, load_settings_file, resolve_settings
from onefs.config.urls import host_key, safe_url, split_url
from onefs.databases import (
    ResolvedDatabase,
    cache_owner_of,
    database_of_mount,
    find_embedded,
    list_database_mounts,
    mounted_fallback,
    other_users_mount_at,
    refuse_other_users_mount,
)
from onefs.errors import (
    DeadlineExceeded,
    NotConfigured,
    Throttled,
    Unreachable,
    UsageError,
    WrongScheme,
)
from onefs.http import Transport
from onefs.lowlevel.paths import absolute
from onefs.mount.mount_registry import MountInfo, list_mounts
from onefs.tree.lookup_folders import BY_EID, BY_REF
from onefs.tree.path_patterns import DATASET_PREFIX
from onefs.tree.variant import FULL_TREE, Variant

Flags = Mapping[str, str | None]


@dataclass(frozen=True, slots=True)
class DatabaseLocation:
    """A database where it is mounted, or only known."""

    site: ResolvedDatabase
    #: '' where it is not mounted
    mountpoint: str = ""
    #: what the mount shows
    variant: Variant = FULL_TREE


def open_site(site: ResolvedDatabase, *, offline: bool) -> Access:
    """Everything over a database; with ``offline`` no server is asked, and no login needed."""
    login, settings = None, site.settings
    check_usable_as_cache(settings.cache_dir, settings.state_dir)
    if not offline and (known := site.embedded_login()) is not None:
        settings, login = known
    elif not offline and (token := ensure_token(settings)):
        login = GivenLogin(token=token)
    deadlines = Deadlines.from_environment()
    return Access(settings, site.database, login=login, deadlines=deadlines, offline=offline)


@contextmanager
def closing_access(access: Access) -> Iterator[Access]:
    """A laboratory until the end of the block. Ctrl-C ends what is under way, without waiting."""

    def interrupted(*_: object) -> None:
        # in a thread: the main one may hold any of the locks that this takes
        threading.Thread(target=access.wake_waiters, name="onefs-wake").start()
        raise KeyboardInterrupt

    main = threading.current_thread() is threading.main_thread()
    before = signal.signal(signal.SIGINT, interrupted) if main else None
    try:
        yield access
    finally:
        try:
            access.close()
        finally:
            if main:
                signal.signal(signal.SIGINT, before)


def ensure_token(settings: Settings) -> Secret:
    """Have a token before anything else, asking on the terminal where there is one.

    Returns it where it could not be kept, else ''. A server that is away is no obstacle where a
    catalogue is, which may hold enough.
    """
    store = CredentialStore()
    ask = prompt_secret if can_prompt() else None
    deadline = Deadlines.from_environment().metadata
    with Transport() as transport:
        try:
            token = get_token(transport, settings, store, ask=ask, deadline=deadline)
        except WrongScheme:
            raise
        except (Unreachable, DeadlineExceeded, Throttled):
            if not (settings.state_dir / "catalogue.sqlite").exists():
                raise
            return Secret("")
    return unsaved_token(settings, store, token)


def resolve_arguments(arguments: Sequence[str], flags: Flags) -> tuple[ResolvedDatabase, list[str]]:
    """The database that arguments are about, and each as a pattern of the tree's paths.

    Flags decide; then the mount or cache folder that arguments lie in; then the settings; then
    the only mount. Raises UsageError for arguments of several databases, or of none.
    """
    known = _known_locations(flags)
    patterns = []
    implied: dict[Path, ResolvedDatabase] = {}
    for argument in arguments:
        site, pattern = _resolve_argument(argument, known)
        patterns.append(pattern)
        if site is not None:
            implied.setdefault(site.settings.cache_dir, site)
    if len(implied) > 1:
        raise UsageError(f"the arguments lie in several caches: {', '.join(map(str, implied))}")
    site = next(iter(implied.values()), None) or _default_site(flags, known)
    return site, patterns


def find_site(arguments: Sequence[str], flags: Flags) -> ResolvedDatabase | None:
    """The database whose mount or cache folder an argument lies in; None where none does."""
    known = _known_locations(flags)
    for argument in arguments:
        with suppress(ValueError):  # a UsageError, or a text that can be no path
            site, _ = _resolve_argument(argument, known)
            if site is not None:
                return site
    return None


def others_mount(arguments: Sequence[str]) -> MountInfo | None:
    """The mount of another user in which an argument lies; None where none does."""
    paths = (each for each in arguments if "://" not in each and not _names_no_path(each))
    return next(filter(None, map(other_users_mount_at, paths)), None)


def _names_no_path(argument: str) -> bool:
    return alf.is_uuid(argument.lower()) or (
        "/" not in argument and alf.parse_ref(argument) is not None
    )


def known_sites(flags: Flags) -> list[ResolvedDatabase]:
    """All databases that are mounted or set up, or the one that flags name; each folder once."""
    found = {each.site.settings.state_dir: each.site for each in reversed(_known_locations(flags))}
    return list(found.values())


def _known_locations(flags: Flags) -> list[DatabaseLocation]:
    """All databases that a path may lie in, those that are mounted first."""
    if any(flags.get(name) for name in ("url", "profile", "cache_dir")):
        site = _configured_site(flags)
        folder = str(site.settings.cache_dir)
        mounts = [mount for mount in list_mounts() if mount.cache_dir == folder]
        return [
            *(DatabaseLocation(site, each.mountpoint, each.variant) for each in mounts),
            DatabaseLocation(site),
        ]
    found = [
        DatabaseLocation(database_of_mount(mount), mount.mountpoint, mount.variant)
        for mount in list_database_mounts()
    ]
    for name in load_settings_file().profiles:
        found.append(DatabaseLocation(_configured_site({**flags, "profile": name})))
    with suppress(NotConfigured):
        found.append(DatabaseLocation(_configured_site(flags)))
    return found


def _configured_site(flags: Flags) -> ResolvedDatabase:
    """The database of flags, variables and the settings file. Raises NotConfigured."""
    folder = flags.get("cache_dir") or os.environ.get("ONEFS_CACHE_DIR")
    owner = cache_owner_of(Path(folder).expanduser()) if folder else ""
    try:
        settings = resolve_settings(flags)
    except NotConfigured:
        if not folder or not owner:
            raise
        # enough for what can be done without a server
        state = flags.get("state_dir") or os.environ.get("ONEFS_STATE_DIR")
        settings = Settings(
            url="",
            username="",
            profile="",
            cache_dir=Path(absolute(folder)),
            state_dir=Path(state or os.path.join(platformdirs.user_state_dir("onefs"), owner)),
            cache_options=resolve_cache_options(flags, os.environ, {}),
        )
        return ResolvedDatabase(settings, owner)
    return find_embedded(settings) or ResolvedDatabase(settings, host_key(settings.url))


def _default_site(flags: Flags, known: list[DatabaseLocation]) -> ResolvedDatabase:
    try:
        return _configured_site(flags)
    except NotConfigured:
        mounted_here = mounted_fallback(flags, (each.site for each in known if each.mountpoint))
        if mounted_here is None:
            raise
        return mounted_here


def _resolve_argument(
    argument: str, known: list[DatabaseLocation]
) -> tuple[ResolvedDatabase | None, str]:
    """The database that an argument implies, if it does, and its pattern.

    Raises UsageError for one that names nothing, which would stand for the whole database.
    """
    refuse_empty(argument)
    if "://" in argument:
        return None, _pattern_of_url(argument)
    if alf.is_uuid(argument.lower()):
        return None, f"{BY_EID}/{argument.lower()}"
    is_path = argument.startswith(("/", "./", "../", "~")) or argument in (".", "..")
    try:
        within = _find_location(absolute(argument), known)
    except UsageError:  # the working directory was deleted, and a path of the tree needs none
        if is_path:
            raise
        within = None
    if within is not None:
        return within
    if is_path:
        refuse_other_users_mount(argument)
        raise UsageError(
            f"{argument} lies in no mount of onefs and no cache folder: `onefs status` shows them"
        )
    if alf.parse_ref(argument) is not None and "/" not in argument:
        return None, f"{BY_REF}/{argument}"
    parts = Path(argument).parts
    if alf.parse_ref(parts[0]) is not None:
        return None, "/".join((BY_REF, *parts))
    return None, _remove_subjects_folder(parts)


def _pattern_of_url(url: str) -> str:
    """The pattern of a URL: Alyx's of a session or dataset, or a file server's of a file.

    Raises UsageError for any other.
    """
    try:
        parts = [unquote(part) for part in split_url(url).path.split("/") if part]
    except ValueError as error:
        raise UsageError(f"{safe_url(url)} is not a URL: {error}") from None
    kind, name = parts[-2:] if len(parts) > 1 else ("", "")
    if alf.is_uuid(name.lower()) and kind in ("sessions", "datasets"):
        return (f"{BY_EID}/" if kind == "sessions" else DATASET_PREFIX) + name.lower()
    day = next((at for at in reversed(range(len(parts))) if alf.is_date(parts[at])), 0)
    lab = day - 3 if parts[day - 2 : day - 1] == [alf.SUBJECTS] else day - 2
    if day < 2 or lab < 0:
        raise UsageError(
            f"{safe_url(url)} is not the URL of a session, a dataset or a file of one: give a "
            "path (lab/subject/date/number/...) or an eid"
        )
    return "/".join((parts[lab], *parts[day - 1 :]))


def _find_location(path: str, known: list[DatabaseLocation]) -> tuple[ResolvedDatabase, str] | None:
    """The database whose mount or cache folder an absolute path lies in, and the path there."""
    # links in a mount (Subjects, 1 for 001) are resolved by the mount
    real = Path(os.path.realpath(path))
    for each in known:
        if each.mountpoint and real.is_relative_to(each.mountpoint):
            return each.site, each.variant.path_in_full_tree(str(real.relative_to(each.mountpoint)))
    for site in (each.site for each in known):
        for place in (Path(path), real):
            for folder in (site.settings.cache_dir, site.settings.cache_dir.resolve()):
                if place.is_relative_to(folder):
                    return site, _remove_subjects_folder(place.relative_to(folder).parts)
    return None


def _remove_subjects_folder(parts: Sequence[str]) -> str:
    """A ONE path as the tree has it."""
    return "/".join(part for index, part in enumerate(parts) if (index, part) != (1, alf.SUBJECTS))
