"""Opening and closing of the laboratory (database) that the methods of ``ONE`` use."""

from __future__ import annotations

import importlib
import os
import weakref
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeVar, cast

from onefs.access import Access
from onefs.config.settings import Settings
from onefs.errors import UsageError
from onefs.lowlevel.lazy import Lazy
from onefs.one.interrupts import Interruptible
from onefs.one.views import Parts, View

if TYPE_CHECKING:
    from onefs.mount.mount_registry import MountInfo
    from onefs.one.alyx_rest import AlyxRest
    from onefs.one.laboratory import Laboratory, SessionPaths
    from onefs.one.loader import Loader
    from onefs.one.mount_access import MountAccess
    from onefs.one.resolver import SessionResolver

Client = TypeVar("Client", bound="LaboratoryClient")


class LaboratoryClient(Interruptible):
    """Base class of ``ONE``: opens a laboratory, and closes it. Thread-safe.

    The arguments are described at :class:`onefs.one.client.ONE`.
    """

    #: whether a name of a dataset may be a pattern, as in ONE-api. It can be changed
    wildcards: bool = True
    #: ONE-api's name for whether answers of :attr:`alyx` may be used again. It can be changed there
    _cache_rest: str | None = "GET"
    #: what this object reads in the mode in which it was opened
    _opened: View
    #: what this object reads in its present mode. It is replaced, and never changed
    _view: View

    def __init__(
        self,
        username: str | None = None,
        password: str | None = None,
        base_url: str | None = None,
        silent: bool = False,
        *,
        token: str | Mapping[str, str] | None = None,
        profile: str | None = None,
        cache_dir: str | os.PathLike[str] | None = None,
        source: str | os.PathLike[str] | None = None,
        data_username: str | None = None,
        data_password: str | None = None,
        data_hosts: str | None = None,
        offline: bool = False,
        mode: Literal["local", "remote"] | None = None,
        wildcards: bool = True,
        tables_dir: str | os.PathLike[str] | None = None,
        cache_rest: str | None = "GET",
    ) -> None:
        # a command that has opened the laboratory needs nothing of this module
        from onefs.one.connect import (
            ConnectionArguments,
            mount_of_another,
            open_access,
            token_text,
        )

        arguments = ConnectionArguments(
            username=username,
            password=password,
            base_url=base_url,
            token=token_text(token),
            profile=profile,
            cache_dir=cache_dir,
            source=source,
            data_username=data_username,
            data_password=data_password,
            data_hosts=data_hosts,
            offline=offline,
            silent=silent,
            mode=mode,
            wildcards=wildcards,
            tables_dir=tables_dir,
            cache_rest=cache_rest,
        )
        self.wildcards, self._cache_rest = wildcards, cache_rest
        mounted, offline = mount_of_another(arguments), arguments.sends_no_request
        if mounted is not None:
            self._open_mount(mounted, offline=offline)
        else:
            self._open_access(*open_access(arguments, self.setup), offline=offline)

    @classmethod
    def public(
        cls: type[Client],
        *,
        cache_dir: str | os.PathLike[str] | None = None,
        offline: bool = False,
    ) -> Client:
        """Return a client for IBL's public database, which needs no account.

        Sessions and datasets are those of the cache tables in IBL's public bucket, which are loaded
        at the first call. Files come from the bucket. There is no Alyx: a method that only Alyx can
        answer raises Unreachable.

        Args:
            cache_dir: ONE-api's cache folder, where downloaded files are stored.
            offline: Whether to send no request, and use only what is cached.

        Raises:
            UsageError: An argument is invalid.
            Unreachable: The bucket is unreachable, and its tables have never been loaded.
        """
        from onefs.one.connect import ConnectionArguments, open_access

        arguments = ConnectionArguments(cache_dir=cache_dir, offline=offline, public=True)
        client = cls.__new__(cls)
        client._open_access(*open_access(arguments, cls.setup), offline=offline)
        return client

    @classmethod
    def over(
        cls: type[Client], access: Access, settings: Settings, *, offline: bool = False
    ) -> Client:
        """Return a client for an opened laboratory. Closing the client closes the laboratory.

        For programs that have opened the laboratory themselves, such as the commands of onefs.

        Args:
            access: The opened laboratory.
            settings: The settings with which it was opened.
            offline: Whether to send no request, and use only what is cached.
        """
        client = cls.__new__(cls)
        client._open_access(access, settings, offline=offline)
        return client

    @classmethod
    def in_mount(cls: type[Client], mounted: MountInfo, *, offline: bool = False) -> Client:
        """Return a client that reads another user's mount, without a login or a cache.

        Args:
            mounted: The mount.
            offline: Whether to load only files that are cached in the mount.
        """
        client = cls.__new__(cls)
        client._open_mount(mounted, offline=offline)
        return client

    def _open_access(self, access: Access, settings: Settings, *, offline: bool) -> None:
        self._mount: MountAccess | None = None
        self._attach(_parts_of_access(access, offline), settings, offline=offline)

    def _open_mount(self, mounted: MountInfo, *, offline: bool) -> None:
        # imported here, because few users need these modules
        from onefs.one.mount_access import MountAccess
        from onefs.one.mount_paths import MountPaths

        self._mount = mount = MountAccess(mounted)
        parts = _make_parts(mount, partial(MountPaths, mount), offline)
        self._attach(parts, mount.settings(), offline=offline)

    def _attach(self, parts: Parts, settings: Settings, *, offline: bool) -> None:
        self._settings = settings
        self._opened = self._view = View(parts, parts, offline)
        self._closers: list[Callable[[], object]] = [parts.laboratory.close]
        self._finalizer = weakref.finalize(self, _call_all, self._closers)
        self._lazy_local = Lazy(self._open_local)
        #: the names of the filters of each endpoint of Alyx, as far as they were asked for
        self._filter_names: dict[str, frozenset[str]] = {}

    def _show_release(self, tag: str) -> None:
        """List and load the sessions and datasets of a release from now on."""
        before, opened = self._view, self._opened
        # another user's mount has no releases
        release = cast("Access", opened.whole.laboratory).of_release(tag)
        self._closers.append(release.close)
        shown = _parts_of_access(release, opened.is_offline)
        self._opened = opened._replace(shown=shown, tag=tag)
        local = self._lazy_local.reset()  # it shows what was shown before
        if local is not None:
            self._closers.append(local.close)
        is_local = before.is_offline and not opened.is_offline
        self._view = self._local_view() if is_local else self._opened

    def _local_view(self) -> View:
        # kept, because the child of a fork forgets the value of a Lazy: what this object reads
        # would be closed with it
        self._local_owner: LaboratoryClient = self._lazy_local()
        view: View = self._local_owner._view
        return view

    def __enter__(self: Client) -> Client:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __repr__(self) -> str:
        line = "offline" if self._offline else "online"
        if self._mount is not None:
            return f"<ONE {self._settings.url} in {self._mount.cache_dir}, {line}>"
        username = self._settings.username or "nobody"
        return f"<ONE {self._settings.url} as {username} in {self.cache_dir}, {line}>"

    def close(self) -> None:
        """Close all connections and files. Deletion of this object also closes them."""
        self._finalizer()
        local = self._lazy_local.close()
        if local is not None:
            local.close()

    @property
    def url(self) -> str:
        """Alyx's address."""
        return self._settings.url

    @property
    def offline(self) -> bool:
        """Whether this object sends no request."""
        return self._offline

    @property
    def mode(self) -> str:
        """``local`` if this object sends no request, otherwise ``remote``. It can be changed.

        An object that was opened in the mode ``local`` stays in this mode.
        """
        return "local" if self._offline else "remote"

    @mode.setter
    def mode(self, mode: str) -> None:
        from onefs.one.connect import check_mode

        check_mode("mode", mode)
        if mode == self.mode:
            return
        if mode == "local" and self._mount is None:
            self._view = self._local_view()
        elif mode == "remote" and not self._opened.is_offline:
            self._view = self._opened
        else:
            raise _mode_error(mode)

    @property
    def uuid_filenames(self) -> bool:
        """Always False, as usual in ONE-api: the names of files have no UUID."""
        return False

    @property
    def alyx(self) -> AlyxRest:
        """Alyx's REST interface, for reading: ``one.alyx.rest("sessions", "list", ...)``."""
        from onefs.one.alyx_rest import AlyxRest

        return AlyxRest(self)

    @staticmethod
    def cache_clear() -> None:
        """Do nothing, because each call of ``ONE()`` makes a new object. ONE-api keeps the last."""

    @property
    def cache_dir(self) -> Path:
        """ONE-api's cache folder that contains the files, or another user's mount point."""
        return self._laboratory.cache_dir

    @property
    def mountpoint(self) -> Path | None:
        """The mount point, if this object reads another user's mount. Otherwise None."""
        return self._mount.cache_dir if self._mount is not None else None

    @property
    def _offline(self) -> bool:
        return self._view.is_offline

    @property
    def _laboratory(self) -> Laboratory:
        return self._view.shown.laboratory

    @property
    def _resolver(self) -> SessionResolver:
        return self._view.shown.resolver()

    @property
    def _loader(self) -> Loader:
        return self._view.shown.loader()

    @property
    def _whole(self) -> Laboratory:
        """The whole database, whose Alyx answers what the tables of a release do not have."""
        return self._view.whole.laboratory

    @staticmethod
    def setup(
        base_url: str | None = None,
        *,
        silent: bool = False,
        make_default: bool | None = None,
        username: str | None = None,
        cache_dir: str | os.PathLike[str] | None = None,
    ) -> None:
        """Save a database's URL, user and passwords as a profile, after asking for them.

        The command ``onefs setup`` does the same. The values are tested with the server. With
        ``silent``, nothing is asked or tested, and no password is saved. ONE's file
        ``~/.one_params`` is not changed.

        Args:
            base_url: Alyx's address. With ``silent``, the default is the address that was saved, or
                that of IBL's public Alyx.
            silent: Whether to ask nothing.
            make_default: Whether ``ONE()`` opens this database. None means: if there is no other.
            username: The user name for Alyx.
            cache_dir: ONE-api's cache folder, where downloaded files are stored.

        Raises:
            NotConfigured: There is no terminal.
            UsageError: An argument is invalid.
        """
        if silent:
            from onefs.one.save_setup import save_setup

            save_setup(base_url, username, cache_dir, make_default=bool(make_default))
            return
        print("This writes onefs's own profile; ~/.one_params stays untouched.")
        given = {"--url": base_url, "--username": username, "--cache-dir": cache_dir}
        words = [
            word for name, value in given.items() if value for word in (name, os.fspath(value))
        ]
        if make_default is not None:
            words.append("--default" if make_default else "--no-default")
        # imported by name, because the command line is in a layer above this package
        command = importlib.import_module("onefs.cli.setup").setup
        command.main(words, standalone_mode=False)

    def _of_query_type(self: Client, query_type: str | None, *, may_ignore: bool = False) -> Client:
        """Return the object that answers a method with ONE-api's argument ``query_type``.

        This is the object itself, or another one of the other mode. Raises UsageError for an
        invalid argument. If this object was opened to send no request, also for ``remote``, unless
        ``may_ignore``: names of what is known are the same in both modes.
        """
        if query_type is None:
            return self
        from onefs.one.arguments import check_query_type

        check_query_type(query_type)
        is_mode = query_type in ("local", "remote")
        if not is_mode or query_type == self.mode or self._mount is not None:
            return self
        if query_type == "local":
            local: Client = self._lazy_local()
            local.wildcards = self.wildcards
            return local
        if self._opened.is_offline:
            if may_ignore:
                return self
            raise _mode_error(query_type)
        remote = type(self).__new__(type(self))
        remote.__dict__.update(self.__dict__)
        remote._view = self._opened
        return remote

    def _open_local(self) -> Any:
        # another user's mount has no such access, and is never asked for one
        access = cast("Access", self._opened.whole.laboratory).without_requests()
        local = type(self).over(access, self._settings, offline=True)
        local._cache_rest = self._cache_rest
        if self._opened.tag is not None:
            local._show_release(self._opened.tag)
        return local

    def _interrupt(self) -> None:
        """End the requests of all methods of this object. Later requests use new connections."""
        self._view.interrupt()


def _mode_error(mode: str) -> UsageError:
    return UsageError(
        f"this ONE cannot change to the mode {mode!r}: open another with ONE(mode={mode!r})"
    )


def _call_all(functions: list[Callable[[], object]]) -> None:
    for function in functions:
        function()


def _parts_of_access(access: Access, offline: bool) -> Parts:
    return _make_parts(access, partial(_catalogue_paths, access), offline)


def _make_parts(
    laboratory: Laboratory, open_paths: Callable[[], SessionPaths], offline: bool
) -> Parts:
    # created on first use, because their imports are slow: a search needs none of them, and
    # `onefs show` needs no loader
    resolver = Lazy(lambda: _make_resolver(laboratory, open_paths()))
    return Parts(laboratory, resolver, Lazy(lambda: _make_loader(laboratory, resolver(), offline)))


def _catalogue_paths(access: Access) -> SessionPaths:
    from onefs.one.catalogue_paths import CataloguePaths

    return CataloguePaths(access)


def _make_resolver(laboratory: Laboratory, paths: SessionPaths) -> SessionResolver:
    from onefs.one.resolver import SessionResolver

    return SessionResolver(laboratory.catalogue, paths)


def _make_loader(laboratory: Laboratory, resolver: SessionResolver, offline: bool) -> Loader:
    from onefs.one.loader import Loader

    return Loader(laboratory, resolver, offline=offline)
