"""What comes of asking the copies of one dataset: which of them may still be the good one.

A copy that is wrong is no verdict on the dataset while another is *unheard*: its server is silent,
away for a moment, or asks to wait.
"""

from __future__ import annotations

from collections.abc import Iterable

from onefs.content.answers import WrongSize
from onefs.content.hosts import Hosts, stands_nowhere
from onefs.errors import DeadlineExceeded, OnefsError, ServerError, Throttled
from onefs.http import retry_delay
from onefs.model import Copy, Dataset

#: rounds through all copies without a single byte; with the pauses between them, 20 seconds
ROUNDS = 8
#: statuses of a file that is not there, and will not come back by itself
_GONE = (404, 410)


class Copies:
    """One download's view of them. For one thread."""

    def __init__(self, hosts: Hosts, dataset: Dataset) -> None:
        self._hosts = hosts
        self._dataset = dataset
        self._asked: set[str] = set()
        self._unheard: dict[str, OnefsError] = {}
        #: URLs of those that are not there, or are another file by now
        self.gone: set[str] = set()
        #: the last that went wrong with any
        self.trouble: OnefsError | None = None
        #: what was wrong with copies that are not what the database says, by URL
        self.wrong: dict[str, str] = {}

    def next(self, copies: Iterable[Copy]) -> list[Copy]:
        """Those that were not asked yet, in the order to ask them.

        Raises Throttled or Silent when there are some, and none of them can be asked.
        """
        fresh = [copy for copy in copies if copy.url not in self._asked]
        found = self._hosts.order(fresh)
        for copy in fresh:
            if copy not in found:
                why = f"{self._dataset.name}: not all its copies can be asked"
                self._unheard[copy.url] = ServerError(why)
        self._asked.update(copy.url for copy in found)
        return found

    def heard(self, copy: Copy) -> None:
        """A copy was had, whatever it is worth."""
        self._unheard.pop(copy.url, None)

    def contradicted(self, copy: Copy, reason: str) -> None:
        """A copy was had, and is not what the database says."""
        self.heard(copy)
        self.wrong[copy.url] = reason

    def failed(self, copy: Copy, error: OnefsError, attempt: int) -> float | None:
        """Note what went wrong; the seconds after which to try again, None when that is useless.

        A wait that nobody waits for is useless: who asked has given up by then.
        """
        self.trouble = error
        self._hosts.failed(copy.url)
        if isinstance(error, DeadlineExceeded):
            self._hosts.overdue(copy.url)
        elif isinstance(error, Throttled):
            self._hosts.throttled(copy.url, error.retry_after)
        elif isinstance(error, WrongSize):
            self.wrong[copy.url] = str(error)
        if isinstance(error, WrongSize) or _is_gone(error):
            self.gone.add(copy.url)
        if _may_pass(error):
            self._unheard[copy.url] = error
        else:
            self.heard(copy)
        delay = retry_delay(error, attempt, attempts=ROUNDS)
        return None if delay is None or self._hosts.is_too_long(delay) else delay

    def evidence(self) -> str:
        """What was wrong with the copies, in words that are the same whoever is asked first."""
        return "; ".join(sorted({*self.wrong.values()}))

    def failure(self) -> OnefsError:
        """What it comes to when none could be had."""
        return self.trouble or self.unheard or stands_nowhere(self._dataset)

    @property
    def unheard(self) -> OnefsError | None:
        """What stands between us and a copy that may be the good one."""
        return next(iter(self._unheard.values()), None)


def _is_gone(error: OnefsError) -> bool:
    return isinstance(error, ServerError) and error.status in _GONE


def _may_pass(error: OnefsError) -> bool:
    return isinstance(error, DeadlineExceeded) or retry_delay(error, 1) is not None
