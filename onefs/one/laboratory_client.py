"""Opening and closing of the laboratory (database) that the methods of ``ONE`` use."""

from __future__ import annotations

import importlib
import os
import weakref
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from onefs.access import Access
from onefs.config.settings import Settings
from onefs.lowlevel.lazy import Lazy
from onefs.one.interrupts import Interruptible

if TYPE_CHECKING:
    from onefs.mount.mount_registry import MountInfo
    from onefs.one.laboratory import Laboratory, SessionPaths
    from onefs.one.loader import Loader
    from onefs.one.mount_access import MountAccess
    from onefs.one.resolver import SessionResolver

Client = TypeVar("Client", bound="LaboratoryClient")


class LaboratoryClient(Interruptible):
    """Base class of ``ONE``: opens a laboratory, and closes it. Thread-safe.

    The arguments are described at :class:`onefs.one.client.ONE`.
    """

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
        )
        mounted = mount_of_another(arguments)
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

    def __enter__(self: Client) -> Client:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __repr__(self) -> str:
        if self._mount is not None:
            return f"<ONE {self._settings.url} in {self._mount.cache_dir}>"
        return f"<ONE {self._settings.url} as {self._settings.username or 'nobody'}>"

    def close(self) -> None:
        """Close all connections and files. Deletion of this object also closes them."""
        self._finalizer()

    @property
    def url(self) -> str:
        """Alyx's address."""
        return self._settings.url

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
    def setup() -> None:
        """Ask for a database's URL, user and passwords, test them, and save them as a profile.

        The command ``onefs setup`` does the same. ONE's file ``~/.one_params`` is not changed.

        Raises:
            NotConfigured: There is no terminal.
        """
        print("This writes onefs's own profile; ~/.one_params stays untouched.")
        # imported by name, because the command line is in a layer above this package
        command = importlib.import_module("onefs.cli.setup").setup
        command.main([], standalone_mode=False)

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
