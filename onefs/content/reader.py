"""What the layers above see of the bytes: open a dataset, and read from a descriptor."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from onefs.content.answers import Changed
from onefs.content.blocks import State, read_about
from onefs.content.evict import Evictor
from onefs.content.fetch import Fetcher
from onefs.content.files import disk_errors
from onefs.content.follow import Follower
from onefs.content.handle import DatasetHandle
from onefs.content.hosts import Hosts
from onefs.content.index import Index
from onefs.content.keeping import Keeping
from onefs.content.meter import Meter
from onefs.content.one_tables import OneTables
from onefs.content.partial import Partial
from onefs.content.partials import Partials
from onefs.content.reading import Reading
from onefs.content.records import Entry
from onefs.content.room import Limits, Room
from onefs.content.scheduler import Run, Scheduler
from onefs.content.store import Place, Store
from onefs.content.taking import Taker
from onefs.content.transfer import Transfer
from onefs.content.versions import Versions, of_entry
from onefs.content.whole import WholeFetcher
from onefs.content.window import FARTHEST
from onefs.dates import dataset_identity
from onefs.errors import BadContent, CacheFull, DeadlineExceeded, Stopping, again
from onefs.http import HostAuth, Transport
from onefs.model import Dataset
from onefs.storing import SMALL_FILE

#: seconds between two reports to who watches a download
TOLD_EVERY = 0.2
#: seconds until what other processes have accepted is looked at again
ACCEPTED_AGE = 1.0
#: seconds for which verifying a complete file may take the disk
VERIFYING = 3600.0
#: how often a whole file is fetched whose blocks are evicted before it is complete
ROUNDS = 3
#: times and seconds for which a large file that is evicted as soon as it is complete is begun anew
EVICTED_TRIES, EVICTED_SECONDS = 8, 60.0


class Content:
    """The bytes of one laboratory's datasets, in one cache folder. Thread-safe.

    ``database`` names the laboratory that the folder must belong to. ``stall`` and ``deadline``
    are seconds: without progress on data, and for a question to a file server. ``small_file`` is
    in bytes. ``strict``: no byte is served before its whole file is verified. ``preferred`` names
    the repositories whose copies are tried first. ``share_partials`` None: as the file system's
    locks allow. ``on_bad`` is called, on any thread, with a dataset whose bytes turned out to be
    wrong: pages of it that anybody keeps are to be dropped. Reads of handles fetch at most
    ``max_fetch`` bytes in any hour, and then raise FetchLimit. ``trusted``: links
    in the folder may lead out of it.

    Raises UsageError when the folder belongs to another laboratory, CacheError when it cannot be
    used.
    """

    def __init__(
        self,
        cache_dir: Path,
        state_dir: Path,
        database: str,
        transport: Transport,
        auth: HostAuth,
        *,
        stall: float = 60.0,
        deadline: float = 10.0,
        small_file: int = SMALL_FILE,
        strict: bool = False,
        limits: Limits | None = None,
        preferred: Sequence[str] = (),
        share_partials: bool | None = None,
        on_bad: Callable[[Dataset], None] = lambda dataset: None,
        max_fetch: int | None = None,
        trusted: bool = False,
    ) -> None:
        self.cache_dir = cache_dir
        self.database = database
        self.limits = limits or Limits()
        self.strict = strict
        self._small_file = small_file
        self._stall = stall
        self._deadline = deadline
        self._on_bad = on_bad
        self.versions = Versions()
        self._accepted: Mapping[str, Entry] = {}
        self._accepted_until = 0.0
        self._stopping = threading.Event()
        self._index = Index(state_dir / "store.sqlite")
        self.store = Store(cache_dir, self._index, database, share=share_partials, trusted=trusted)
        #: ONE's own tables in the folder
        self.one_tables = OneTables(cache_dir)
        self.meter = Meter(max_fetch)
        self._hosts = Hosts(transport, auth, stall, preferred, self.meter.count)
        lock = threading.Lock()
        self._partials = Partials(self.store, lock, self._is_open)
        self._evictor = Evictor(self.store, self._partials)
        self.keeping = Keeping(self.store, self._evictor)
        self._room = Room(cache_dir, self.store.ledger, self.limits, self._evictor.evict)
        self._follower = Follower(self.store, self._partials, self._is_open, self.went_bad)
        self._partials.on_last = self._follower.let_go
        self._fetcher = Fetcher(
            self.store,
            self._hosts,
            self._room,
            stall,
            self._follower.condemn,
            self._follower.drop,
        )
        self._scheduler = Scheduler(lock, self._partials, self._hosts, self._fetch)
        self._taker = Taker(self.store, stall, self.went_bad)
        self._whole = WholeFetcher(self.store, self._hosts, self._room, stall, self.went_bad)

    def open(self, dataset: Dataset, place: Place, at: Place | None = None) -> DatasetHandle:
        """Open a dataset of known size at its place. Asks no server.

        ``at`` is the path that it is shown at, when that is another: the kernel keeps pages by
        path. Raises BadContent at once for a file that is known to be bad.
        """
        at = place if at is None else at
        entry, doubted = self.store.look(dataset)
        if entry is not None and entry.state == "bad":
            raise BadContent(entry.reason)
        size = dataset.size if entry is None else entry.size
        if size is None:
            raise ValueError(f"{dataset.id} is opened before its size is known")
        if entry is not None:
            self.store.used(dataset)
            self.store.stamp_old(dataset, entry)
            if entry.state == "accepted" and dataset.id not in self._accepted:
                self._accepted_until = 0.0
        version = self._generation(dataset) if entry is None else of_entry(entry)
        if doubted:  # the kernel's pages may be of bytes that nobody has proved
            version = f"{version}@"
        keep = self.versions.open(at, dataset, version)
        absent = entry is None and not version
        return DatasetHandle(self, dataset, place, at, size, keep, absent=absent)

    def probe(self, dataset: Dataset) -> int:
        """The size of a dataset whose size Alyx lacks, in bytes, from a file server.

        Waits at most ``deadline`` seconds. Raises Unreachable, DeadlineExceeded, ServerError or
        DataServerCredentials; never guesses.
        """
        return self._whole.size_of(dataset, self._deadline)

    def state(self, dataset: Dataset) -> tuple[str, str]:
        """``user.onefs.state`` of a dataset, and one sentence if something is wrong with it.

        The state is ``remote``, ``partial``, ``cached``, ``unverified``, ``accepted`` or ``bad``.
        """
        entry, _ = self.store.look(dataset)
        if entry is not None:
            return entry.state, entry.reason
        failure = self._whole.failure(dataset) or self.store.doubts.failure(dataset)
        state = "partial" if self._generation(dataset) else "remote"
        return state, str(failure or "")

    def look(self) -> str:
        """What became of the cache folder, if it was deleted or its disk was away; '' else.

        One that was deleted is made anew. Raises CacheError while it cannot be used.
        """
        with disk_errors(self.cache_dir):
            self.store.regain()
        return self.store.said

    def transfers(self) -> list[Transfer]:
        """The downloads under way."""
        return [*self._whole.transfers(), *self._scheduler.transfers()]

    def total_bytes(self) -> int:
        """Bytes of disk that the files which onefs downloaded take, complete or not."""
        return self.store.total_bytes()

    def space(self) -> tuple[int, int]:
        """``(total, free)`` bytes of the disk that the folder lies on."""
        with disk_errors(self.cache_dir):
            found = os.statvfs(self.cache_dir)
        return found.f_blocks * found.f_frsize, found.f_bavail * found.f_frsize

    def close(self) -> None:
        """Wake who waits, with Stopping."""
        self._stopping.set()
        self._hosts.close()
        self._taker.close()
        self._scheduler.close()
        self._whole.close()
        self._follower.close()

    def release(self) -> None:
        """Let go of the index and the cache folder, after the last use."""
        self.one_tables.close()
        self.store.close()
        self._index.close()

    def path(
        self, dataset: Dataset, place: Place, watch: Callable[[int], None] | None = None
    ) -> Path:
        """The verified file of a dataset, downloaded if need be.

        ``watch`` is told now and then how many bytes of a large file are there. Waits for as long
        as bytes come. Raises BadContent, Unreachable, DataServerCredentials, DeadlineExceeded,
        ServerError, Throttled, CacheError or Stopping.
        """
        path = self.store.known(dataset) or self.adopt(dataset, place)
        if path is not None:
            self.store.used(dataset)
            if (entry := self.store.entry(dataset)) is not None:
                self.store.stamp_old(dataset, entry)
            return path
        if self.is_small(dataset):
            return self.fetch_whole(dataset, place)
        changed, tries, end = 0, 0, time.monotonic() + EVICTED_SECONDS
        while tries < EVICTED_TRIES or time.monotonic() < end:
            tries += 1
            try:
                self._complete_anew(dataset, place, watch)
            except Changed:  # not a byte of the old file was handed out
                changed += 1
                if changed == ROUNDS:
                    raise
            path = self.store.known(dataset)
            if path is not None:
                return path
        raise CacheFull(f"{dataset.name} was evicted before it could be read: raise --cache-size")

    def _complete_anew(
        self, dataset: Dataset, place: Place, watch: Callable[[int], None] | None
    ) -> None:
        reading = self.begin_reading(dataset, place)
        if reading is None:
            return
        try:
            self.complete(reading, watch)
        finally:
            self.end_reading(reading)

    def fetch_whole(self, dataset: Dataset, place: Place) -> Path:
        """The same for a small dataset that does not seem to be there."""
        return self._whole.wait(dataset, place)

    def size(self, dataset: Dataset) -> int | None:
        """Bytes of a dataset: the database's claim, or what the user has accepted instead.

        Cheap; what another process has accepted counts within ACCEPTED_AGE, or once it is opened.
        """
        entry = self._accepted_entry(dataset)
        return dataset.size if entry is None else entry.size

    def identity(self, dataset: Dataset) -> bytes:
        """Return what tells the bytes that are shown from others, accepted ones included."""
        entry = self._accepted_entry(dataset)
        if entry is None:
            return dataset_identity(dataset)
        # an older onefs has not noted the digest
        return entry.digest.encode() or b"accepted %d" % entry.size + dataset_identity(dataset)

    def adopt(self, dataset: Dataset, place: Place) -> Path | None:
        """The file of somebody else at a dataset's place, if it is what the database describes.

        Waits while it is hashed. Raises DeadlineExceeded, CacheError or Stopping.
        """
        return self._taker.take(dataset, place)

    def accept(self, dataset: Dataset, place: Place) -> Path:
        """Serve the bytes that were found bad, as they are, from now on.

        They are fetched again when they were not kept. Raises NotFound when the dataset is not
        known to be bad, else as :meth:`path` does.
        """
        entry, kept = self.keeping.rejected(dataset)
        digest = entry.digest
        if kept is None:
            there = replace(dataset, size=self.probe(dataset), md5="")
            kept, digest = self.path(there, place), ""
        path = self.keeping.accept(dataset, place, kept, digest)
        self._accepted_until = 0.0
        self.went_bad(dataset)  # whoever has pages of what was there before
        return path

    def known_path(self, dataset: Dataset) -> Path | None:
        """The verified file of a dataset if it is there, without any waiting."""
        return self.store.known(dataset)

    def may_have(self, dataset: Dataset, place: Place) -> bool:
        """Whether reading a dataset may need no server: it is there, or a file in its place is."""
        return self.store.look(dataset)[0] is not None or self.store.stands(dataset, place)

    def is_small(self, dataset: Dataset) -> bool:
        """Whether a dataset is fetched whole; one of unknown size is."""
        return dataset.size is None or dataset.size <= self._small_file

    def is_begun(self, dataset: Dataset, place: Place) -> bool:
        """Whether some blocks of a large dataset may be here, and no file to be checked first."""
        begun = not self.is_small(dataset) and bool(self._generation(dataset))
        return begun and not self.store.stands(dataset, place)

    def begin_reading(
        self, dataset: Dataset, place: Place, at: Place | None = None
    ) -> Reading | None:
        """Read the partial file of a large dataset, until :meth:`end_reading`.

        ``at``: for the file that is open there. None when it is complete. Raises BadContent,
        CacheError or DeadlineExceeded.
        """
        partial = self._partials.acquire(dataset, place, self._stall)
        if partial is None:
            return None
        if at is not None:
            self.versions.begin(at, dataset, partial.blocks.about.generation)
        if partial.may_be_complete():  # whoever brought the last block did not live to verify it
            self._follower.go_on(partial)
        return Reading(
            partial,
            self._scheduler,
            self._hosts,
            self._stall,
            lambda: self._room.farthest(FARTHEST),
            # ahead only while all that a reader's window may hold is within the hour's limit
            lambda size: self.meter.allows(max(size, FARTHEST)),
        )

    def end_reading(self, reading: Reading) -> None:
        """The end of what :meth:`begin_reading` began."""
        reading.close()
        self._partials.release(reading.partial)

    def complete(self, reading: Reading, watch: Callable[[int], None] | None = None) -> None:
        """Wait until a partial file is complete and verified.

        Raises as :meth:`path` does, and CacheFull for one that the cache cannot hold as a whole.
        """
        partial = reading.partial
        limit = self.limits.cache_size
        for _ in range(ROUNDS):
            if limit is not None and partial.blocks.about.size > limit:
                break
            self._bring_all(reading, watch)
            partial.unverified = None
            self._follower.go_on(partial)
            if self._await_verdict(partial):
                return
        raise CacheFull(f"{partial.dataset.name} is larger than what the cache has room for")

    def _bring_all(self, reading: Reading, watch: Callable[[int], None] | None) -> None:
        partial = reading.partial
        size, step = partial.blocks.about.size, partial.blocks.about.block_size
        told = 0.0
        for offset in range(0, size, step):
            length = min(step, size - offset)
            reading.bring(offset, length)
            if watch is not None and time.monotonic() > told + TOLD_EVERY:
                told = time.monotonic()
                watch(partial.blocks.present_bytes())

    def _await_verdict(self, partial: Partial) -> bool:
        """Wait for the verdict on a file that is good; False when blocks of it were evicted."""
        end = time.monotonic() + VERIFYING
        while partial.blocks.state() is State.LIVE:
            if not all(partial.blocks.records(0, partial.blocks.count)):
                return partial.blocks.state() is State.DONE
            if self._stopping.is_set():
                raise Stopping("onefs is being stopped")
            if partial.unverified is not None:
                raise again(partial.unverified)
            if time.monotonic() > end:
                raise DeadlineExceeded(f"{partial.dataset.name} takes too long to verify")
            self._follower.nudge()
            with partial.demand.condition:
                partial.demand.condition.wait(0.1)
        if partial.blocks.state() is State.BAD:
            verdict = self.store.verdict(partial.dataset)
            raise BadContent(verdict.reason if verdict is not None else "the bytes are wrong")
        if partial.unverified is not None:
            raise again(partial.unverified)
        if partial.blocks.state() is not State.DONE:
            raise Changed(f"{partial.dataset.name} {partial.gone}: open it again")
        return True

    def _fetch(self, run: Run) -> None:
        self._fetcher.fetch(run, self._scheduler, self._arrived)
        # what others have brought meanwhile may have been the last of it
        if not run.partial.demand.in_flight and run.partial.may_be_complete():
            self._follower.go_on(run.partial)

    def _arrived(self, run: Run, blocks: range) -> None:
        self._scheduler.arrived(run, blocks)
        self._follower.arrived(run.partial, blocks)

    def _is_open(self) -> bool:
        return not self._stopping.is_set()

    def went_bad(self, dataset: Dataset) -> None:
        """Have all pages of a dataset dropped, since its bytes are wrong."""
        self.versions.forget(dataset.id)
        self._on_bad(dataset)

    def _accepted_entry(self, dataset: Dataset) -> Entry | None:
        """The entry of the bytes that the user has accepted for a dataset, if any."""
        now = time.monotonic()
        if now > self._accepted_until:
            self._accepted_until, self._accepted = now + ACCEPTED_AGE, self.store.accepted()
        entry = self._accepted.get(dataset.id)
        if entry is None or (entry.claimed_size, entry.claimed_md5) != (dataset.size, dataset.md5):
            return None
        return entry

    def _generation(self, dataset: Dataset) -> str:
        if self.is_small(dataset):  # it has no partial file
            return ""
        about = read_about(self.store.partial_folder, dataset.id)
        return about.generation if about is not None else ""
