"""Reading of a range of a dataset's bytes, for programs that do not read a mount."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import replace
from typing import TYPE_CHECKING

from onefs.blocks.readahead import MAX_REQUEST_BYTES
from onefs.errors import BadContent
from onefs.lowlevel.files import ReadDescriptor

if TYPE_CHECKING:
    from onefs.cache.folder import Place
    from onefs.content.content import Content
    from onefs.model import Dataset


def read_range(
    content: Content, dataset: Dataset, place: Place, first: int, count: int
) -> Iterator[bytes]:
    """Yield at most ``count`` bytes of a dataset from the byte ``first`` on, in pieces.

    The bytes are those that a mount serves: of a large file only the blocks of the range are
    fetched, and they stay in the cache. ``place`` is the path in ONE's cache folder. Raises the
    errors of :meth:`Content.open` and :meth:`DatasetHandle.wait_fd`.
    """
    if content.size_of(dataset) is None:  # such a file is fetched as a whole
        dataset = replace(dataset, size=content.fetch_file(dataset, place).stat().st_size)
    handle = content.open(dataset, place)
    try:
        end = min(first + count, handle.size)
        while first < end:
            length = min(end - first, MAX_REQUEST_BYTES)
            descriptor = handle.wait_fd(first, length)
            if isinstance(descriptor, ReadDescriptor):
                piece = descriptor.data
            else:
                piece = os.pread(descriptor, length, first)
            if not piece:
                raise BadContent(
                    f"the cached file {dataset.name} has {first} bytes instead of {handle.size}"
                )
            yield piece
            first += len(piece)
    finally:
        handle.close()
