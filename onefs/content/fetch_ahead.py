"""Fetch small files ahead: download a file that no program waits for."""

from __future__ import annotations

from onefs.cache.folder import Place
from onefs.content.content import Content
from onefs.model import Dataset


def fetch_ahead_budget(
    content: Content, unread: int, reading: Place, *, beside_reads: bool = False
) -> int:
    """Return how many bytes may be fetched ahead and unread, of which ``unread`` are so now.

    This is an estimate, so that few downloads begin in vain; :func:`fetch_ahead` keeps the limits.
    Return 0 while a program waits for the bytes of another file than ``reading``. With
    ``beside_reads``, this applies to large files only.
    """
    own = "/".join(reading)
    small = content.small_files.transfers()
    if not beside_reads and any(not each.is_ahead and each.path != own for each in small):
        return 0
    if content.large_files.fetched_places() - {reading}:
        return 0
    most = content.space.max_readahead(unread + content.space.estimate_unused_bytes())
    left, soon = content.quota.left_bytes(), content.small_files.bytes_ahead()
    if left is not None:
        most = min(most, left // 2)
    return most if soon is None else min(most, soon)


def fetch_ahead(content: Content, dataset: Dataset, place: Place) -> bool | None:
    """Download a small file that no program waits for, and verify and publish it as for a read.

    Until a program uses the file, it is the first to be evicted. Return False if the file is
    cached, is being downloaded, is not fetched as a whole, or if there is no room for it: nothing
    is evicted. Return None if less than half of the quota would be left. Raises the error of the
    file server.
    """
    size = dataset.size
    if size is None or not content.is_small(dataset) or content.has_local_candidate(dataset, place):
        return False
    with content.quota.reserve_ahead(dataset.id, size) as may_go_on:
        if may_go_on is None:
            return None
        return content.small_files.fetch_ahead(dataset, place, may_go_on)
