"""Verification of partial files: hash blocks in the background, then publish or reject the file.

A right file is published: it gets its final name. A wrong file is fetched again. If the file is
then wrong in the same way, the file is rejected: it is not served.

Threads of low priority hash the files. A file that is read sequentially is hashed while its blocks
arrive, because then the bytes are still in the page cache. A file whose blocks arrive in another
order is hashed when the last block is present. In both cases the digest of the whole file is
compared with the database before the file gets its final name.
"""

from __future__ import annotations

import errno
import logging
import os
import threading
import time
from array import array
from collections.abc import Callable
from contextlib import AbstractContextManager
from itertools import takewhile

from onefs.blocks.block_map import HASH_LOCK_BYTE, PartialState, remove_block_file
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
from onefs.errors import CacheError, DeadlineExceeded, OnefsError, reason_of, strip_tracebacks
from onefs.lowlevel.locks import wait_for_lock
from onefs.lowlevel.single_flight import RetryingThreadPool
from onefs.model import Dataset

log = logging.getLogger(__name__)

#: number of files that are hashed at the same time
HASH_THREADS = 2
#: number of bytes that are hashed in one step. Between two steps the thread holds the interpreter
#: lock, although the priority of the thread is low
STEP_BYTES = 8 << 20
#: longest time in seconds that a step waits for busy readers. After this time the step hashes
#: although readers are busy
READER_PRIORITY_SECONDS = 0.25
#: seconds between two checks whether readers are busy
_READER_POLL_SECONDS = 0.05
#: longest wait in seconds for a dataset's lock
LOCK_WAIT_SECONDS = 60.0
#: longest wait in seconds for another process that hashes the file. Hashing 40 GB from a slow disk
#: takes long
HASHING_WAIT_SECONDS = 3600.0
#: scheduling priority (nice) of the hash threads
HASH_THREAD_NICE = 19


class _HashProgress:
    """The hash of a file from its first block to the last block that was hashed so far."""

    def __init__(self, partial: PartialFile) -> None:
        self.partial = partial
        self.digest = new_hash(partial.dataset)
        #: the records of the blocks that were hashed
        self.records = array("Q")
        #: True while a thread is hashing the file. If ``is_rescheduled`` is set before the thread
        #: ends, the thread checks again for blocks to hash
        self.is_running = False
        self.is_rescheduled = False


class Verifier:
    """Hashes partial files. Thread-safe.

    A complete file gets its final name if its hash agrees with the database. Otherwise the file is
    fetched again, or is not served any more.

    ``on_invalidated`` is called with a dataset when the kernel must drop its pages of the dataset.
    """

    def __init__(
        self,
        store: Store,
        registry: PartialFileRegistry,
        on_invalidated: Callable[[Dataset], None],
    ) -> None:
        self._store = store
        self._registry = registry
        self._on_invalidated = on_invalidated
        self._lock = threading.Lock()
        self._progress: dict[int, _HashProgress] = {}
        self._pool = RetryingThreadPool(
            HASH_THREADS, thread_name_prefix="onefs-hash", initializer=_lower_priority
        )

    def close(self) -> None:
        """End all threads. A file that is not completely hashed yet is hashed again later."""
        # no time limit is needed, because hashing ends after the current step
        self._pool.shutdown(wait=True, cancel_futures=True)

    def blocks_arrived(self, partial: PartialFile, blocks: range) -> None:
        """Schedule hashing, if the last block of a group of STEP_BYTES has arrived.

        Also schedule hashing when no block of the file is requested any more.
        """
        step = _blocks_per_step(partial)
        ends = blocks.stop // step > blocks.start // step
        if ends or not partial.demand.in_flight:
            with self._lock:
                progress = self._progress.get(id(partial))
                hashed = len(progress.records) if progress is not None else 0
            # nothing is scheduled while the next block to hash is absent
            if partial.has_block(hashed) or partial.is_probably_complete():
                self.schedule(partial)

    def schedule(self, partial: PartialFile) -> None:
        """Hash the present blocks on another thread.

        If the file is complete, the thread then compares its hash with the database.
        """
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
        """Start the hashing that had to wait because the system could not start a thread."""
        self._pool.retry_thread_start()

    def release(self, partial: PartialFile) -> None:
        """Close ``partial`` if the verifier is its only user and no thread is hashing the file."""
        with self._lock:
            progress = self._progress.get(id(partial))
            if progress is None or progress.is_running or partial.user_count != 1:
                return
            del self._progress[id(partial)]
        self._registry.release(partial)

    def reject(self, partial: PartialFile, reason: str, digest: str = "") -> None:
        """Record that the content of a file contradicts the database, and stop serving the file.

        Raises CacheError if the cache folder cannot be written.
        """
        with disk_errors(self._store.root), self._dataset_lock(partial):
            if partial.block_file.is_current():  # otherwise the file was dropped before
                self._reject_locked(partial, reason, digest)
        self._notify_readers(partial)

    def _run(self, progress: _HashProgress) -> None:
        partial = progress.partial
        while self._begin_round(progress):
            try:
                with disk_errors(self._store.root):
                    self._hash_present_blocks(progress)
            except OnefsError as error:
                log.warning(
                    "the file %s cannot be verified now: %s", "/".join(partial.place), error
                )
                self._set_verify_error(partial, error)
            except Exception as error:
                log.exception("the verification of the file %s failed", "/".join(partial.place))
                why = f"the file {partial.dataset.name} cannot be verified: {reason_of(error)}"
                self._set_verify_error(partial, CacheError(why))

    def _set_verify_error(self, partial: PartialFile, error: OnefsError) -> None:
        """Give an error to the readers that wait for the result of the verification."""
        with partial.demand.condition:
            partial.verify_error = strip_tracebacks(error)
            partial.demand.notify_waiters()

    def _begin_round(self, progress: _HashProgress) -> bool:
        """Return True if a thread should hash the file now."""
        partial = progress.partial
        with self._lock:
            if progress.is_rescheduled and self._registry.is_open():
                progress.is_rescheduled = False
                return True
            progress.is_running = False
            # a file without readers, or with a verdict, is released, so that it can be closed
            ended = partial.block_file.state() is not PartialState.LIVE or partial.user_count == 1
            if ended:
                self._progress.pop(id(partial), None)
        if ended:
            self._registry.release(partial)
        return False

    def _hash_present_blocks(self, progress: _HashProgress) -> None:
        """Hash the next blocks until a block is absent.

        If no block is left, compare the hash of the file with the database.
        """
        partial = progress.partial

        def is_needed() -> bool:
            return (
                partial.is_probably_complete()
                and self._registry.is_open()
                and partial.block_file.state() is PartialState.LIVE
            )

        end = time.monotonic() + HASHING_WAIT_SECONDS
        while not wait_for_lock(
            lambda: partial.try_lock_map(HASH_LOCK_BYTE), end - time.monotonic(), is_needed
        ):
            if not is_needed():
                return  # another process hashes the file
            # an evicted block may be back already, so hashing may be needed again before ``end``
            if time.monotonic() >= end:
                raise DeadlineExceeded(
                    f"another process has been verifying {partial.dataset.name} for too long: try "
                    "again"
                )
        try:
            while (
                len(progress.records) < partial.block_file.block_count and self._registry.is_open()
            ):
                self._yield_to_readers(partial)
                if not self._hash_step(progress):
                    return
            if len(progress.records) == partial.block_file.block_count:
                self._publish_or_reject(progress)
        finally:
            partial.unlock_map(HASH_LOCK_BYTE)

    def _yield_to_readers(self, partial: PartialFile) -> None:
        """Wait while readers are busy, at most READER_PRIORITY_SECONDS."""
        # hashing takes more processor time than reading; readers that wait for the network are not
        # busy
        end = time.monotonic() + READER_PRIORITY_SECONDS
        while partial.is_busy() and time.monotonic() < end and self._registry.is_open():
            time.sleep(_READER_POLL_SECONDS)

    def _hash_step(self, progress: _HashProgress) -> bool:
        """Hash the next present blocks, STEP_BYTES at most. Return False if the next block is
        absent."""
        partial, first = progress.partial, len(progress.records)
        blocks = partial.block_file
        records = blocks.records(first, min(first + _blocks_per_step(partial), blocks.block_count))
        last = first + len(list(takewhile(bool, records)))
        if last == first:  # absent blocks are not pinned: they need disk space
            return False
        partial.pin(first, last)
        try:
            stop = min(partial.missing_blocks(first, last), default=last)
            if stop == first:
                return False
            start, end = blocks.span(first)[0], blocks.span(stop - 1)[1]
            records = blocks.records(first, stop)
            data = os.pread(blocks.data_fd, end - start, start)
            if len(data) != end - start:  # the disk fails, and the digest would be wrong
                raise OSError(errno.EIO, os.strerror(errno.EIO), str(blocks.data_path))
            progress.digest.update(data)
            progress.records.extend(records)
        finally:
            partial.unpin(first, last)
        return True

    def _publish_or_reject(self, progress: _HashProgress) -> None:
        """Give a file its final name if its hash agrees with the database.

        Otherwise fetch the file again, or stop serving it.
        """
        partial = progress.partial
        dataset, blocks = partial.dataset, partial.block_file
        verdict = check_content(dataset, blocks.header.size, progress.digest.hexdigest())
        os.fdatasync(blocks.data_fd)  # a wrong file is synced too, because the user may accept it
        with self._dataset_lock(partial):
            if blocks.state() is not PartialState.LIVE or not blocks.is_current():
                return
            # a block was evicted or replaced after it was hashed: hash again from the beginning
            if blocks.records(0, blocks.block_count) != tuple(progress.records):
                progress.digest, progress.records = new_hash(dataset), array("Q")
                progress.is_rescheduled = partial.is_probably_complete()
                return
            if verdict.is_good:
                self._publish(partial, verdict, progress.digest.hexdigest())
                self._store.mismatches.clear(dataset.id)
            else:
                self._reject_or_drop(partial, verdict.reason, progress.digest.hexdigest())
        self._notify_readers(partial)

    def _reject_or_drop(self, partial: PartialFile, reason: str, digest: str) -> None:
        """Stop serving a wrong file if the same wrong digest was found before.

        Otherwise remove its blocks, so that the file is fetched again.
        """
        # the digest of blocks of several versions proves nothing about any version
        needed = NEVER_CONFIRMED if partial.has_mixed_versions() else REQUIRED_DIGEST_MISMATCHES
        try:
            last = self._store.mismatches.note_mismatch(
                partial.dataset, DIGEST_PREFIX + digest, reason, needed
            )
        except UnconfirmedMismatch as error:
            partial.drop_reason = f"had other bytes than the database describes ({reason})"
            partial.verify_error = strip_tracebacks(error)
            self._drop_locked(partial)
        else:
            self._reject_locked(partial, last, digest)

    def drop(self, partial: PartialFile, reason: str) -> None:
        """Remove all blocks of a file. The next read fetches the file from its beginning.

        ``reason`` is a text for the error message for readers. Raises CacheError if the cache
        folder cannot be written.
        """
        # the message is the name of the file, followed by the reason
        partial.drop_reason = reason
        with disk_errors(self._store.root), self._dataset_lock(partial):
            self._drop_locked(partial)
        self._notify_readers(partial)

    def _dataset_lock(self, partial: PartialFile) -> AbstractContextManager[None]:
        return self._store.locks.hold(partial.dataset.id, LOCK_WAIT_SECONDS, self._registry.is_open)

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
        """Reject a file: its bytes are not served any more. The caller holds the dataset's lock."""
        blocks = partial.block_file
        partial.rejection_reason = reason
        # set first: no reader is served any more, even if this process is then killed
        blocks.set_state(PartialState.BAD)
        rejected = None
        if digest:
            rejected = self._store.rejected_path(partial.dataset)
            self._store.usage.adjust(-counted_size(rejected))
            blocks.data_path.replace(rejected)
        self._store.reject(partial.dataset, reason, rejected, digest)
        freed = remove_block_file(blocks.folder, partial.dataset.id, retire=False)
        self._store.usage.adjust(-freed)
        # readers get the reason in an error; this line is for the log of a mount
        log.info("%s: %s", "/".join(partial.place), reason)

    def _notify_readers(self, partial: PartialFile) -> None:
        if partial.block_file.state() in (PartialState.BAD, PartialState.GONE):
            self._on_invalidated(partial.dataset)
        with partial.demand.condition:
            partial.demand.notify_waiters()


def _blocks_per_step(partial: PartialFile) -> int:
    return max(1, STEP_BYTES // partial.block_file.header.block_size)


def _lower_priority() -> None:
    """Lower the priority of this thread only. Linux allows a priority for each thread."""
    os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), HASH_THREAD_NICE)
