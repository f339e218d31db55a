"""Loading of releases: the tables of a tag, from Alyx or from a public bucket.

``onefs.config.releases`` has the folders. A release has the repositories of its database, since
tables name none.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

from onefs.alyx.client import AlyxClient
from onefs.cache_tables.build import BuildResult
from onefs.cache_tables.source import ARCHIVE_FILE_NAME, TablesServer
from onefs.catalogue.storage.overlay import OverlayDatabase
from onefs.catalogue.sync import SyncProgress, TablesBuilder, sync_from_server
from onefs.config.bucket import DEFAULT_REGION
from onefs.config.releases import release_dir
from onefs.download.sources.s3_client import endpoint_of, object_url
from onefs.errors import NotFound, ServerError
from onefs.http import Stream, Transport


class AlyxRelease:
    """The tables of a tag, which Alyx describes, and for which it names the address of the archive.

    The archive is fetched without a login, since it is not on Alyx's own server.
    """

    def __init__(self, alyx: AlyxClient, transport: Transport, tag: str) -> None:
        self._alyx = alyx
        self._transport = transport
        self._tag = tag
        self.url = alyx.url

    def cache_info(self) -> dict[str, Any] | None:
        """Return Alyx's description of the tables, or None if Alyx has no such tag.

        Raises ServerError if Alyx names no archive of these tables.
        """
        info = self._alyx.cache_info(self._tag)
        if info is None:
            return None
        location = info.get("location")
        if not isinstance(location, str) or not location.endswith(f"/{ARCHIVE_FILE_NAME}"):
            raise ServerError(f"{self._alyx.url} names no tables of the release {self._tag}")
        if location.startswith("s3://"):
            bucket, _, key = location.removeprefix("s3://").partition("/")
            location = object_url(bucket, key, DEFAULT_REGION, endpoint_of(os.environ))
        self.url = location.removesuffix(f"/{ARCHIVE_FILE_NAME}")
        return info

    def cache_zip(self) -> Stream:
        """Return a stream of the archive. The caller must check its HTTP status."""
        return self._transport.stream(f"{self.url}/{ARCHIVE_FILE_NAME}")


def load_release(
    server: TablesServer,
    state_dir: Path,
    tag: str,
    progress: SyncProgress | None,
    builder: TablesBuilder,
    alyx: AlyxClient | None = None,
    clock: Callable[[], float] = time.time,
) -> BuildResult | None:
    """Load the tables of a release. Return None if the same tables are already loaded.

    ``state_dir`` is the folder of the whole database. ``alyx`` lists the repositories; None for a
    public database, whose repositories are known. Raises what
    :func:`onefs.catalogue.sync.sync_from_server` raises, and NotFound if there is no such release.
    """
    folder = release_dir(state_dir, tag)
    repositories = alyx.repositories() if alyx is not None else []

    def store_repositories() -> None:
        # create the file too, because a mount checks whether it exists
        with closing(OverlayDatabase(folder / "catalogue.sqlite")) as database:
            if repositories:
                database.store_repositories(repositories, clock())

    def build_after_repositories(*args: Any, **options: Any) -> BuildResult:
        # before the tables, because a release without repositories has no files
        store_repositories()
        return builder(*args, **options)

    try:
        built = sync_from_server(server, folder, progress, build_after_repositories)
    except NotFound as error:
        raise NotFound(f"there is no release {tag}: `onefs tags` lists the releases") from error
    if built is None:
        store_repositories()
    return built
