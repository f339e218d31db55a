"""The methods of ONE-api that list and load datasets, by file name, object or collection."""

from __future__ import annotations

import os
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, cast

from onefs.errors import UsageError
from onefs.one.interrupts import interruptible
from onefs.one.listing_verbs import ListingVerbs
from onefs.one.loading_verbs import LoadingVerbs
from onefs.one.warn import warn

if TYPE_CHECKING:
    from onefs.access import Access


class DatasetVerbs(ListingVerbs, LoadingVerbs):
    """The methods of ONE-api that list and load datasets, by file name, object or collection.

    They have ONE-api's arguments and results, except that ids are texts. Patterns are those of the
    shell, such as ``"*spikes*"``, or regular expressions if ``wildcards`` is False.
    """

    @interruptible
    def load_cache(
        self,
        tables_dir: str | os.PathLike[str] | None = None,
        clobber: bool = False,
        tag: str | None = None,
    ) -> datetime | None:
        """Load ONE's cache tables: the newest ones, or those of a release.

        After the tables of a release are loaded, this object lists and loads the sessions and
        datasets of the release only. What is asked of Alyx, such as a search, still concerns the
        whole database, as in ONE-api. A new ``ONE()`` shows the whole database again.

        Args:
            tables_dir: A folder with tables to load instead of the server's.
            clobber: Not used, because the server is always asked for newer tables.
            tag: The name of a release. None means the release that is shown, or else the whole
                database.

        Returns:
            The time at which the tables were loaded, or None if there are none.

        Raises:
            NotFound: There is no such release, or the server has no tables.
            UsageError: This object reads another user's mount. Also if ``tables_dir`` is given for
                a release.
            MissingLibrary: pyarrow is not installed.
        """
        from onefs.one import cache_loading

        access = self._access_for("load cache tables")
        tag = tag or self._view.tag
        if tag is not None and tables_dir is not None:
            raise UsageError(
                f"this ONE shows the release {tag}, whose tables come from the server: give no "
                "tables_dir, or open another ONE"
            )
        if tag is not None:
            cache_loading.load_release(cast("Access", self._whole), tag, offline=self._offline)
            self._show_release(tag)
            access = self._access_for("load cache tables")
        elif tables_dir is not None or not self._offline:
            cache_loading.load_tables(access, tables_dir)
        return cache_loading.loaded_at(access)

    @interruptible
    def save_cache(
        self, save_dir: str | os.PathLike[str] | None = None, clobber: bool = False
    ) -> None:
        """Write ONE's cache tables of sessions and datasets to a folder, for ONE-api.

        Args:
            save_dir: The folder. None writes nothing, because onefs stores what it learns at once.
            clobber: Whether to replace tables that are in the folder.

        Raises:
            UsageError: The folder has tables, no tables have been loaded, or this object reads
                another user's mount.
            CacheError: The tables cannot be written.
        """
        from onefs.one import cache_loading

        access = self._access_for("save cache tables")
        if save_dir is not None:
            cache_loading.save_tables(access, Path(save_dir), replace=clobber)

    def save_loaded_ids(
        self, sessions_only: bool = False, clear_list: bool = True
    ) -> tuple[list[str], Path | None]:
        """Save the ids of the datasets that were loaded while :attr:`record_loaded` was True.

        Args:
            sessions_only: Whether to save the eids of the sessions instead.
            clear_list: Whether to forget the ids.

        Returns:
            The ids, and the path of a CSV file in the cache folder, or in the current folder for
            another user's mount. ``([], None)`` and a warning if nothing was loaded.

        Raises:
            CacheError: The file cannot be written.
        """
        from onefs.one.loaded_ids import save_ids

        loaded = self._loaded_ids
        ids = loaded.eids() if sessions_only else loaded.dataset_ids()
        if not ids:
            warn("no datasets were loaded while record_loaded was True")
            return [], None
        folder = self.cache_dir if self._mount is None else Path.cwd()
        path = save_ids(ids, "session_uuid" if sessions_only else "dataset_uuid", folder)
        if clear_list:
            loaded.clear()
        return ids, path
