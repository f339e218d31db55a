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
from onefs.adoption import check_may_cache
from onefs.cli.options import ask_secret, at_terminal, refuse_empty
from onefs.credentials import CredentialStore
from onefs.errors import (
    DeadlineExceeded,
    NotConfigured,
    Throttled,
    Unreachable,
    UsageError,
    WrongScheme,
)
from onefs.http import Transport
from onefs.metadata.auth import log_in as get_token
from onefs.metadata.auth import unsaved
from onefs.mount.records import MountInfo, list_mounts
from onefs.paths import absolute
from onefs.secret import Secret
from onefs.settings import Settings, load, resolve
from onefs.sites import (
    Site,
    embedded_at,
    mount_at,
    mounted,
    of_mount,
    owner_of,
    refuse_mount_of_another,
    stand_in,
)
from onefs.storing import storing
from onefs.tree.finding import DATASET
from onefs.tree.variant import EVERYTHING, Variant
from onefs.tree.views import BY_EID, BY_REF
from onefs.urls import host_key, safe_url, split

Flags = Mapping[str, str | None]


@dataclass(frozen=True, slots=True)
class Shown:
    """A database where it is mounted, or only known."""

    site: Site
    #: '' where it is not mounted
    mountpoint: str = ""
    #: what the mount shows
    variant: Variant = EVERYTHING


def access_to(site: Site, *, offline: bool) -> Access:
    """Everything over a database; with ``offline`` no server is asked, and no login needed."""
    login, settings = None, site.settings
    check_may_cache(settings.cache_dir, settings.state_dir)
    if not offline and (known := site.embedded()) is not None:
        settings, login = known
    elif not offline and (token := log_in(settings)):
        login = GivenLogin(token=token)
    deadlines = Deadlines.of_environment()
    return Access(settings, site.database, login=login, deadlines=deadlines, offline=offline)


@contextmanager
def using(access: Access) -> Iterator[Access]:
    """A laboratory until the end of the block. Ctrl-C ends what is under way, without waiting."""

    def interrupted(*_: object) -> None:
        # in a thread: the main one may hold any of the locks that this takes
        threading.Thread(target=access.wake, name="onefs-wake").start()
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


def log_in(settings: Settings) -> Secret:
    """Have a token before anything else, asking on the terminal where there is one.

    Returns it where it could not be kept, else ''. A server that is away is no obstacle where a
    catalogue is, which may hold enough.
    """
    store = CredentialStore()
    ask = ask_secret if at_terminal() else None
    deadline = Deadlines.of_environment().metadata
    with Transport() as transport:
        try:
            token = get_token(transport, settings, store, ask=ask, deadline=deadline)
        except WrongScheme:
            raise
        except (Unreachable, DeadlineExceeded, Throttled):
            if not (settings.state_dir / "catalogue.sqlite").exists():
                raise
            return Secret("")
    return unsaved(settings, store, token)


def locate(arguments: Sequence[str], flags: Flags) -> tuple[Site, list[str]]:
    """The database that arguments are about, and each as a pattern of the tree's paths.

    Flags decide; then the mount or cache folder that arguments lie in; then the settings; then
    the only mount. Raises UsageError for arguments of several databases, or of none.
    """
    known = _sites(flags)
    patterns = []
    implied: dict[Path, Site] = {}
    for argument in arguments:
        site, pattern = _place(argument, known)
        patterns.append(pattern)
        if site is not None:
            implied.setdefault(site.settings.cache_dir, site)
    if len(implied) > 1:
        raise UsageError(f"the arguments lie in several caches: {', '.join(map(str, implied))}")
    site = next(iter(implied.values()), None) or _default(flags, known)
    return site, patterns


def site_of(arguments: Sequence[str], flags: Flags) -> Site | None:
    """The database whose mount or cache folder an argument lies in; None where none does."""
    known = _sites(flags)
    for argument in arguments:
        with suppress(ValueError):  # a UsageError, or a text that can be no path
            site, _ = _place(argument, known)
            if site is not None:
                return site
    return None


def others_mount(arguments: Sequence[str]) -> MountInfo | None:
    """The mount of another user in which an argument lies; None where none does."""
    paths = (each for each in arguments if "://" not in each and not _names_no_path(each))
    return next(filter(None, map(mount_at, paths)), None)


def _names_no_path(argument: str) -> bool:
    return alf.is_uuid(argument.lower()) or (
        "/" not in argument and alf.parse_ref(argument) is not None
    )


def sites(flags: Flags) -> list[Site]:
    """All databases that are mounted or set up, or the one that flags name; each folder once."""
    found = {each.site.settings.state_dir: each.site for each in reversed(_sites(flags))}
    return list(found.values())


def _sites(flags: Flags) -> list[Shown]:
    """All databases that a path may lie in, those that are mounted first."""
    if any(flags.get(name) for name in ("url", "profile", "cache_dir")):
        site = _configured(flags)
        folder = str(site.settings.cache_dir)
        mounts = [mount for mount in list_mounts() if mount.cache_dir == folder]
        return [*(Shown(site, each.mountpoint, each.variant) for each in mounts), Shown(site)]
    found = [Shown(of_mount(mount), mount.mountpoint, mount.variant) for mount in mounted()]
    for name in load().profiles:
        found.append(Shown(_configured({**flags, "profile": name})))
    with suppress(NotConfigured):
        found.append(Shown(_configured(flags)))
    return found


def _configured(flags: Flags) -> Site:
    """The database of flags, variables and the settings file. Raises NotConfigured."""
    folder = flags.get("cache_dir") or os.environ.get("ONEFS_CACHE_DIR")
    owner = owner_of(Path(folder).expanduser()) if folder else ""
    try:
        settings = resolve(flags)
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
            storing=storing(flags, os.environ, {}),
        )
        return Site(settings, owner)
    return embedded_at(settings) or Site(settings, host_key(settings.url))


def _default(flags: Flags, known: list[Shown]) -> Site:
    try:
        return _configured(flags)
    except NotConfigured:
        mounted_here = stand_in(flags, (each.site for each in known if each.mountpoint))
        if mounted_here is None:
            raise
        return mounted_here


def _place(argument: str, known: list[Shown]) -> tuple[Site | None, str]:
    """The database that an argument implies, if it does, and its pattern.

    Raises UsageError for one that names nothing, which would stand for the whole database.
    """
    refuse_empty(argument)
    if "://" in argument:
        return None, _of_url(argument)
    if alf.is_uuid(argument.lower()):
        return None, f"{BY_EID}/{argument.lower()}"
    is_path = argument.startswith(("/", "./", "../", "~")) or argument in (".", "..")
    try:
        within = _within(absolute(argument), known)
    except UsageError:  # the working directory was deleted, and a path of the tree needs none
        if is_path:
            raise
        within = None
    if within is not None:
        return within
    if is_path:
        refuse_mount_of_another(argument)
        raise UsageError(
            f"{argument} lies in no mount of onefs and no cache folder: `onefs status` shows them"
        )
    if alf.parse_ref(argument) is not None and "/" not in argument:
        return None, f"{BY_REF}/{argument}"
    parts = Path(argument).parts
    if alf.parse_ref(parts[0]) is not None:
        return None, "/".join((BY_REF, *parts))
    return None, _without_subjects(parts)


def _of_url(url: str) -> str:
    """The pattern of a URL: Alyx's of a session or dataset, or a file server's of a file.

    Raises UsageError for any other.
    """
    try:
        parts = [unquote(part) for part in split(url).path.split("/") if part]
    except ValueError as error:
        raise UsageError(f"{safe_url(url)} is not a URL: {error}") from None
    kind, name = parts[-2:] if len(parts) > 1 else ("", "")
    if alf.is_uuid(name.lower()) and kind in ("sessions", "datasets"):
        return (f"{BY_EID}/" if kind == "sessions" else DATASET) + name.lower()
    day = next((at for at in reversed(range(len(parts))) if alf.is_date(parts[at])), 0)
    lab = day - 3 if parts[day - 2 : day - 1] == [alf.SUBJECTS] else day - 2
    if day < 2 or lab < 0:
        raise UsageError(
            f"{safe_url(url)} is not the URL of a session, a dataset or a file of one: give a "
            "path (lab/subject/date/number/...) or an eid"
        )
    return "/".join((parts[lab], *parts[day - 1 :]))


def _within(path: str, known: list[Shown]) -> tuple[Site, str] | None:
    """The database whose mount or cache folder an absolute path lies in, and the path there."""
    # links in a mount (Subjects, 1 for 001) are resolved by the mount
    real = Path(os.path.realpath(path))
    for each in known:
        if each.mountpoint and real.is_relative_to(each.mountpoint):
            return each.site, each.variant.path(str(real.relative_to(each.mountpoint)))
    for site in (each.site for each in known):
        for place in (Path(path), real):
            for folder in (site.settings.cache_dir, site.settings.cache_dir.resolve()):
                if place.is_relative_to(folder):
                    return site, _without_subjects(place.relative_to(folder).parts)
    return None


def _without_subjects(parts: Sequence[str]) -> str:
    """A ONE path as the tree has it."""
    return "/".join(part for index, part in enumerate(parts) if (index, part) != (1, alf.SUBJECTS))
