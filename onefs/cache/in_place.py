"""Adoption in place: serve files of other programs that are in the cache folder already.

Such a file is at the path at which onefs would store the dataset. The file is served after
its hash was found to agree with the database. The file is never moved, changed or removed.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Callable
from pathlib import Path

from onefs.cache.files import disk_errors, identity_of, stamp_of
from onefs.cache.folder import Place
from onefs.cache.store import Store
from onefs.cache.verify import ContentVerdict, check_file
from onefs.model import Dataset


def has_candidate(store: Store, dataset: Dataset, place: Place) -> bool:
    """Whether :func:`verify_in_place` would hash the file at the dataset's path in the cache.

    Return False if the database has no hash, or if there is no file. Also return False if the file
    was hashed before, contradicts the database, and has not changed since then. Raises OSError.
    """
    if not dataset.md5:
        return False
    final = store.final_path(place)
    try:
        status = os.stat(final)
    except OSError as error:
        if error.errno in (errno.ENOENT, errno.ENOTDIR, errno.ELOOP):
            return False
        raise
    refused = store.mismatched_files.get(final)
    return stat.S_ISREG(status.st_mode) and refused != (dataset.md5, *stamp_of(status))


def adopt_in_place(store: Store, dataset: Dataset, place: Place) -> Path | None:
    """Record the file at the dataset's path in the cache folder as cached, and return this path.

    This is done only if the file's hash agrees with the database. Otherwise return None. If the
    database has no hash, return None. The caller holds the dataset's lock. Raises CacheError.
    """
    verified = verify_in_place(store, dataset, place)
    return None if verified is None else adopt_verified(store, dataset, place, verified)


def verify_in_place(
    store: Store, dataset: Dataset, place: Place, watch: Callable[[int], None] = lambda done: None
) -> os.stat_result | None:
    """Hash the file at the dataset's path in the cache folder. Return its status (``os.stat``).

    Return None if there is no file, or if its hash does not agree with the database. ``watch`` is
    called with the number of bytes read so far. The caller needs no lock. Raises CacheError.
    """
    with disk_errors(store.root):
        if not has_candidate(store, dataset, place):
            return None
        final = store.final_path(place)
        try:
            status = final.stat()
            if check_file(dataset, final, watch).is_good:
                return status
        except FileNotFoundError:  # another process has removed or evicted the file
            return None
        store.mismatched_files[final] = (dataset.md5, *stamp_of(status))
    return None


def adopt_verified(
    store: Store, dataset: Dataset, place: Place, verified: os.stat_result
) -> Path | None:
    """Record that a file is cached, after :func:`verify_in_place`. Return the file's path.

    Return None if the file was replaced, changed or removed after the verification. The caller
    holds the dataset's lock. Raises CacheError.
    """
    final = store.final_path(place)
    with disk_errors(store.root):
        if not final.is_file() or identity_of(final.stat()) != identity_of(verified):
            return None
        ours = store.owns(store.records.get(dataset.id), final)
        store.register(dataset, final, ContentVerdict("cached"), ours=ours, status=verified)
    return final
