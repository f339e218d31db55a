"""Programs that read whatever they find: indexers and thumbnailers cause no downloads."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterable

from onefs.descriptors import read_small
from onefs.errors import NoSurprise

#: the kernel cuts a program's name (comm) off here
_COMM = 15

log = logging.getLogger(__name__)


class Readers:
    """Refuses bytes that would have to be fetched to the programs of a list.

    ``reader`` gives the thread id of whoever the running operation is for, 0 when it is unknown:
    who cannot be known is served.
    """

    def __init__(self, refused: Iterable[str], reader: Callable[[], int]) -> None:
        self._refused = frozenset(name[:_COMM] for name in refused)
        self._reader = reader
        self._told: set[str] = set()
        self._lock = threading.Lock()

    def check(self, path: str) -> None:
        """Raise NoSurprise when the reader is one of the list; logged once for each program."""
        if not self._refused:
            return
        thread = self._reader()
        name = next((name for name in names(thread) if name in self._refused), None)
        if name is None:
            return
        refusal = NoSurprise(
            f"{path} is not fetched for {name}: programs of its kind read cached files only "
            "(ONEFS_INDEXERS)"
        )
        with self._lock:
            if name not in self._told:
                self._told.add(name)
                log.warning("%s", refusal)
        raise refusal


#: refuses nobody
EVERYBODY = Readers((), lambda: 0)


def names(thread: int) -> list[str]:
    """What a thread, and its process, are called; [] when it is gone or cannot be seen."""
    if thread <= 0:
        return []
    try:
        head = _text(f"/proc/{thread}/status").splitlines()[:6]
        status = dict(line.split(":\t", 1) for line in head if ":\t" in line)
        found, process = [status["Name"]], status["Tgid"]
        if process != str(thread):
            found.append(_text(f"/proc/{process}/comm").rstrip("\n"))
    except (OSError, KeyError):
        return []
    return found


def _text(path: str) -> str:
    return read_small(path).decode("utf-8", "replace")
