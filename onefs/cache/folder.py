"""The cache folder on disk: its layout, its locks, and its recreation after it was deleted.

The folder has the layout of ONE-api's cache folder. A complete file is stored at
``<lab>/Subjects/<subject>/<date>/<nnn>/<collection>/<name>``. Private files of onefs are in
``.onefs/``:

``database.json``  the database that the folder belongs to
``files/``         a record for each complete file (see ``records.py``)
``partial/``       partial files (see ``blocks/block_map.py``)
``aside/``         complete files whose path above is taken by a file of the user
``rejected/``      complete files that contradict the database, until the user accepts them
``doubts/``        responses that contradicted the database, and how often (see ``mismatches.py``)
``disk/``          a record for each file of a disk that is a source (see ``disk_records.py``)
``accepted/``      an empty file for each dataset whose wrong bytes the user has accepted
``pins/``          an empty file for each pinned dataset, which is not evicted
``locks``          one byte-range lock per dataset
``usage``          the bytes of disk in use (see ``usage.py``)
``tables.json``    the ``*.pqt`` files in the root that onefs wrote (see ``one_tables.py``)
"""

from __future__ import annotations

import logging
import os
import stat
import threading
from collections.abc import Callable
from pathlib import Path

from onefs.alf import AGGREGATES, SUBJECTS
from onefs.cache.files import make_process_folder
from onefs.cache.locks import DatasetLocks, can_lock
from onefs.cache.permissions import check_cache_folder, is_inside_without_symlinks
from onefs.cache.target_folders import TargetFolders
from onefs.config.cache_owner import PRIVATE_FOLDER, check_owner, claim_cache_folder
from onefs.errors import CacheError
from onefs.lowlevel.files import inherit_permissions, make_folder
from onefs.lowlevel.folder_guard import FolderGuard
from onefs.model import Dataset

log = logging.getLogger(__name__)

#: subfolders in ``.onefs``; "" means ``.onefs`` itself
_PRIVATE_FOLDERS = (
    *("", "partial", "rejected", "pins", "aside", "files", "disk", "accepted", "doubts"),
)

#: the names of a dataset's folders, beginning with the lab, and the dataset's name:
#: ("cortexlab", "KS023", ..., "spikes.npy")
Place = tuple[str, ...]


class CacheFolder:
    """The layout of one cache folder, which belongs to one database. Thread-safe.

    - ``database`` is the name of the database (its host, or ``demo-<hash>``).
    - ``share`` says whether partial files are shared with other processes. If it is None, they are
      shared if the file system has locks.
    - ``trusted`` allows symbolic links that lead out of the folder.

    Raises UsageError if the folder belongs to another database. Also raises CacheError and OSError.
    """

    def __init__(self, root: Path, database: str, *, share: bool | None, trusted: bool) -> None:
        self.root = root
        self.private_folder = root / PRIVATE_FOLDER
        self._trusted = trusted
        self._database = database
        #: this user may not write to the folder: cached files are read, and nothing is fetched
        self.read_only = self.private_folder.is_dir() and not os.access(
            self.private_folder, os.W_OK | os.X_OK, effective_ids=True
        )
        if self.read_only:
            check_owner(root, database)
            log.warning(
                "the cache folder %s cannot be written: cached files can be read, but no file is "
                "downloaded",
                root,
            )
            self.shared = False
        else:
            self._make_folders()
            claim_cache_folder(root, database)
            self.shared = can_lock(self.private_folder) if share is None else share
        partial = self.private_folder / "partial"
        #: the folder of the partial files: one folder for all processes, or a folder for this
        #: process alone if partial files are not shared
        self.partial_folder = (
            partial if self.shared or self.read_only else make_process_folder(partial)
        )
        self._guard = FolderGuard(self.private_folder, "the cache folder")
        self._target_folders = TargetFolders(root)
        self._restore_lock = threading.Lock()
        #: functions that are called after the folder was recreated or its disk was mounted again
        self.on_restored: list[Callable[[], None]] = []
        self.locks = DatasetLocks(
            self.private_folder / "locks", shared=self.shared, before=self.restore
        )

    @property
    def status_message(self) -> str:
        """Return a message if the folder was deleted or its disk was unmounted, else ''."""
        return self._guard.status_message

    def restore(self) -> None:
        """Recreate the folder if it was deleted.

        Raises CacheError while the folder's disk is not mounted. Also raises OSError.
        """
        if self.read_only or self._guard.is_same_folder():
            return
        with self._restore_lock:
            if self._guard.is_same_folder():
                return
            self._guard.check_available()
            if not self._trusted:
                check_cache_folder(self.root)
            recreated = not self.private_folder.is_dir()
            self._make_folders()
            claim_cache_folder(self.root, self._database)
            if self.partial_folder != self.private_folder / "partial":
                make_folder(self.partial_folder, self.root)
            for notify in self.on_restored:
                notify()
            self._guard.note_available_again(recreated=recreated)

    def _make_folders(self) -> None:
        """Make the private subfolders of ``.onefs``.

        If a group may write to the root of the cache folder, the group may also write to the
        subfolders.
        """
        root_stat = None
        for name in _PRIVATE_FOLDERS:
            folder = self.private_folder / name
            make_folder(folder, self.root)
            root_stat = root_stat or self.root.stat()
            if root_stat.st_mode & stat.S_IWGRP and folder.stat().st_uid == os.geteuid():
                inherit_permissions(folder, root_stat, 0o2777)

    def make_parent_folder(self, final: Path) -> None:
        """Make the folder in which the file ``final`` will be stored.

        Raises CacheError if a symbolic link leads out of the cache folder. Also raises OSError.
        """
        self._check_is_inside(final.parent)
        make_folder(final.parent, self.root)

    def rename_into_place(self, source: Path, final: Path) -> None:
        """Rename a file to its final name ``final``. Make the folder of ``final`` if it is missing.

        Raises CacheError if a symbolic link leads out of the cache folder. Also raises OSError.
        """
        self._check_is_inside(final.parent)
        try:
            os.replace(source, final)
        except FileNotFoundError:
            source.lstat()  # raises an error if the file was removed, so that no folder is made
            make_folder(final.parent, self.root)
            os.replace(source, final)

    def move_into_place(self, source: Path, final: Path, before: os.stat_result) -> os.stat_result:
        """As :meth:`rename_into_place`, for many files. Return the status that the file then has.

        ``before`` is the status of the file.
        """
        status = self._target_folders.move(source, final, before)
        if status is None:
            self.rename_into_place(source, final)
            self._target_folders.keep_open(final.parent)
            status = os.stat(final)
        return status

    def _check_is_inside(self, folder: Path) -> None:
        if not self._trusted and not is_inside_without_symlinks(self.root, folder):
            raise CacheError(
                f"{folder} is reached through a symbolic link in the cache folder: remove the "
                "link, or give --trust-cache-dir (ONEFS_TRUST_CACHE_DIR=1) if the link is intended"
            )

    def close(self) -> None:
        """Close the descriptors of the folder and of its locks."""
        self._guard.close()
        self.locks.close()

    def pinned_ids(self) -> set[str]:
        """Return the ids of the pinned datasets. Raises OSError."""
        return set(os.listdir(self.private_folder / "pins"))

    def final_path(self, place: Place) -> Path:
        """Return the path of a complete dataset in the cache folder, in ONE's folder layout."""
        return Path(self.final_name(place))

    def final_name(self, place: Place) -> str:
        """Return :meth:`final_path` as text, which is several times as fast."""
        lab, *rest = place
        if lab == AGGREGATES:  # ONE has no folder ``Subjects`` there
            return "/".join((os.fspath(self.root), *place))
        return "/".join((os.fspath(self.root), lab, SUBJECTS, *rest))

    def relative_name(self, path: Path) -> str:
        """Return the path of a file in the cache folder, relative to the folder, as text."""
        # several times as fast as Path.relative_to
        return os.fspath(path).removeprefix(f"{self.root}/")

    def download_path(self, dataset: Dataset) -> Path:
        """Return the path to which a small dataset is downloaded.

        The file at this path is guarded by the dataset's lock.
        """
        return Path(f"{self.partial_folder}/{dataset.id}.whole")

    def rejected_path(self, dataset: Dataset) -> Path:
        """Return the path at which bytes that contradict the database are kept."""
        return self.private_folder / "rejected" / dataset.id
