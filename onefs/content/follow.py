"""Verifying partial files: hashing along behind the download, the verdict, and what follows it.

A file that is read in order is hashed while it comes, block after block out of the page cache, on
threads that give way to all others. One that was filled in another order is hashed when its last
block is there. Either way the whole is compared with the database before it gets its name.
"""

from __future__ import annotations

import errno
import logging
import os
import threading
import time
from collections.abc import Callable

from onefs.content.blocks import HASHING, State, remove_blocks
from onefs.content.doubts import DIGEST, NEVER, SAME_DIGESTS, Unconfirmed
from onefs.content.files import disk_errors
from onefs.content.holes import counted
from onefs.content.lock import POLL
from onefs.content.partial import Partial
from onefs.content.partials import Partials
from onefs.content.store import Store
from onefs.content.verify import Verdict, judge, new_hash
from onefs.errors import CacheError, DeadlineExceeded, OnefsError, reason_of
from onefs.flights import Workers
from onefs.model import Dataset

log = logging.getLogger(__name__)

#: files that are hashed at once
WORKERS = 2
#: blocks that are hashed in one go: between two goes a thread needs the interpreter, which it then
#: holds although it gives way to all others
STRETCH = 16
#: seconds for which each stretch lets a busy reader go first, so that none is put off for ever
PATIENCE = 0.25
#: seconds for which another process may hold a dataset's lock
LOCK_WAIT_SECONDS = 60.0
#: seconds for which another process may hash a file: 40 GB from a slow disk take many minutes
HASHING_WAIT_SECONDS = 3600.0
#: how far the hashing threads give way (nice)
NICE = 19


class _Progress:
    """How far one file has been hashed."""

    def __init__(self, partial: Partial) -> None:
        self.partial = partial
        self.digest = new_hash(partial.dataset)
        #: the records of the blocks that went into the digest
        self.records: list[int] = []
        #: a thread is at it; it looks again when ``again`` is set meanwhile
        self.running = False
        self.again = False


class Follower:
    """Hashes what comes, and publishes or condemns what is complete. Thread-safe.

    ``on_bad`` is told of each dataset whose bytes turn out to be wrong, and of each whose bytes
    changed on the server: whoever keeps pages of it must drop them.
    """

    def __init__(
        self,
        store: Store,
        partials: Partials,
        wanted: Callable[[], bool],
        on_bad: Callable[[Dataset], None],
    ) -> None:
        self._store = store
        self._partials = partials
        self._wanted = wanted
        self._on_bad = on_bad
        self._lock = threading.Lock()
        self._progress: dict[int, _Progress] = {}
        self._pool = Workers(WORKERS, thread_name_prefix="onefs-hash", initializer=_give_way)

    def close(self) -> None:
        """End. What was hashed is hashed again another time."""
        # no limit: hashing looks after each stretch whether it is wanted
        self._pool.shutdown(wait=True, cancel_futures=True)

    def arrived(self, partial: Partial, blocks: range) -> None:
        """Blocks have come: go on hashing, at the end of a stretch or when no more will come."""
        ends = blocks.stop // STRETCH > blocks.start // STRETCH
        if ends or not partial.demand.in_flight:
            with self._lock:
                progress = self._progress.get(id(partial))
                hashed = len(progress.records) if progress is not None else 0
            if partial.has(hashed) or partial.may_be_complete():
                self.go_on(partial)

    def go_on(self, partial: Partial) -> None:
        """Hash what there is, and see to the file if it is complete."""
        with self._lock:
            progress = self._progress.get(id(partial))
            if progress is None:
                self._partials.hold(partial)
                progress = self._progress[id(partial)] = _Progress(partial)
            progress.again = True
            if not progress.running:
                progress.running = True
                self._pool.begin(self._work, progress)

    def nudge(self) -> None:
        """Begin what could not begin for want of a thread."""
        self._pool.nudge()

    def let_go(self, partial: Partial) -> None:
        """Nobody else has this file open any more: do not keep it open for the hash."""
        with self._lock:
            progress = self._progress.get(id(partial))
            if progress is None or progress.running or partial.users != 1:
                return
            del self._progress[id(partial)]
        self._partials.release(partial)

    def condemn(self, partial: Partial, reason: str, digest: str = "") -> None:
        """The server's bytes are not what the database describes; from now on nobody gets them.

        Raises CacheError.
        """
        with (
            disk_errors(self._store.root),
            self._store.locks.hold(partial.dataset.id, LOCK_WAIT_SECONDS, self._wanted),
        ):
            if partial.blocks.is_current():  # else what it was a part of is no more
                self._reject(partial, reason, digest)
        self._tell(partial)

    def _work(self, progress: _Progress) -> None:
        partial = progress.partial
        while self._goes_on(progress):
            try:
                with disk_errors(self._store.root):
                    self._advance(progress)
            except OnefsError as error:
                log.warning("%s cannot be verified now: %s", "/".join(partial.place), error)
                self._failed(partial, error)
            except Exception as error:
                log.exception("verifying %s failed", "/".join(partial.place))
                self._failed(partial, CacheError(f"verifying failed: {reason_of(error)}"))

    def _failed(self, partial: Partial, error: OnefsError) -> None:
        """Tell who waits for the verdict that there will be none now."""
        with partial.demand.condition:
            partial.unverified = error
            partial.demand.changed()

    def _goes_on(self, progress: _Progress) -> bool:
        """Whether there is something to do for a thread; at the end, let go of the file."""
        partial = progress.partial
        with self._lock:
            if progress.again and self._wanted():
                progress.again = False
                return True
            progress.running = False
            ended = partial.blocks.state() is not State.LIVE or partial.users == 1
            if ended:
                self._progress.pop(id(partial), None)
        if ended:
            self._partials.release(partial)
        return False

    def _advance(self, progress: _Progress) -> None:
        """Hash as far as the blocks go, and end the matter when they go to the end."""
        partial = progress.partial
        complete = partial.may_be_complete()
        end = time.monotonic() + HASHING_WAIT_SECONDS
        while not partial.take(HASHING):
            if time.monotonic() > end:
                raise DeadlineExceeded("another process has been hashing it for too long")
            if not complete or not self._wanted() or partial.blocks.state() is not State.LIVE:
                return  # another process hashes this file
            time.sleep(POLL)
            complete = partial.may_be_complete()
        try:
            while len(progress.records) < partial.blocks.count and self._wanted():
                self._let_readers_go_first(partial)
                if not self._hash_stretch(progress):
                    return
            if len(progress.records) == partial.blocks.count:
                self._finish(progress)
        finally:
            partial.free(HASHING)

    def _let_readers_go_first(self, partial: Partial) -> None:
        """Hashing takes more of the processor than all the rest of a read from a near server.

        While readers wait for the network there is time enough for both.
        """
        end = time.monotonic() + PATIENCE
        while partial.is_busy() and time.monotonic() < end and self._wanted():
            time.sleep(POLL)

    def _hash_stretch(self, progress: _Progress) -> bool:
        """The next blocks, as far as they are here; False when the first of them is not."""
        partial, first = progress.partial, len(progress.records)
        most = min(first + STRETCH, partial.blocks.count)
        absent = (
            n for n, record in enumerate(partial.blocks.records(first, most), first) if not record
        )
        last = next(absent, most)  # only what is here is pinned: the rest may have to make room
        if last == first:
            return False
        partial.pin(first, last)
        try:
            here = min(partial.missing(first, last), default=last)
            if here == first:
                return False
            start, end = partial.blocks.span(first)[0], partial.blocks.span(here - 1)[1]
            records = partial.blocks.records(first, here)
            found = os.pread(partial.blocks.data, end - start, start)
            if len(found) != end - start:  # the disk fails further on: its bytes prove nothing
                raise OSError(errno.EIO, os.strerror(errno.EIO), str(partial.blocks.data_path))
            progress.digest.update(found)
            progress.records.extend(records)
        finally:
            partial.unpin(first, last)
        return True

    def _finish(self, progress: _Progress) -> None:
        """All is hashed: publish or condemn, unless a block was evicted or replaced meanwhile."""
        partial = progress.partial
        dataset, blocks = partial.dataset, partial.blocks
        verdict = judge(dataset, blocks.about.size, progress.digest.hexdigest())
        os.fdatasync(blocks.data)  # of a bad one, too: somebody may want just these bytes
        with self._store.locks.hold(dataset.id, LOCK_WAIT_SECONDS, self._wanted):
            if blocks.state() is not State.LIVE or not blocks.is_current():
                return
            if blocks.records(0, blocks.count) != tuple(progress.records):
                progress.digest, progress.records = new_hash(dataset), []
                progress.again = partial.may_be_complete()
                return
            if verdict.good:
                self._publish(partial, verdict, progress.digest.hexdigest())
                self._store.doubts.clear(dataset.id)
            else:
                self._judge(partial, verdict.reason, progress.digest.hexdigest())
        self._tell(partial)

    def _judge(self, partial: Partial, reason: str, digest: str) -> None:
        """Reject wrong bytes that came before; begin anew with those that are new."""
        # of a file whose parts may be of several versions the hash says nothing about any of them
        needed = NEVER if partial.is_to_be_proved() else SAME_DIGESTS
        try:
            last = self._store.doubts.confirm(partial.dataset, DIGEST + digest, reason, needed)
        except Unconfirmed as error:
            partial.gone = f"was not what the database describes ({reason})"
            partial.unverified = error
            self._drop(partial)
        else:
            self._reject(partial, last, digest)

    def drop(self, partial: Partial, gone: str) -> None:
        """Give up the blocks of a file: the next read begins anew. Raises CacheError.

        ``gone`` says to the readers of the file what has become of it.
        """
        partial.gone = gone
        with (
            disk_errors(self._store.root),
            self._store.locks.hold(partial.dataset.id, LOCK_WAIT_SECONDS, self._wanted),
        ):
            self._drop(partial)
        self._tell(partial)

    def _drop(self, partial: Partial) -> None:
        partial.blocks.set_state(State.GONE)
        if partial.blocks.is_current():
            freed = remove_blocks(partial.blocks.folder, partial.dataset.id)
            self._store.ledger.change(-freed)

    def _publish(self, partial: Partial, verdict: Verdict, digest: str) -> None:
        blocks = partial.blocks
        self._store.publish(
            partial.dataset,
            partial.place,
            blocks.data_path,
            verdict,
            durable=True,
            generation=blocks.about.generation,
            digest=digest,
        )
        blocks.set_state(State.DONE)
        remove_blocks(blocks.folder, partial.dataset.id, retire=False)

    def _reject(self, partial: Partial, reason: str, digest: str) -> None:
        """The state first: from here on no reader gets a byte, whatever happens to us."""
        blocks = partial.blocks
        partial.reason = reason
        blocks.set_state(State.BAD)
        kept = None
        if digest:
            kept = self._store.rejected(partial.dataset)
            self._store.ledger.change(-counted(kept))
            blocks.data_path.replace(kept)
        self._store.condemn(partial.dataset, reason, kept, digest)
        freed = remove_blocks(blocks.folder, partial.dataset.id, retire=False)
        self._store.ledger.change(-freed)
        # readers get it as an error; the line is for a mount's log
        log.info("%s: %s", "/".join(partial.place), reason)

    def _tell(self, partial: Partial) -> None:
        if partial.blocks.state() in (State.BAD, State.GONE):
            self._on_bad(partial.dataset)
        with partial.demand.condition:
            partial.demand.changed()


def _give_way() -> None:
    """Lower the priority of this thread alone, as Linux allows."""
    os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), NICE)
