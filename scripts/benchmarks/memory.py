"""How the machine's memory lies before something is measured: all in use, in one piece, in pieces.

These three make a difference of up to ten times for the very same read, and a machine is in one or
another by what ran on it before. So the measurements choose.
"""

from __future__ import annotations

import mmap
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

MIB = 1 << 20
_PAGE = mmap.PAGESIZE
_VM = Path("/proc/sys/vm")


class Filler:
    """Leaves no memory free: it is full of a file's pages, as on a machine that is long up.

    Memory that nobody uses may not be there. A virtual machine gives it back to its host, and
    gets it again, page by page, at a tenth of the speed of writing to it. ``folder`` is where a
    file without blocks is made.
    """

    def __init__(self, folder: Path) -> None:
        self._zeros = folder / "zeros"
        self._size = 2 * os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
        self._read = 0

    def fill(self, free: int) -> None:
        """Read on in the file until only ``free`` bytes are free, which the next run will need.

        It costs seconds once, and then what ``free`` bytes cost at the speed of a virtual machine.
        """
        self._zeros.touch()
        os.truncate(self._zeros, self._size)
        part = bytearray(64 * MIB)
        with self._zeros.open("rb", buffering=0) as file:
            # half of the file is as much as there is memory: the kernel may keep more of it free
            for _ in range(0, self._size // 2, len(part)):
                if _free() < free:
                    break
                file.seek(self._read)
                self._read = (self._read + file.readinto(part)) % self._size
        # what is left free is written to: then the machine has that as well, for some seconds
        mmap.mmap(-1, free, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | mmap.MAP_POPULATE).close()


def drop_pages(path: Path) -> None:
    """The kernel lets go of what it has of a file."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
    finally:
        os.close(descriptor)


def compact_free_memory() -> None:
    """Bring what is free together, as it is after a start. Only root may: else nothing happens.

    All that the kernel keeps of files is dropped for it.
    """
    if os.geteuid() != 0:
        return
    os.sync()
    (_VM / "drop_caches").write_text("3")
    (_VM / "compact_memory").write_text("1")


@contextmanager
def fragmented(size: int) -> Iterator[None]:
    """``size`` bytes are free in single pages, of which no two are neighbours.

    The kernel gives away the smallest piece first: what is read in the block lies in these.
    """
    taken = mmap.mmap(-1, 2 * size, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    with taken:
        taken.madvise(mmap.MADV_NOHUGEPAGE)
        for place in range(0, 2 * size, _PAGE):
            taken[place] = 1
        for place in range(0, 2 * size, 2 * _PAGE):
            taken.madvise(mmap.MADV_DONTNEED, place, _PAGE)
        yield


def _free() -> int:
    """Bytes of memory that nothing is in."""
    lines = Path("/proc/meminfo").read_text("ascii").splitlines()
    [free] = [line.split()[1] for line in lines if line.startswith("MemFree:")]
    return int(free) << 10
