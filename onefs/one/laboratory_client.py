"""Opening and closing of the laboratory (database) that the methods of ``ONE`` use."""

from __future__ import annotations

import importlib
import os
import weakref
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeVar, cast

from onefs.access import Access
from onefs.config.settings import Settings
from onefs.errors import UsageError
from onefs.lowlevel.lazy import Lazy
from onefs.one.interrupts import Interruptible

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
    #: the laboratory, resolver and loader that send requests, while the mode was set to ``local``
    _remote_parts: tuple[Laboratory, Lazy[SessionResolver], Lazy[Loader]] | None = None

    def __init__(
        self,
        username: str | None = None,
        password: str | None = None,
        base_url: str | None = None,
        silent: bool = False,
        *,
        token: str | None = None,
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
        from onefs.one.connect import ConnectionArguments, mount_of_another, open_access

        arguments = ConnectionArguments(
            username=username,
            password=password,
            base_url=base_url,
            token=token,
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
        self._attach(access, settings, partial(_catalogue_paths, access), offline=offline)

    def _open_mount(self, mounted: MountInfo, *, offline: bool) -> None:
        # imported here, because few users need these modules
        from onefs.one.mount_access import MountAccess
        from onefs.one.mount_paths import MountPaths

        self._mount = mount = MountAccess(mounted)
        self._attach(mount, mount.settings(), partial(MountPaths, mount), offline=offline)

    def _attach(
        self,
        laboratory: Laboratory,
        settings: Settings,
        open_paths: Callable[[], SessionPaths],
        *,
        offline: bool,
    ) -> None:
        self._laboratory, self._settings, self._offline = laboratory, settings, offline
        self._finalizer = weakref.finalize(self, laboratory.close)
        # created on first use, because their imports are slow: a search needs none of them, and
        # `onefs show` needs no loader
        self._lazy_resolver = Lazy(lambda: _make_resolver(laboratory, open_paths()))
        self._lazy_loader = Lazy(lambda: _make_loader(laboratory, self._resolver, offline))
        self._lazy_local = Lazy(self._open_local)

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
            self._remote_parts = (self._laboratory, self._lazy_resolver, self._lazy_loader)
            local = self._lazy_local()
            parts = (local._laboratory, local._lazy_resolver, local._lazy_loader)
        elif self._remote_parts is not None:
            parts, self._remote_parts = self._remote_parts, None
        else:
            raise UsageError(
                f"this ONE cannot change to the mode {mode!r}: open another with ONE(mode={mode!r})"
            )
        self._laboratory, self._lazy_resolver, self._lazy_loader = parts
        self._offline = mode == "local"

    @property
    def uuid_filenames(self) -> bool:
        """Always False, as usual in ONE-api: the names of files have no UUID."""
        return False

    @property
    def alyx(self) -> AlyxRest:
        """Alyx's REST interface, for reading: ``one.alyx.rest("sessions", "list", ...)``."""
        from onefs.one.alyx_rest import AlyxRest

        return AlyxRest(self)

    @property
    def cache_dir(self) -> Path:
        """ONE-api's cache folder that contains the files, or another user's mount point."""
        return self._laboratory.cache_dir

    @property
    def mountpoint(self) -> Path | None:
        """The mount point, if this object reads another user's mount. Otherwise None."""
        return self._mount.cache_dir if self._mount is not None else None

    @property
    def _resolver(self) -> SessionResolver:
        return self._lazy_resolver()

    @property
    def _loader(self) -> Loader:
        return self._lazy_loader()

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

    def _of_query_type(self: Client, query_type: str | None) -> Client:
        """Return the object that answers a method with ONE-api's argument ``query_type``.

        This is the object itself, or for ``local`` one that sends no request. Raises UsageError for
        an invalid argument.
        """
        if query_type is not None:
            from onefs.one.connect import check_mode

            check_mode("query_type", query_type)
        if query_type != "local" or self._offline or self._mount is not None:
            return self
        local: Client = self._lazy_local()
        local.wildcards = self.wildcards
        return local

    def _open_local(self) -> Any:
        # another user's mount has no such access, and is never asked for one
        access = cast("Access", self._laboratory).without_requests()
        local = type(self).over(access, self._settings, offline=True)
        local._cache_rest = self._cache_rest
        return local

    def _interrupt(self) -> None:
        """End the requests of all methods of this object. Later requests use new connections."""
        self._laboratory.interrupt()
        # in this order, because another thread may make a loader meanwhile, from the resolver
        self._lazy_resolver.reset()
        self._lazy_loader.reset()


def _catalogue_paths(access: Access) -> SessionPaths:
    from onefs.one.catalogue_paths import CataloguePaths

    return CataloguePaths(access)


def _make_resolver(laboratory: Laboratory, paths: SessionPaths) -> SessionResolver:
    from onefs.one.resolver import SessionResolver

    return SessionResolver(laboratory.catalogue, paths)


def _make_loader(laboratory: Laboratory, resolver: SessionResolver, offline: bool) -> Loader:
    from onefs.one.loader import Loader

    return Loader(laboratory, resolver, offline=offline)
