"""Databases without an Alyx: the public one, and each release. Their cache tables list everything.

The public bucket has these tables, and the aggregates of databases with an Alyx, too.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING

from onefs.config.bucket import Bucket
from onefs.config.public_bucket import (
    ALYX_URL,
    BUCKET_VARIABLE,
    bucket_url,
    lab_repositories,
    public_bucket,
)
from onefs.config.releases import release_of
from onefs.config.settings import Settings
from onefs.errors import CacheError, NoAlyx, TablesLoading, Unreachable, UsageError
from onefs.http import Transport
from onefs.model import Repository

if TYPE_CHECKING:
    from onefs.cache_tables.bucket import PublicBucket
    from onefs.catalogue.storage.overlay import OverlayDatabase

#: the fact in the catalogue of a public database with the name of this database
_OWNER_FACT = "public_database"


class WithoutAlyx:
    """What an opened database uses instead of an Alyx, if it has none. Thread-safe.

    ``deadline`` is the longest time in seconds for a small answer of the bucket.
    """

    def __init__(
        self, settings: Settings, transport: Callable[[], Transport], deadline: float
    ) -> None:
        self._settings = settings
        self._transport = transport
        self._deadline = deadline
        #: the release that is shown; '' for the whole database
        self.tag = release_of(settings.state_dir)
        #: why the tables of a public database are not here yet; '' at all other times
        self.loading = ""

    @property
    def has_alyx(self) -> bool:
        """Whether there is an Alyx to ask: a public database and a release have none."""
        return not (self._settings.public or self.tag)

    def error(self) -> Unreachable:
        """Return the error of a request that only Alyx could answer, if there is no Alyx."""
        if self.loading:
            return TablesLoading(
                f"the list of the public database is not here yet ({self.loading}): try again in a "
                "moment"
            )
        if self.tag:
            return NoAlyx(f"the release {self.tag} is shown as published, and Alyx is not asked")
        return NoAlyx(
            "only Alyx knows this, and the public database has no Alyx: use an account of "
            f"{ALYX_URL}"
        )

    def claim_state_folder(self, database: OverlayDatabase) -> None:
        """Note in a catalogue that it is that of this public database, if it is one.

        Raises UsageError if it is the catalogue of an Alyx, or for an Alyx, that of a public
        database: each would show the list of the other.
        """
        name = self._settings.database_name if self._settings.public else ""
        try:
            owner = database.fact(_OWNER_FACT) or ""
            is_claimed = bool(owner)
            if name and not owner:
                source = database.tables.fact("source")
                is_claimed = "://" in source and not source.startswith(self._settings.url)
                is_claimed |= database.fact("alyx_url") is not None
                if not is_claimed:
                    database.set_fact(_OWNER_FACT, name)
        except CacheError:  # the catalogue cannot be read or written, which a later use reports
            return
        if is_claimed and owner != name:
            raise UsageError(
                f"the state folder {self._settings.state_dir} belongs to another database: give "
                "another folder with --state-dir"
            )

    def tables_server(self, tag: str = "") -> PublicBucket:
        """Return the bucket with the tables of this public database, or of a release of it."""
        # not loaded by commands that need no bucket
        from onefs.cache_tables.bucket import PublicBucket

        url, tag = self._settings.url, tag or self.tag
        return PublicBucket(self._transport(), url, tag, self._deadline)

    def repositories_of_labs(self) -> Callable[[str], list[Repository]] | None:
        """Return the function that returns a lab's public repositories; None if Alyx lists them."""
        return partial(lab_repositories, self._settings.url) if self._settings.public else None

    def public_bucket(self) -> Bucket | None:
        """Return the public bucket with data of this database, or None."""
        url = self._settings.url
        if self._settings.public:
            return public_bucket(url)
        has_bucket = url == ALYX_URL or os.environ.get(BUCKET_VARIABLE)
        return public_bucket(bucket_url()) if has_bucket else None

    def bucket_of_aggregates(self) -> PublicBucket | None:
        """Return the bucket with aggregates of this database, or None."""
        bucket = self.public_bucket()
        if self.tag or bucket is None:
            return None
        from onefs.cache_tables.bucket import PublicBucket

        return PublicBucket(self._transport(), bucket.url, deadline=self._deadline)
