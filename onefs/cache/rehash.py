"""Hash a cached file again if its ctime has changed, before more of the file is served.

If a program writes to a file and then sets the old mtime, the ctime changes. But the ctime also
changes if the file is linked or renamed, or if its mode is changed. Only the bytes show whether
the file was written to. So the bytes are hashed once, and the new ctime is recorded.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from onefs.cache.files import identity_of
from onefs.cache.records import CacheEntry
from onefs.cache.store import Store
from onefs.cache.verify import hash_file
from onefs.model import Dataset

log = logging.getLogger(__name__)

#: the status of a file before it was hashed, and the digest of the file
HashedFile = tuple[os.stat_result, str]


def hash_entry(
    store: Store, entry: CacheEntry, watch: Callable[[int], None] = lambda done: None
) -> HashedFile | None:
    """Return the stat result and the digest of an entry's file, or None if the file is missing.

    The caller needs no lock. ``watch`` is called with the number of bytes read so far. Raises
    OSError.
    """
    path = store.root / entry.path
    described = Dataset(entry.dataset_id, "", path.name, md5=entry.expected_digest)
    try:
        status = path.stat()
        return status, hash_file(described, path, watch)
    except FileNotFoundError:
        return None


def reinstate_or_remove(
    store: Store, dataset: Dataset, entry: CacheEntry, hashed: HashedFile | None
) -> Path | None:
    """Return the path of a hashed file if its bytes are right. Remove the file if they are wrong.

    ``hashed`` is the result of :func:`hash_entry`. Right bytes have the expected digest of
    ``entry``. If it has none, all bytes are right. The ctime of a right file is recorded. Return
    None if the file must not be served. The caller holds the dataset's lock. Raises OSError.
    """
    if hashed is None or store.records.get(dataset.id) != entry:
        # another process has changed the record meanwhile
        return store.cached_path(dataset)
    status, digest = hashed
    path = store.root / entry.path
    if identity_of(path.stat()) != identity_of(status):  # the file is being written to
        return None
    if entry.expected_digest not in ("", digest):
        log.warning(
            "the file %s was changed in the cache folder: the hash of the file is %s instead of %s",
            entry.path,
            digest,
            entry.expected_digest,
        )
        store.remove_wrong_file(entry)
        return None
    has_digest = entry.claimed_md5 and entry.state != "accepted"
    store.update_ctime(entry, status, entry if has_digest else replace(entry, digest=digest))
    return path
