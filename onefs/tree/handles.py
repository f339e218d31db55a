"""Open files whose bytes are all available. Reading these files never waits."""

from __future__ import annotations

import os
from collections.abc import Callable


class FdHandle:
    """An open file with all its bytes in one descriptor (see ``onefs.tree.nodes.Handle``)."""

    def __init__(
        self, fd: int, size: int, *, keep_cache: bool, release: Callable[[], None]
    ) -> None:
        self.size = size
        self.keep_cache = keep_cache
        self.in_parts = False
        self._fd = fd
        self._release = release

    def try_fd(self, offset: int, length: int) -> int:
        """Return the descriptor, which is valid for all bytes of the file."""
        return self._fd

    wait_fd = try_fd

    def close(self) -> None:
        """Call ``release``, the function that frees the descriptor."""
        self._release()


class TextHandle(FdHandle):
    """An open file whose bytes are a generated text in memory."""

    def __init__(self, text: bytes) -> None:
        # every open file needs a descriptor, so the text is in an anonymous file
        fd = os.memfd_create("onefs", os.MFD_CLOEXEC)
        with open(os.dup(fd), "wb") as file:
            file.write(text)
        # the text may change between two openings, so the kernel must not keep the pages
        super().__init__(fd, len(text), keep_cache=False, release=lambda: os.close(fd))
