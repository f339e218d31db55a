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

from onefs.content.files import identity
from onefs.content.records import Entry
from onefs.content.store import Store
from onefs.content.verify import hash_file
from onefs.model import Dataset

log = logging.getLogger(__name__)

#: the file that was hashed, as it was before, and its digest
Hashed = tuple[os.stat_result, str]


def rehash(
    store: Store, entry: Entry, watch: Callable[[int], None] = lambda done: None
) -> Hashed | None:
    """Return the digest of an entry's file; None when the file is gone. Needs no lock.

    ``watch`` is told how many bytes were read. Raises OSError.
    """
    path = store.root / entry.path
    described = Dataset(entry.dataset_id, "", path.name, md5=entry.wanted_digest)
    try:
        found = path.stat()
        return found, hash_file(described, path, watch)
    except FileNotFoundError:
        return None


def conclude(store: Store, dataset: Dataset, entry: Entry, hashed: Hashed | None) -> Path | None:
    """Believe a file again that was hashed, or give it up; its path if it may be served.

    A file without any digest to compare with is believed, and has one from now on. The caller
    holds the dataset's lock. Raises OSError.
    """
    if hashed is None or store.records.get(dataset.id) != entry:
        return store.known(dataset)
    found, digest = hashed
    path = store.root / entry.path
    if identity(path.stat()) != identity(found):  # it is being written to
        return None
    if entry.wanted_digest not in ("", digest):
        log.warning(
            "%s was changed in the cache folder: its bytes have %s instead of %s",
            entry.path,
            digest,
            entry.wanted_digest,
        )
        store.give_up(entry)
        return None
    kept = (
        entry if entry.claimed_md5 and entry.state != "accepted" else replace(entry, digest=digest)
    )
    store.renew(entry, found, kept)
    return path
