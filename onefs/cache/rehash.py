"""Hash a cached file again whose ctime has changed, before its next byte is served.

Writing to a file and putting its mtime back changes the ctime, and so do a link, a chmod and a
rename. Only the bytes tell these apart: they are hashed once, and the new ctime is kept.
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

#: the file that was hashed, as it was before, and its digest
HashedFile = tuple[os.stat_result, str]


def hash_entry(
    store: Store, entry: CacheEntry, watch: Callable[[int], None] = lambda done: None
) -> HashedFile | None:
    """Return the digest of an entry's file; None when the file is gone. Needs no lock.

    ``watch`` is told how many bytes were read. Raises OSError.
    """
    path = store.root / entry.path
    described = Dataset(entry.dataset_id, "", path.name, md5=entry.expected_digest)
    try:
        found = path.stat()
        return found, hash_file(described, path, watch)
    except FileNotFoundError:
        return None


def reinstate_or_remove(
    store: Store, dataset: Dataset, entry: CacheEntry, hashed: HashedFile | None
) -> Path | None:
    """Believe a file again that was hashed, or give it up; its path if it may be served.

    A file without any digest to compare with is believed, and has one from now on. The caller
    holds the dataset's lock. Raises OSError.
    """
    if hashed is None or store.records.get(dataset.id) != entry:
        return store.cached_path(dataset)
    found, digest = hashed
    path = store.root / entry.path
    if identity_of(path.stat()) != identity_of(found):  # it is being written to
        return None
    if entry.expected_digest not in ("", digest):
        log.warning(
            "%s was changed in the cache folder: its bytes have %s instead of %s",
            entry.path,
            digest,
            entry.expected_digest,
        )
        store.remove_wrong_file(entry)
        return None
    kept = (
        entry if entry.claimed_md5 and entry.state != "accepted" else replace(entry, digest=digest)
    )
    store.update_ctime(entry, found, kept)
    return path
