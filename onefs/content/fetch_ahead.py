"""Fetch small files ahead: download a file that no program waits for."""

from __future__ import annotations

from collections.abc import Callable

from onefs.cache.folder import Place
from onefs.content.content import Content
from onefs.model import Dataset


def fetch_ahead_budget(content: Content, unread: int, reading: Place) -> int:
    """Return how many bytes may be fetched ahead and unread, of which ``unread`` are so now.

    No file is evicted for them, and they are at most half of what ``--max-fetch`` leaves. Return 0
    while a program waits for the bytes of another file than ``reading``.
    """
    own = "/".join(reading)
    if any(not each.is_ahead and each.path != own for each in content.transfers()):
        return 0
    most = content.space.max_readahead(unread + content.space.unused_bytes())
    left = content.quota.left_bytes()
    return most if left is None else min(most, (left + unread) // 2)


def fetch_ahead(
    content: Content, dataset: Dataset, place: Place, is_unread: Callable[[], bool]
) -> bool:
    """Download a small file that no program waits for, and verify and publish it as for a read.

    Return False if the file is cached, is being downloaded, or is not fetched as a whole. While
    ``is_unread`` returns True, the file is the first to be evicted. Raises the errors of
    :meth:`Content.fetch_file`, and FetchLimit.
    """
    size = dataset.size
    if size is None or not content.is_small(dataset) or content.has_local_candidate(dataset, place):
        return False
    with content.quota.reserve(dataset.id, size, dataset.name):
        is_fetched = content.small_files.fetch_ahead(dataset, place)
    if is_fetched and is_unread():
        content.store.records.note_unused(dataset.id)
    return is_fetched
