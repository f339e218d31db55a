"""Reads each of the files that are named on standard input, all at once, a thread for each.

Says ``reading`` when all have begun. Whoever started it ends it.
"""

from __future__ import annotations

import sys
import threading
from pathlib import Path


def main() -> None:
    """Start the readers, and wait for them."""
    paths = [Path(line) for line in sys.stdin.read().splitlines()]
    begun = threading.Barrier(len(paths) + 1)

    def read(path: Path) -> None:
        with path.open("rb") as file:
            begun.wait()
            file.read()

    threads = [threading.Thread(target=read, args=(path,), daemon=True) for path in paths]
    for thread in threads:
        thread.start()
    begun.wait()
    print("reading", flush=True)
    for thread in threads:
        thread.join()


if __name__ == "__main__":
    main()
