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

    It hashes a file if the database has a hash, and if the file is not known to contradict the
    database. Raises OSError.
    """
    if not dataset.md5:
        return False
    try:
        status = os.stat(store.final_name(place))
    except OSError as error:
        if error.errno in (errno.ENOENT, errno.ENOTDIR, errno.ELOOP):
            return False
        raise
    refused = store.mismatched_files.get(store.final_path(place))
    return stat.S_ISREG(status.st_mode) and refused != (dataset.md5, *stamp_of(status))


def adopt_in_place(store: Store, dataset: Dataset, place: Place) -> Path | None:
    """If the file at the dataset's path agrees with the database, record it as cached.

    Return the path of the file. Return None if there is no file, or if the database has another
    hash or none. The caller holds the dataset's lock. Raises CacheError.
    """
    verified = verify_in_place(store, dataset, place)
    return None if verified is None else adopt_verified(store, dataset, place, verified)


def verify_in_place(
    store: Store, dataset: Dataset, place: Place, watch: Callable[[int], None] = lambda done: None
) -> os.stat_result | None:
    """Hash the file at the dataset's path in the cache folder. Return its ``os.stat`` result.

    Return None if there is no file, or if the database has another hash or none. ``watch`` is
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
    """Record as cached a file that :func:`verify_in_place` has verified. Return the file's path.

    ``verified`` is the result of the verification. Return None if the file has changed since then.
    The caller holds the dataset's lock. Raises CacheError.
    """
    final = store.final_path(place)
    with disk_errors(store.root):
        if not final.is_file() or identity_of(final.stat()) != identity_of(verified):
            return None
        ours = store.owns(store.records.get(dataset.id), final)
        store.register(dataset, final, ContentVerdict("cached"), ours=ours, status=verified)
    return final
