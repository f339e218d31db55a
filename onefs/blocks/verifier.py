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

from onefs.blocks.block_file import HASH_LOCK_BYTE, PartialState, remove_block_file
from onefs.blocks.partial_file import PartialFile
from onefs.blocks.registry import PartialFileRegistry
from onefs.cache.files import disk_errors
from onefs.cache.mismatches import (
    DIGEST_PREFIX,
    NEVER_CONFIRMED,
    REQUIRED_DIGEST_MISMATCHES,
    UnconfirmedMismatch,
)
from onefs.cache.sparse import counted_size
from onefs.cache.store import Store
from onefs.cache.verify import ContentVerdict, check_content, new_hash
from onefs.errors import CacheError, DeadlineExceeded, OnefsError, reason_of
from onefs.lowlevel.locks import wait_for_lock
from onefs.lowlevel.single_flight import RetryingThreadPool
from onefs.model import Dataset

log = logging.getLogger(__name__)

#: files that are hashed at once
HASH_THREADS = 2
#: blocks that are hashed in one go: between two goes a thread needs the interpreter, which it then
#: holds although it gives way to all others
BLOCKS_PER_STEP = 16
#: seconds for which each stretch lets a busy reader go first, so that none is put off for ever
READER_PRIORITY_SECONDS = 0.25
#: seconds between two checks whether readers are busy
_READER_POLL_SECONDS = 0.05
#: seconds for which another process may hold a dataset's lock
LOCK_WAIT_SECONDS = 60.0
#: seconds for which another process may hash a file: 40 GB from a slow disk take many minutes
HASHING_WAIT_SECONDS = 3600.0
#: how far the hashing threads give way (nice)
HASH_THREAD_NICE = 19


class _HashProgress:
    """How far one file has been hashed."""

    def __init__(self, partial: PartialFile) -> None:
        self.partial = partial
        self.digest = new_hash(partial.dataset)
        #: the records of the blocks that went into the digest
        self.records: list[int] = []
        #: a thread is at it; it looks again when ``again`` is set meanwhile
        self.is_running = False
        self.is_rescheduled = False


class Verifier:
    """Hashes what comes, and publishes or condemns what is complete. Thread-safe.

    ``on_bad`` is told of each dataset whose bytes turn out to be wrong, and of each whose bytes
    changed on the server: whoever keeps pages of it must drop them.
    """

    def __init__(
        self,
        store: Store,
        partials: PartialFileRegistry,
        wanted: Callable[[], bool],
        on_invalidated: Callable[[Dataset], None],
    ) -> None:
        self._store = store
        self._registry = partials
        self._is_wanted = wanted
        self._on_invalidated = on_invalidated
        self._lock = threading.Lock()
        self._progress: dict[int, _HashProgress] = {}
        self._pool = RetryingThreadPool(
            HASH_THREADS, thread_name_prefix="onefs-hash", initializer=_lower_priority
        )

    def close(self) -> None:
        """End. What was hashed is hashed again another time."""
        # no limit: hashing looks after each stretch whether it is wanted
        self._pool.shutdown(wait=True, cancel_futures=True)

    def blocks_arrived(self, partial: PartialFile, blocks: range) -> None:
        """Blocks have come: go on hashing, at the end of a stretch or when no more will come."""
        ends = blocks.stop // BLOCKS_PER_STEP > blocks.start // BLOCKS_PER_STEP
        if ends or not partial.demand.in_flight:
            with self._lock:
                progress = self._progress.get(id(partial))
                hashed = len(progress.records) if progress is not None else 0
            if partial.has_block(hashed) or partial.is_probably_complete():
                self.schedule(partial)

    def schedule(self, partial: PartialFile) -> None:
        """Hash what there is, and see to the file if it is complete."""
        with self._lock:
            progress = self._progress.get(id(partial))
            if progress is None:
                self._registry.add_user(partial)
                progress = self._progress[id(partial)] = _HashProgress(partial)
            progress.is_rescheduled = True
            if not progress.is_running:
                progress.is_running = True
                self._pool.enqueue(self._run, progress)

    def start_pending(self) -> None:
        """Begin what could not begin for want of a thread."""
        self._pool.retry_thread_start()

    def release(self, partial: PartialFile) -> None:
        """Nobody else has this file open any more: do not keep it open for the hash."""
        with self._lock:
            progress = self._progress.get(id(partial))
            if progress is None or progress.is_running or partial.user_count != 1:
                return
            del self._progress[id(partial)]
        self._registry.release(partial)

    def reject(self, partial: PartialFile, reason: str, digest: str = "") -> None:
        """The server's bytes are not what the database describes; from now on nobody gets them.

        Raises CacheError.
        """
        with (
            disk_errors(self._store.root),
            self._store.locks.hold(partial.dataset.id, LOCK_WAIT_SECONDS, self._is_wanted),
        ):
            if partial.block_file.is_current():  # else what it was a part of is no more
                self._reject_locked(partial, reason, digest)
        self._notify_readers(partial)

    def _run(self, progress: _HashProgress) -> None:
        partial = progress.partial
        while self._begin_round(progress):
            try:
                with disk_errors(self._store.root):
                    self._hash_present_blocks(progress)
            except OnefsError as error:
                log.warning("%s cannot be verified now: %s", "/".join(partial.place), error)
                self._set_verify_error(partial, error)
            except Exception as error:
                log.exception("verifying %s failed", "/".join(partial.place))
                self._set_verify_error(partial, CacheError(f"verifying failed: {reason_of(error)}"))

    def _set_verify_error(self, partial: PartialFile, error: OnefsError) -> None:
        """Tell who waits for the verdict that there will be none now."""
        with partial.demand.condition:
            partial.verify_error = error
            partial.demand.notify_waiters()

    def _begin_round(self, progress: _HashProgress) -> bool:
        """Whether there is something to do for a thread; at the end, let go of the file."""
        partial = progress.partial
        with self._lock:
            if progress.is_rescheduled and self._is_wanted():
                progress.is_rescheduled = False
                return True
            progress.is_running = False
            ended = partial.block_file.state() is not PartialState.LIVE or partial.user_count == 1
            if ended:
                self._progress.pop(id(partial), None)
        if ended:
            self._registry.release(partial)
        return False

    def _hash_present_blocks(self, progress: _HashProgress) -> None:
        """Hash as far as the blocks go, and end the matter when they go to the end."""
        partial = progress.partial

        def is_needed() -> bool:
            return (
                partial.is_probably_complete()
                and self._is_wanted()
                and partial.block_file.state() is PartialState.LIVE
            )

        if not wait_for_lock(
            lambda: partial.try_lock_map(HASH_LOCK_BYTE), HASHING_WAIT_SECONDS, is_needed
        ):
            if not is_needed():
                return  # another process hashes this file
            raise DeadlineExceeded("another process has been hashing it for too long")
        try:
            while len(progress.records) < partial.block_file.block_count and self._is_wanted():
                self._yield_to_readers(partial)
                if not self._hash_step(progress):
                    return
            if len(progress.records) == partial.block_file.block_count:
                self._publish_or_reject(progress)
        finally:
            partial.unlock_map(HASH_LOCK_BYTE)

    def _yield_to_readers(self, partial: PartialFile) -> None:
        """Hashing takes more of the processor than all the rest of a read from a near server.

        While readers wait for the network there is time enough for both.
        """
        end = time.monotonic() + READER_PRIORITY_SECONDS
        while partial.is_busy() and time.monotonic() < end and self._is_wanted():
            time.sleep(_READER_POLL_SECONDS)

    def _hash_step(self, progress: _HashProgress) -> bool:
        """The next blocks, as far as they are here; False when the first of them is not."""
        partial, first = progress.partial, len(progress.records)
        most = min(first + BLOCKS_PER_STEP, partial.block_file.block_count)
        absent = (
            n
            for n, record in enumerate(partial.block_file.records(first, most), first)
            if not record
        )
        last = next(absent, most)  # only what is here is pinned: the rest may have to make room
        if last == first:
            return False
        partial.pin(first, last)
        try:
            here = min(partial.missing_blocks(first, last), default=last)
            if here == first:
                return False
            start, end = partial.block_file.span(first)[0], partial.block_file.span(here - 1)[1]
            records = partial.block_file.records(first, here)
            found = os.pread(partial.block_file.data_fd, end - start, start)
            if len(found) != end - start:  # the disk fails further on: its bytes prove nothing
                raise OSError(errno.EIO, os.strerror(errno.EIO), str(partial.block_file.data_path))
            progress.digest.update(found)
            progress.records.extend(records)
        finally:
            partial.unpin(first, last)
        return True

    def _publish_or_reject(self, progress: _HashProgress) -> None:
        """All is hashed: publish or condemn, unless a block was evicted or replaced meanwhile."""
        partial = progress.partial
        dataset, blocks = partial.dataset, partial.block_file
        verdict = check_content(dataset, blocks.header.size, progress.digest.hexdigest())
        os.fdatasync(blocks.data_fd)  # of a bad one, too: somebody may want just these bytes
        with self._store.locks.hold(dataset.id, LOCK_WAIT_SECONDS, self._is_wanted):
            if blocks.state() is not PartialState.LIVE or not blocks.is_current():
                return
            if blocks.records(0, blocks.block_count) != tuple(progress.records):
                progress.digest, progress.records = new_hash(dataset), []
                progress.is_rescheduled = partial.is_probably_complete()
                return
            if verdict.is_good:
                self._publish(partial, verdict, progress.digest.hexdigest())
                self._store.mismatches.clear(dataset.id)
            else:
                self._reject_or_drop(partial, verdict.reason, progress.digest.hexdigest())
        self._notify_readers(partial)

    def _reject_or_drop(self, partial: PartialFile, reason: str, digest: str) -> None:
        """Reject wrong bytes that came before; begin anew with those that are new."""
        # of a file whose parts may be of several versions the hash says nothing about any of them
        needed = NEVER_CONFIRMED if partial.has_mixed_versions() else REQUIRED_DIGEST_MISMATCHES
        try:
            last = self._store.mismatches.note_mismatch(
                partial.dataset, DIGEST_PREFIX + digest, reason, needed
            )
        except UnconfirmedMismatch as error:
            partial.drop_reason = f"was not what the database describes ({reason})"
            partial.verify_error = error
            self._drop_locked(partial)
        else:
            self._reject_locked(partial, last, digest)

    def drop(self, partial: PartialFile, gone: str) -> None:
        """Give up the blocks of a file: the next read begins anew. Raises CacheError.

        ``gone`` says to the readers of the file what has become of it.
        """
        partial.drop_reason = gone
        with (
            disk_errors(self._store.root),
            self._store.locks.hold(partial.dataset.id, LOCK_WAIT_SECONDS, self._is_wanted),
        ):
            self._drop_locked(partial)
        self._notify_readers(partial)

    def _drop_locked(self, partial: PartialFile) -> None:
        partial.block_file.set_state(PartialState.GONE)
        if partial.block_file.is_current():
            freed = remove_block_file(partial.block_file.folder, partial.dataset.id)
            self._store.usage.adjust(-freed)

    def _publish(self, partial: PartialFile, verdict: ContentVerdict, digest: str) -> None:
        blocks = partial.block_file
        self._store.publish(
            partial.dataset,
            partial.place,
            blocks.data_path,
            verdict,
            durable=True,
            generation=blocks.header.generation,
            digest=digest,
        )
        blocks.set_state(PartialState.DONE)
        remove_block_file(blocks.folder, partial.dataset.id, retire=False)

    def _reject_locked(self, partial: PartialFile, reason: str, digest: str) -> None:
        """The state first: from here on no reader gets a byte, whatever happens to us."""
        blocks = partial.block_file
        partial.rejection_reason = reason
        blocks.set_state(PartialState.BAD)
        kept = None
        if digest:
            kept = self._store.rejected_path(partial.dataset)
            self._store.usage.adjust(-counted_size(kept))
            blocks.data_path.replace(kept)
        self._store.reject(partial.dataset, reason, kept, digest)
        freed = remove_block_file(blocks.folder, partial.dataset.id, retire=False)
        self._store.usage.adjust(-freed)
        # readers get it as an error; the line is for a mount's log
        log.info("%s: %s", "/".join(partial.place), reason)

    def _notify_readers(self, partial: PartialFile) -> None:
        if partial.block_file.state() in (PartialState.BAD, PartialState.GONE):
            self._on_invalidated(partial.dataset)
        with partial.demand.condition:
            partial.demand.notify_waiters()


def _lower_priority() -> None:
    """Lower the priority of this thread alone, as Linux allows."""
    os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), HASH_THREAD_NICE)
