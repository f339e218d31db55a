"""Whether Alyx answers: noticed once, said once, and looked for again without anybody's doing.

While it is away nobody waits for it: what is not known fails at once, but for one try every
two seconds that waits for less than one. Besides that a small request goes out now and then, so
that coming back is noticed on a mount that nobody uses.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable

from onefs.errors import AlyxCredentials, DeadlineExceeded, OnefsError, Stopping, Unreachable
from onefs.metadata.freshness import FAILURE_PAUSE

log = logging.getLogger(__name__)

#: seconds that a caller waits for a server that has been away
SHORT = 0.8
#: seconds between two looks: the first pause, doubled up to the longest
FIRST_LOOK = 5.0
LONGEST_LOOK = 60.0


class Presence:
    """Whether one server is there. Thread-safe.

    ``probe`` returns when the server answers, whatever it says, and raises an OnefsError when it
    does not. With ``never`` nobody asks: the user wants to be offline.
    """

    def __init__(
        self,
        url: str,
        probe: Callable[[], None],
        clock: Callable[[], float],
        *,
        never: bool = False,
    ) -> None:
        self._url = url
        self._probe = probe
        self._clock = clock
        #: whether no server is ever asked
        self.never = never
        self._lock = threading.Lock()
        self._offline = never
        #: the sentence of the server's refusal, '' where it does not refuse us
        self.refusal = ""
        self._failed_at = 0.0
        self._looking = False
        self._closed = threading.Event()
        #: called with each change, in whatever thread noticed it
        self.changed: Callable[[bool], None] = lambda offline: None

    @property
    def offline(self) -> bool:
        """Whether the server was away when it was last asked."""
        return self._offline

    def close(self) -> None:
        """End the look-out."""
        self._closed.set()

    def may_ask(self) -> bool:
        """Whether a request makes sense now."""
        if not self._offline:
            return True
        return not self.never and self._clock() - self._failed_at > FAILURE_PAUSE

    def forget_failure(self) -> None:
        """Let the next request go out at once, though the last one has just failed."""
        with self._lock:
            self._failed_at = float("-inf")

    def patience(self, deadline: float, what: str) -> float:
        """Seconds to wait for ``what``. Raises Unreachable when nobody is to be asked."""
        if not self._offline:
            return deadline
        if self.may_ask():
            return min(SHORT, deadline)
        raise self.away(what)

    def away(self, what: str) -> Unreachable:
        """The error of who asks for what is not known."""
        if self.never:
            return Unreachable(f"{what} is not in the catalogue, and the mount is offline")
        return Unreachable(f"{what} is not in the catalogue, and {self._url} is away")

    def failed(self, error: OnefsError) -> None:
        """A request has failed. One that was too slow may be the query's fault: look again."""
        if isinstance(error, AlyxCredentials):
            self._note_refusal(error)
        elif isinstance(error, Unreachable):
            self._leave(error)
        elif isinstance(error, DeadlineExceeded) and not self._offline:
            self._look_out(0.0)

    def _note_refusal(self, error: AlyxCredentials) -> None:
        """The server is there and refuses us: said once, until it answers again."""
        with self._lock:
            before, self.refusal = self.refusal, str(error)
        if not before:
            log.warning("%s (what is known is still served)", error)

    def answered(self) -> None:
        """A request has been answered."""
        self.refusal = ""
        if not self._offline or self.never:
            return
        with self._lock:
            before, self._offline = self._offline, False
        if before:
            log.info("%s answers again", self._url)
            self.changed(False)

    def _leave(self, error: OnefsError) -> None:
        if not self.never:
            self._note_away(error)
            self._look_out(FIRST_LOOK)

    def _note_away(self, error: OnefsError) -> None:
        with self._lock:
            before, self._offline = self._offline, True
            self._failed_at = self._clock()
        if not before:
            log.warning("%s is away, what is known is still served: %s", self._url, error)
            self.changed(True)

    def _look_out(self, delay: float) -> None:
        with self._lock:
            if self._looking or self.never or self._closed.is_set():
                return
            self._looking = True
        look = threading.Thread(target=self._look, args=(delay,), name="onefs-probe", daemon=True)
        try:
            look.start()
        except RuntimeError:  # no more threads just now: with the next request that fails
            self._end_look()

    def _look(self, delay: float) -> None:
        try:
            answers = self._await_answer(delay)
        finally:  # whatever ends it, the next request that fails begins another
            self._end_look()
        if answers:
            self.answered()

    def _end_look(self) -> None:
        with self._lock:
            self._looking = False

    def _await_answer(self, delay: float) -> bool:
        """Whether the server answers in the end; False when this is being stopped."""
        while not self._closed.wait(delay):
            try:
                self._probe()
            except Stopping:
                return False
            except OnefsError as error:
                self._note_away(error)
            except Exception:  # nothing may end the look-out of a mount that is not used
                log.exception("asking whether %s answers has failed", self._url)
            else:
                return True
            delay = min(max(delay * 2, FIRST_LOOK), LONGEST_LOOK)
        return False
