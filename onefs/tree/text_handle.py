"""A small file whose bytes are made here."""

from __future__ import annotations

import os


class TextHandle:
    """An open file over bytes in memory (an anonymous file, so that it has a descriptor)."""

    def __init__(self, text: bytes) -> None:
        self.size = len(text)
        #: the text may differ from what an earlier open showed
        self.keep_cache = False
        self._fd = os.memfd_create("onefs", os.MFD_CLOEXEC)
        with open(os.dup(self._fd), "wb") as file:
            file.write(text)

    def try_fd(self, offset: int, length: int) -> int:
        """Nothing is ever waited for."""
        return self._fd

    def wait_fd(self, offset: int, length: int) -> int:
        """The descriptor that holds the text."""
        return self._fd

    def close(self) -> None:
        os.close(self._fd)
