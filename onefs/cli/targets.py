"""Resolution of a command's arguments: their database, and their paths in the tree.

An argument is a path in a mount, a path in a cache folder, a path in the tree
(``lab/subject/...``), a URL, an eid, or a ref such as 2019-12-10_1_KS023. Each name in a path may
be a shell pattern.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple
from urllib.parse import unquote

import platformdirs

from onefs import alf
from onefs.cli.options import refuse_empty
from onefs.config.cache_options import resolve_cache_options
from onefs.config.settings import Settings, load_settings_file, resolve_settings
from onefs.config.urls import safe_url, split_url
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
from onefs.errors import NotConfigured, UsageError
from onefs.lowlevel.paths import absolute
from onefs.mount.mount_registry import MountInfo, list_mounts
from onefs.tree.path_patterns import BY_EID, BY_REF, DATASET_PREFIX
from onefs.tree.variant import FULL_TREE, Variant

Flags = Mapping[str, str | None]


class DatabaseLocation(NamedTuple):
    """A database and one of its mounts, or a database without a mount."""

    database: ResolvedDatabase
    #: the mount point; '' means no mount
    mountpoint: str = ""
    #: the variant of the tree that the mount shows
    variant: Variant = FULL_TREE


def resolve_arguments(arguments: Sequence[str], flags: Flags) -> tuple[ResolvedDatabase, list[str]]:
    """Return the database that the arguments are in, and each argument as a tree pattern.

    A tree pattern is a path in the tree, with or without wildcards, or ``dataset:UUID``. The
    database is the first of these:

    - the database that ``flags`` name
    - the database of the mount or cache folder that an argument is in
    - the database of the settings
    - the only mounted database

    Raises UsageError if the arguments are in several databases, and NotConfigured if there is no
    database.
    """
    known = _known_locations(flags)
    patterns = []
    implied: dict[Path, ResolvedDatabase] = {}
    for argument in arguments:
        database, pattern = _resolve_argument(argument, known)
        patterns.append(pattern)
        if database is not None:
            implied.setdefault(database.settings.cache_dir, database)
    if len(implied) > 1:
        raise UsageError(
            f"the arguments are in several cache folders ({', '.join(map(str, implied))}): give "
            "only arguments in one of these folders"
        )
    return next(iter(implied.values()), None) or _default_database(flags, known), patterns


def find_database(arguments: Sequence[str], flags: Flags) -> ResolvedDatabase | None:
    """Return the database whose mount or cache folder contains one of the arguments.

    Return None if no argument is in a mount or cache folder.
    """
    known = _known_locations(flags)
    for argument in arguments:
        with suppress(ValueError):  # UsageError, or a text that is not a valid path
            database, _ = _resolve_argument(argument, known)
            if database is not None:
                return database
    return None


def others_mount(arguments: Sequence[str]) -> MountInfo | None:
    """Return another user's mount that contains one of the arguments.

    Return None if there is no such mount.
    """
    paths = (each for each in arguments if "://" not in each and not _is_identifier(each))
    return next(filter(None, map(other_users_mount_at, paths)), None)


def _is_identifier(argument: str) -> bool:
    """Whether an argument is an eid or a ref such as 2019-12-10_1_KS023, and not a path."""
    return alf.is_uuid(argument.lower()) or (
        "/" not in argument and alf.parse_ref(argument) is not None
    )


def known_databases(flags: Flags) -> list[ResolvedDatabase]:
    """Return each database that is mounted or set up. A database is returned only once.

    If flags name a database, return only this database.
    """
    by_folder = {
        each.database.settings.state_dir: each.database
        for each in reversed(_known_locations(flags))
    }
    return list(by_folder.values())


def _known_locations(flags: Flags) -> list[DatabaseLocation]:
    """Return the databases and mounts that may contain a path, beginning with the mounts.

    If flags name a database, return only this database and its mounts.
    """
    if any(flags.get(name) for name in ("public", "url", "profile", "cache_dir")):
        database = _configured_database(flags)
        folder = str(database.settings.cache_dir)
        mounts = [mount for mount in list_mounts() if mount.cache_dir == folder]
        return [
            *(DatabaseLocation(database, each.mountpoint, each.variant) for each in mounts),
            DatabaseLocation(database),
        ]
    locations = [
        DatabaseLocation(database_of_mount(mount), mount.mountpoint, mount.variant)
        for mount in list_database_mounts()
    ]
    for name in load_settings_file().profiles:
        locations.append(DatabaseLocation(_configured_database({**flags, "profile": name})))
    with suppress(NotConfigured):
        locations.append(DatabaseLocation(_configured_database(flags)))
    return locations


def _configured_database(flags: Flags) -> ResolvedDatabase:
    """Return the database that a flag, an environment variable or the settings file names.

    If only a cache folder is named, return the database that owns this folder. Raises NotConfigured
    if neither is known.
    """
    folder = flags.get("cache_dir") or os.environ.get("ONEFS_CACHE_DIR")
    owner = cache_owner_of(Path(folder).expanduser()) if folder else ""
    try:
        settings = resolve_settings(flags)
    except NotConfigured:
        if not folder or not owner:
            raise
        # commands that need no server can use a cache folder without settings
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
    return find_embedded(settings) or ResolvedDatabase(settings, settings.database_name)


def _default_database(flags: Flags, known: list[DatabaseLocation]) -> ResolvedDatabase:
    try:
        return _configured_database(flags)
    except NotConfigured:
        fallback = mounted_fallback(flags, (each.database for each in known if each.mountpoint))
        if fallback is None:
            raise
        return fallback


def _resolve_argument(
    argument: str, known: list[DatabaseLocation]
) -> tuple[ResolvedDatabase | None, str]:
    """Return the database that contains an argument, and the argument as a tree pattern.

    A tree pattern is a path in the tree, with or without wildcards, or ``dataset:UUID``. The
    database is None for an eid, a ref, a URL or a path in the tree. Raises UsageError for an empty
    argument, and for a path outside of mounts and cache folders.
    """
    refuse_empty(argument)  # an empty path would mean the whole database
    # an eid, a ref, a URL or a path in the tree does not show which database contains it
    if "://" in argument:
        return None, _pattern_of_url(argument)
    if alf.is_uuid(argument.lower()):
        return None, f"{BY_EID}/{argument.lower()}"
    is_path = argument.startswith(("/", "./", "../", "~")) or argument in (".", "..")
    try:
        located = _locate(absolute(argument), known)
    except UsageError:  # the working directory was deleted, but paths of the tree do not need it
        if is_path:
            raise
        located = None
    if located is not None:
        return located
    if is_path:
        refuse_other_users_mount(argument)
        raise UsageError(
            f"{argument} is not in a mount or cache folder of onefs: `onefs status` shows the "
            "mounts and their cache folders"
        )
    parts = Path(argument).parts
    if alf.parse_ref(parts[0]) is not None:
        return None, "/".join((BY_REF, *parts))
    return None, _remove_subjects_folder(parts)


def _pattern_of_url(url: str) -> str:
    """Convert a URL into a tree pattern: a path in the tree, or ``dataset:UUID``.

    Raises UsageError unless the URL is of a session, a dataset or a file.
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
            f"{safe_url(url)} is not the URL of a session, a dataset or a dataset's file: give a "
            "path (lab/subject/date/number/...) or an eid"
        )
    return "/".join((parts[lab], *parts[day - 1 :]))


def _locate(path: str, known: list[DatabaseLocation]) -> tuple[ResolvedDatabase, str] | None:
    """Return the database whose mount or cache folder contains ``path``, and the path in the tree.

    ``path`` is absolute. Return None if no mount or cache folder contains it.
    """
    # links in a mount (Subjects, 1 instead of 001) are resolved by the mount
    real = Path(os.path.realpath(path))
    for each in known:
        if each.mountpoint and real.is_relative_to(each.mountpoint):
            below = str(real.relative_to(each.mountpoint))
            return each.database, each.variant.path_in_full_tree(below)
    for database in (each.database for each in known):
        cache_dir = database.settings.cache_dir
        for place in (Path(path), real):
            for folder in (cache_dir, cache_dir.resolve()):
                if place.is_relative_to(folder):
                    return database, _remove_subjects_folder(place.relative_to(folder).parts)
    return None


def _remove_subjects_folder(parts: Sequence[str]) -> str:
    """Convert a path in a cache folder into a path in the tree, without ``Subjects``."""
    return "/".join(alf.parts_in_tree(parts))
