"""Adoption from another folder: link or copy files of that folder into the cache."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from enum import Enum
from functools import partial
from pathlib import Path

from onefs.alf import SUBJECTS, names_with_uuid
from onefs.cache.files import disk_errors, identity_of, remove_if_possible, stamp_of
from onefs.cache.folder import Place
from onefs.cache.sparse import counted_size
from onefs.cache.store import Store
from onefs.cache.verify import ContentVerdict, check_file
from onefs.errors import reason_of
from onefs.lowlevel.files import inherit_permissions
from onefs.model import Dataset

#: returns the dataset of a file and the dataset's path from the lab on, or None. Called with the
#: UUID in the file's name ('' if there is no UUID), and the file's path without the UUID
FindDataset = Callable[[str, Place], tuple[Dataset, Place] | None]
#: called with the path of a file and the number of bytes that were read from the file so far
FileProgressCallback = Callable[[Path, int], None]


class AdoptionOutcome(Enum):
    """The possible results of adopting a file (linking or copying it into the cache)."""

    ADOPTED = "taken"
    #: the dataset is cached already
    ALREADY_CACHED = "there already"
    #: no dataset has the file's path or UUID
    UNKNOWN = "unknown"
    #: the file contradicts the database, or cannot be read
    DIFFERS = "differs"
    #: the database has no md5 for the file, and files without an md5 are not trusted
    UNVERIFIABLE = "unproved"


@dataclass(frozen=True, slots=True)
class Adoption:
    """The path of one file, and whether the file was linked or copied into the cache."""

    path: Path
    outcome: AdoptionOutcome
    #: the reason why the file differs or is unverifiable. For an adopted file: its path in the
    #: cache folder. Otherwise ''
    reason: str = ""


def split_uuid(name: str) -> tuple[str, str]:
    """Return the UUID in a file name, and the name without the UUID.

    The UUID is '' if the name contains no UUID.
    """
    return next(iter(names_with_uuid(name)), ("", name))


def adopt_folder(
    store: Store,
    folder: Path,
    find: FindDataset,
    watch: FileProgressCallback = lambda path, done: None,
    *,
    copy: bool = False,
    trust: bool = False,
) -> Iterator[Adoption]:
    """Adopt the files below ``folder`` into the cache. Yield the result for each file.

    A file is adopted if its size and md5 are those in the database. The cache gets a hard link to
    the file, or a symbolic link if a hard link is impossible. onefs never evicts, moves or changes
    a linked file.

    - ``find`` finds the dataset of a file.
    - ``copy``: the files are copied instead, and the copies belong to the cache.
    - ``trust``: if the database has no md5, the right size is enough.

    Raises CacheError or CacheFull.
    """
    adopter = _Adopter(store, watch, copy, trust)
    for root, folders, names in os.walk(folder):
        folders[:] = sorted(name for name in folders if name != ".onefs")
        for name in sorted(names):
            path = Path(root, name)
            parts = [part for part in path.relative_to(folder).parts[:-1] if part != SUBJECTS]
            uuid, plain_name = split_uuid(name)
            match = find(uuid, (*parts, plain_name))
            if match is None:
                yield Adoption(path, AdoptionOutcome.UNKNOWN)
                continue
            with disk_errors(store.root):
                yield adopter.adopt(path, *match)


@dataclass(frozen=True, slots=True)
class _Adopter:
    """Links or copies single files into the cache, for :func:`adopt_folder`.

    The fields are parameters of ``adopt_folder``.
    """

    store: Store
    watch: FileProgressCallback
    copy: bool
    trust: bool

    def adopt(self, path: Path, dataset: Dataset, place: Place) -> Adoption:
        """Verify one file, and link or copy it into the cache. Return the result.

        The outcome is DIFFERS if the file cannot be read. Raises OSError for other errors of the
        disk.
        """
        try:
            adoption = self._verify(path, dataset)
            if isinstance(adoption, os.stat_result):
                with self.store.locks.hold(dataset.id, 60.0):
                    adoption = self._adopt_verified(path, dataset, place, adoption)
            return adoption
        except (FileNotFoundError, PermissionError) as error:
            if error.filename is None or Path(error.filename) != path:
                raise
            reason = f"the file cannot be read: {reason_of(error, path)}"
            return Adoption(path, AdoptionOutcome.DIFFERS, reason)

    def _verify(self, path: Path, dataset: Dataset) -> Adoption | os.stat_result:
        """Compare a file with the database. Return the file's ``os.stat`` result if they agree.

        Return an Adoption with the reason if the file must not be adopted.
        """
        # without the dataset's lock: readers wait for the lock, and hashing a recording takes
        # minutes
        if self.store.cached_path(dataset) is not None:
            return Adoption(path, AdoptionOutcome.ALREADY_CACHED)
        if not dataset.md5 and not self.trust:
            reason = "the database has no md5 for this file"
            return Adoption(path, AdoptionOutcome.UNVERIFIABLE, reason)
        status = path.stat()
        verdict = check_file(dataset, path, partial(self.watch, path))
        if not verdict.is_good:
            return Adoption(path, AdoptionOutcome.DIFFERS, verdict.reason)
        return status

    def _adopt_verified(
        self, path: Path, dataset: Dataset, place: Place, verified: os.stat_result
    ) -> Adoption:
        """Link or copy a verified file into the cache. Return the result.

        A file that has changed since the verification is not adopted. The caller holds the
        dataset's lock.
        """
        store = self.store
        changed = Adoption(
            path, AdoptionOutcome.DIFFERS, "the file was changed while onefs verified it"
        )
        if store.cached_path(dataset) is not None:  # cached after the check
            return Adoption(path, AdoptionOutcome.ALREADY_CACHED)
        final = store.final_path(place)
        is_new = not final.exists()
        if not is_new and not final.samefile(path):
            reason = f"there is already another file at {final}"
            return Adoption(path, AdoptionOutcome.DIFFERS, reason)
        if identity_of(path.stat()) != identity_of(verified):
            return changed
        if is_new:
            store.make_parent_folder(final)
            _link_or_copy(path, final, copy=self.copy)
        if stamp_of(path.stat()) != stamp_of(verified):  # linking has changed its ctime
            if is_new:
                remove_if_possible(final)
            return changed
        ours = self.copy and not final.samefile(path)
        verdict = ContentVerdict("cached" if dataset.md5 else "unverified")
        entry = store.register(dataset, final, verdict, ours=ours, status=final.stat())
        store.usage.adjust(counted_size(final) if ours else 0)
        return Adoption(path, AdoptionOutcome.ADOPTED, entry.path)


def _link_or_copy(path: Path, final: Path, *, copy: bool) -> None:
    if not copy:
        try:
            final.hardlink_to(path)
        except OSError:  # another disk, or a file system without hard links
            final.symlink_to(path.resolve())
        return
    fresh = final.with_name(f".{final.name}.onefs")
    try:
        shutil.copy2(path, fresh)
        inherit_permissions(fresh, fresh.parent.stat(), 0o666)
        fresh.replace(final)
    finally:
        remove_if_possible(fresh)
