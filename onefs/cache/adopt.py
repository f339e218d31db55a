"""Taking over files that somebody has downloaded already, from another folder."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from enum import Enum
from functools import partial
from pathlib import Path

from onefs.alf import SUBJECTS, names_with_uuid
from onefs.cache.files import (
    disk_errors,
    identity_of,
    remove_if_possible,
    stamp_of,
)
from onefs.cache.folder import Place
from onefs.cache.sparse import counted_size
from onefs.cache.store import Store
from onefs.cache.verify import ContentVerdict, check_file
from onefs.errors import reason_of
from onefs.lowlevel.files import inherit_permissions
from onefs.model import Dataset

#: finds the dataset of a file by its UUID, if the name has one, and its place without it
FindDataset = Callable[[str, Place], tuple[Dataset, Place] | None]


class AdoptionOutcome(Enum):
    """What became of a file."""

    ADOPTED = "taken"
    #: the cache has it already
    ALREADY_CACHED = "there already"
    #: no dataset stands for it
    UNKNOWN = "unknown"
    #: it is not what the database describes
    DIFFERS = "differs"
    #: the database has no md5, and nobody said that it is to be trusted
    UNVERIFIABLE = "unproved"


@dataclass(frozen=True, slots=True)
class Adoption:
    """One file of the folder, and what became of it."""

    path: Path
    outcome: AdoptionOutcome
    reason: str = ""


def split_uuid(name: str) -> tuple[str, str]:
    """The UUID in a file name ('' when there is none), and the name without it."""
    return next(iter(names_with_uuid(name)), ("", name))


#: told of a file and how many of its bytes were read
FileProgressCallback = Callable[[Path, int], None]


def adopt_folder(
    store: Store,
    folder: Path,
    find: FindDataset,
    watch: FileProgressCallback = lambda path, done: None,
    *,
    copy: bool = False,
    trust: bool = False,
) -> Iterator[Adoption]:
    """Take the files below ``folder`` that are what the database describes.

    They are linked into the cache (hard links, symbolic ones between disks) and stay the user's
    own: never evicted, moved or changed. With ``copy`` the cache gets copies, which are its own.
    ``trust`` takes a file of the right size where the database has no md5. Raises CacheError.
    """
    for root, folders, names in os.walk(folder):
        folders[:] = sorted(name for name in folders if name != ".onefs")
        for name in sorted(names):
            path = Path(root, name)
            parts = [part for part in path.relative_to(folder).parts[:-1] if part != SUBJECTS]
            key, plain = split_uuid(name)
            found = find(key, (*parts, plain))
            if found is None:
                yield Adoption(path, AdoptionOutcome.UNKNOWN)
                continue
            with disk_errors(store.root):
                yield _adopt_file(store, path, *found, watch, copy=copy, trust=trust)


def _adopt_file(
    store: Store,
    path: Path,
    dataset: Dataset,
    place: Place,
    watch: FileProgressCallback,
    *,
    copy: bool,
    trust: bool,
) -> Adoption:
    """What becomes of one file. Raises OSError for what is wrong with the cache folder."""
    try:
        adoption = _verify_source(store, path, dataset, place, watch, trust=trust)
        if isinstance(adoption, os.stat_result):
            with store.locks.hold(dataset.id, 60.0):
                adoption = _adopt_verified(store, path, dataset, place, adoption, copy=copy)
        return adoption
    except (FileNotFoundError, PermissionError) as error:
        if error.filename is None or Path(error.filename) != path:
            raise
        return Adoption(
            path, AdoptionOutcome.DIFFERS, f"it cannot be read: {reason_of(error, path)}"
        )


def _verify_source(
    store: Store,
    path: Path,
    dataset: Dataset,
    place: Place,
    watch: FileProgressCallback,
    *,
    trust: bool,
) -> Adoption | os.stat_result:
    """Which file was found to be what the database describes, or why it is not taken.

    A recording takes minutes to read: without the dataset's lock, for which its readers wait.
    """
    if store.cached_path(dataset) is not None:
        return Adoption(path, AdoptionOutcome.ALREADY_CACHED)
    if not dataset.md5 and not trust:
        return Adoption(path, AdoptionOutcome.UNVERIFIABLE, "the database has no md5 for it")
    found = path.stat()
    verdict = check_file(dataset, path, partial(watch, path))
    if not verdict.is_good:
        return Adoption(path, AdoptionOutcome.DIFFERS, verdict.reason)
    return found


def _adopt_verified(
    store: Store,
    path: Path,
    dataset: Dataset,
    place: Place,
    found: os.stat_result,
    *,
    copy: bool,
) -> Adoption:
    """Take the file that was ``found`` good. The caller holds the dataset's lock."""
    if store.cached_path(dataset) is not None:  # since a moment ago
        return Adoption(path, AdoptionOutcome.ALREADY_CACHED)
    final = store.final_path(place)
    brought = not final.exists()
    if not brought and not final.samefile(path):
        return Adoption(path, AdoptionOutcome.DIFFERS, f"another file stands at {final} already")
    if identity_of(path.stat()) != identity_of(found):  # these are not the bytes that were judged
        return Adoption(path, AdoptionOutcome.DIFFERS, "it was written to meanwhile")
    if brought:
        store.make_parent_folder(final)
        _link_or_copy(path, final, copy=copy)
    if stamp_of(path.stat()) != stamp_of(found):  # linking it has changed its ctime
        if brought:
            remove_if_possible(final)
        return Adoption(path, AdoptionOutcome.DIFFERS, "it was written to meanwhile")
    ours = copy and not final.samefile(path)
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
