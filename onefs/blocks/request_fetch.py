"""One block request, carried out with requests to the sources of the file.

This module retries requests, tries other replicas, and checks the version of the file.
"""

from __future__ import annotations

import logging
import threading
import time
import zlib
from collections.abc import Callable
from contextlib import AbstractContextManager

from onefs.blocks.claimed_blocks import ClaimedBlocks
from onefs.blocks.partial_file import PartialFile
from onefs.cache.store import Store
from onefs.download.hosts import Hosts
from onefs.download.replicas import REPLICA_ERRORS, Replicas
from onefs.download.sources.interface import (
    Body,
    ByteRequest,
    RemoteFileChanged,
    VersionMismatch,
)
from onefs.errors import BadContent, DeadlineExceeded, OnefsError, ServerError
from onefs.model import Replica

log = logging.getLogger(__name__)

#: bytes of a response that are written together
CHUNK_BYTES = 512 * 1024
#: retries of a request if its response has another version of the file than the present blocks
MAX_VERSION_RETRIES = 3


class RequestFetch:
    """Fetches the blocks of one request. The caller has locked these blocks.

    - ``lock_wait``: the longest wait in seconds for the dataset's lock
    - ``reject``: marks a partial file as bad, with a reason, if the responses contradict the
      database
    """

    def __init__(
        self,
        store: Store,
        hosts: Hosts,
        lock_wait: float,
        reject: Callable[[PartialFile, str], None],
        claims: ClaimedBlocks,
    ) -> None:
        self._store = store
        self._hosts = hosts
        self._lock_wait = lock_wait
        self._reject = reject
        self._claims = claims
        self._request = claims.request
        self._partial = claims.request.partial
        self._dataset = self._partial.dataset
        self._blocks = self._partial.block_file
        self._replicas = Replicas(hosts, self._dataset)
        #: the URL and the event of this request while it is the first one for a replica
        self._first: tuple[str, threading.Event] | None = None

    def run(self) -> None:
        """Fetch all locked blocks of the request. Try each replica, and retry while that is useful.

        Raises RemoteFileChanged, Stopping, BadContent, UnconfirmedMismatch, CacheError, CacheFull,
        and the errors of the file servers.
        """
        attempt = 0
        is_suspect = self._store.mismatches.check(self._dataset)
        waiting = self._replicas.next_untried(self._usable_replicas())
        while self._claims.remaining:
            retries: dict[Replica, float] = {}
            before, began = self._claims.written_bytes, time.monotonic()
            for tried, replica in enumerate(waiting):
                spent = time.monotonic() - began if tried else 0.0
                stall = self._hosts.stall_timeout(waiting, replica, spent)
                try:
                    self._wait_for_first_request(replica)
                    while self._claims.remaining:
                        self._request_with_version_retries(replica, stall)
                    if is_suspect:
                        self._store.mismatches.clear_size_mismatch(self._dataset)
                    return
                except REPLICA_ERRORS as error:
                    self._request.last_error = error
                    if self._claims.written_bytes > before:
                        attempt, began = 0, time.monotonic()
                    delay = self._replicas.note_failure(replica, error, attempt + 1)
                    if delay is not None:
                        retries[replica] = delay
                finally:
                    self._end_first_request()
            attempt += 1
            usable = self._usable_replicas()  # blocks that have arrived may exclude some replicas
            waiting = [replica for replica in retries if replica in usable]
            pause = min((retries[replica] for replica in waiting), default=0.0)
            waiting = waiting or self._replicas.next_untried(usable)
            if not waiting:
                raise self._final_error()
            self._request.cancel_event.wait(pause)
            self._request.raise_if_cancelled()

    def _wait_for_first_request(self, replica: Replica) -> None:
        """Wait while another request finds out whether a replica has the file.

        Raises the error of the other request if its server has refused the file.
        """
        url = replica.url
        if len(self._dataset.replicas) == 1 or url in self._blocks.header.sources:
            return
        stall = self._hosts.stall_timeout(self._dataset.replicas)
        first = self._hosts.first_requests.begin(url, stall, self._request.raise_if_cancelled)
        if first is None:
            self._hosts.raise_refusal(url)
        else:
            self._first = url, first

    def _end_first_request(self) -> None:
        """Let other requests for the replica go on, if they wait for this one."""
        if self._first is not None:
            self._hosts.first_requests.end(*self._first)
            self._first = None

    def _final_error(self) -> OnefsError:
        """Return the error for a request that failed on every replica.

        Raises UnconfirmedMismatch if the responses contradict the database, but not yet often
        enough to reject the file.
        """
        # a mismatch is recorded; after enough equal mismatches the file is rejected (BadContent)
        if not self._replicas.mismatches or self._claims.written_bytes:
            return self._replicas.final_error()
        if self._replicas.unanswered_error is not None:
            return self._replicas.unanswered_error
        evidence = self._replicas.evidence()
        reason = self._store.mismatches.note_mismatch(self._dataset, evidence, evidence)
        self._reject(self._partial, reason)
        return BadContent(reason)

    def _usable_replicas(self) -> list[Replica]:
        """Return the replicas that may be used for this request."""
        gone = self._replicas.gone_urls
        replicas = [replica for replica in self._dataset.replicas if replica.url not in gone]
        sources = self._blocks.header.sources
        # without an md5, blocks from different replicas could not be verified together
        if self._dataset.md5 or not sources:
            return replicas
        # the other replicas are used only if no source has the file any more
        return [replica for replica in replicas if replica.url in sources] or replicas

    def _request_with_version_retries(self, replica: Replica, stall: float) -> None:
        """Send one request. Retry while the server has another version than the cached blocks.

        Raises VersionMismatch if the retries do not help.
        """
        # load-balanced servers may have different validators for the same bytes: after the last
        # try, one present block is compared with the replica's bytes
        for tries_left in range(MAX_VERSION_RETRIES, -1, -1):
            try:
                self._send_request(replica, stall)
                return
            except VersionMismatch:
                if not tries_left and not self._has_same_block(replica, stall):
                    raise
        # equal bytes: do not check the version, but verify the whole file before reading continues
        self._mark_mixed_versions()
        self._send_request(replica, stall)

    def _has_same_block(self, replica: Replica, stall: float) -> bool:
        """Whether a present block has the same bytes on a replica.

        Return False if the dataset has no md5. Return True if no block is present.
        """
        # different bytes: the file has changed; equal bytes: the md5 decides when the file is
        # complete
        blocks = self._blocks
        if not self._dataset.md5:
            return False
        present = (n for n, record in enumerate(blocks.records(0, blocks.block_count)) if record)
        block = next(present, None)
        if block is None:
            return True
        start, end = blocks.span(block)
        checksum = 0
        wanted = ByteRequest(replica.url, stall, start, end, blocks.header.size)
        with self._hosts.source.open(wanted) as body:
            self._request.attach_body(body)
            position = body.start
            for chunk in body.iter_chunks():
                self._hosts.count_bytes(replica.url, len(chunk))
                part = memoryview(chunk)[max(0, start - position) : max(0, end - position)]
                checksum = zlib.crc32(part, checksum)
                position += len(chunk)
                if position >= end:
                    break
        return position >= end and blocks.has_checksum(block, checksum)

    def _mark_mixed_versions(self) -> None:
        with self._dataset_lock():
            self._partial.mark_mixed_versions()
        log.warning(
            "%s: the file servers have different versions of this file, so that the whole file is "
            "fetched and verified before more of it is read",
            "/".join(self._partial.place),
        )
        with self._partial.demand.condition:
            self._partial.demand.notify_waiters()

    def _dataset_lock(self) -> AbstractContextManager[None]:
        """Return a context manager that holds the dataset's lock.

        Waiting for the lock ends if the request is cancelled.
        """
        is_cancelled = self._request.cancel_event.is_set
        return self._store.locks.hold(self._dataset.id, self._lock_wait, lambda: not is_cancelled())

    def _send_request(self, replica: Replica, stall: float) -> None:
        """Fetch the bytes from the first missing block to the last block with one request."""
        blocks, claims = self._blocks, self._claims
        start = blocks.span(min(claims.remaining))[0]
        end = blocks.span(self._request.last - 1)[1]
        validator = blocks.header.sources.get(replica.url, "")
        if self._partial.has_mixed_versions():
            validator = ""
        wanted = ByteRequest(replica.url, stall, start, end, blocks.header.size, validator)
        with self._hosts.source.open(wanted) as body:
            self._request.attach_body(body)
            self._record_source(replica, body)
            self._end_first_request()
            if not body.is_partial:
                claims.claim_whole_file()
            self._write_body(replica, body, stall)

    def _write_body(self, replica: Replica, body: Body, stall: float) -> None:
        """Write the bytes that a source sends to the locked blocks of the request.

        Raises DeadlineExceeded if a block takes more than ``stall`` seconds, and ServerError if the
        body ends too early.
        """
        url, request, claims = body.label, self._request, self._claims
        position, end = body.start, self._blocks.header.size if body.end is None else body.end
        due = time.monotonic() + stall
        for chunk in body.iter_chunks(CHUNK_BYTES):
            self._hosts.count_bytes(replica.url, len(chunk))
            has_block_ended = claims.write(position, memoryview(chunk)[: end - position])
            position += len(chunk)
            now = time.monotonic()
            if has_block_ended:
                self._hosts.note_progress(replica.url)
                due = now + stall
            elif now > due:
                raise DeadlineExceeded(
                    f"{url}: the file server sent too few bytes in {stall:g} s: try again later"
                )
            if not claims.remaining and (position < end or body.length is None):
                return
            request.raise_if_cancelled()
        # the body must be read to its end, so that the connection can be used again
        if position < end:
            raise ServerError(f"{url}: the answer ended {end - position} bytes early")

    def _record_source(self, replica: Replica, body: Body) -> None:
        """Record a replica's version of the file, before blocks from the replica are written.

        Raises VersionMismatch if another version was recorded for this replica. If the dataset has
        no md5, all blocks must be from one replica: raises RemoteFileChanged or ServerError for a
        second replica.
        """
        if replica.url in self._blocks.header.sources or self._partial.has_mixed_versions():
            return
        url, validator = body.label, body.validator
        with self._dataset_lock():
            alone = not self._dataset.md5
            recorded = self._blocks.record_source(replica.url, validator, alone=alone)
        if recorded is None:
            why = f"{url} is not used: all blocks of a file without md5 must be from one URL"
            # a reader waits, and the first replica does not have the file any more
            if self._request.urgent and replica in self._usable_replicas():
                raise RemoteFileChanged(why)
            raise ServerError(why, 200)  # a retry is useless
        if recorded != validator and recorded and validator:
            raise VersionMismatch(f"{url}: the file on the server has changed")
