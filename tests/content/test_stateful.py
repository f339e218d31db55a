"""Reads, faults, evictions and restarts in any order give the right bytes or an OnefsError."""

from __future__ import annotations

import os
import shutil
import tempfile
from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from onefs.cache.reservations import CacheLimits
from onefs.cache.sparse import allocated_size
from onefs.content.content import Content
from onefs.download.sources.http import HttpSource
from onefs.errors import OnefsError
from onefs.http import HostAuth, Transport
from onefs.model import Dataset
from scripts.benchmarks.shared import disk_bytes
from tests.cache.test_reservations import RECORDS_SIZE
from tests.content.conftest import place_of
from tests.content.ranged_file import (
    BLOCK,
    HandleReader,
    dataset_of,
    served,
    some_bytes,
)
from tests.running import wait_until
from tests.scripted_server import (
    Script,
    ScriptedConnection,
    ScriptedServer,
    answer,
)

BODIES = [some_bytes(9 * BLOCK + 5, seed=1), some_bytes(6 * BLOCK, seed=2), some_bytes(57_777)]
LIMIT = 8 * BLOCK

FAULTS = st.sampled_from(["reset", "cut", "404", "500", "page", "no ranges", "range", "refuse"])


class Remote:
    """A server with three files. A test can choose the next fault for each file."""

    def __init__(self) -> None:
        self.faults: dict[int, str] = {}
        self.server = ScriptedServer(
            {f"/{number}.npy": self._script(number) for number in range(3)}
        )
        self.server.__enter__()

    def datasets(self) -> list[Dataset]:
        return [dataset_of(self.server, body, f"/{n}.npy") for n, body in enumerate(BODIES)]

    def _script(self, number: int) -> Script:
        body = BODIES[number]

        def script(talk: ScriptedConnection) -> None:
            fault = self.faults.pop(number, "")
            scripts: dict[str, Script] = {
                "": served(body),
                "reset": served(body, cut=BLOCK + 100, then=ScriptedConnection.reset),
                "cut": served(body, cut=70_000),
                "404": answer(b"", 404),
                "500": answer(b"", 500),
                "page": answer(b"<html>", Content_Type="text/html"),
                "no ranges": served(body, ranges=False),
                "range": answer(body[:BLOCK], 206, Content_Range=f"bytes 1-{BLOCK}/{len(body)}"),
                "refuse": lambda talk: talk.hang_up(),
            }
            scripts[fault](talk)

        return script


class Cache(RuleBasedStateMachine):
    """The model of the test. It asserts that every served byte is the byte on the server."""

    #: how many reads of all runs were compared with the server's bytes
    compared_reads = 0

    def __init__(self) -> None:
        super().__init__()
        self.folder = Path(tempfile.mkdtemp(prefix="onefs-test-"))
        self.remote = Remote()
        self.datasets = self.remote.datasets()
        self.contents: list[Content] = []
        self.transports: list[Transport] = []
        self.readers: list[tuple[int, HandleReader]] = []
        self.faulty = self.rotten = False
        #: the bytes of the files that other programs stored, by their ONE paths; then the datasets
        #: that were cached when they were pinned
        self.foreign: dict[Path, bytes] = {}
        self.pinned: set[int] = set()
        self.pins: set[int] = set()

    def teardown(self) -> None:
        for _, reader in self.readers:
            reader.handle.close()
        if self.contents:
            wait_until(self._counts_what_is_there, what="the count is not what is there")
        for content, transport in zip(self.contents, self.transports, strict=True):
            _close(content, transport)
        self.remote.server.__exit__()
        shutil.rmtree(self.folder)

    @initialize(is_cold=st.booleans())
    def begin(self, is_cold: bool) -> None:
        self._open(0)
        self._open(1)
        for number in range(3):  # so that reads are among the rules from the first step on
            self.open(which=number % 2, number=number)
        if not is_cold:
            self.read(which=0, start=0, length=BLOCK)

    @rule(which=st.integers(0, 1), number=st.integers(0, 2))
    def open(self, which: int, number: int) -> None:
        dataset = self.datasets[number]
        self.readers.append((number, HandleReader(self.contents[which], dataset)))

    @precondition(lambda self: self.readers)
    @rule(
        which=st.integers(0, 99),
        start=st.integers(0, 10 * BLOCK),
        length=st.integers(1, 3 * BLOCK),
    )
    def read(self, which: int, start: int, length: int) -> None:
        number, reader = self.readers[which % len(self.readers)]
        body = BODIES[number]
        try:
            found = reader.read(start, length)
        except OnefsError:
            assert self.faulty, "an error without a fault"
            return
        assert found == body[start : start + length]
        Cache.compared_reads += 1

    @precondition(lambda self: self.readers)
    @rule(which=st.integers(0, 99))
    def close(self, which: int) -> None:
        _, reader = self.readers.pop(which % len(self.readers))
        reader.handle.close()

    @rule(number=st.integers(0, 2), fault=FAULTS)
    def break_next_answer(self, number: int, fault: str) -> None:
        self.faulty = True
        self.remote.faults[number] = fault

    @rule(which=st.integers(0, 1), number=st.integers(0, 2))
    def evict(self, which: int, number: int) -> None:
        self.contents[which].admin.evict(self.datasets[number].id)

    @rule(which=st.integers(0, 1), number=st.integers(0, 2), good=st.booleans())
    def another_program_stores_a_file(self, which: int, number: int, good: bool) -> None:
        """Store a file at its ONE path, as a user or ONE-api does.

        The cache must never change this file.
        """
        path = self.contents[which].store.final_path(place_of(self.datasets[number]))
        if path.exists():
            return
        path.parent.mkdir(parents=True, exist_ok=True)
        self.foreign[path] = BODIES[number] if good else BODIES[number][::-1]
        path.write_bytes(self.foreign[path])

    @rule(which=st.integers(0, 1), number=st.integers(0, 2))
    def pin(self, which: int, number: int) -> None:
        self.contents[which].admin.pin(self.datasets[number].id)
        self.pins.add(number)
        if self.contents[which].cached_path(self.datasets[number]) is not None:
            self.pinned.add(number)

    @rule(which=st.integers(0, 1), number=st.integers(0, 2))
    def unpin(self, which: int, number: int) -> None:
        self.contents[which].admin.unpin(self.datasets[number].id)
        self.pins.discard(number)
        self.pinned.discard(number)

    @rule(which=st.integers(0, 1))
    def verify(self, which: int) -> None:
        """Verify all files. A wrong file is removed. Only a power loss makes a file wrong."""
        found = list(self.contents[which].admin.verify())
        assert self.rotten or all(checked.good for checked in found)
        assert all(checked.good for checked in self.contents[which].admin.verify())

    @rule(which=st.integers(0, 1))
    def restart(self, which: int) -> None:
        """Close one of the two Contents, and open it again."""
        self.readers = [
            (number, reader) for number, reader in self.readers if self._keep(which, reader)
        ]
        _close(self.contents[which], self.transports[which])
        self._open(which)

    @rule(number=st.integers(0, 1), block=st.integers(0, 9), offset=st.integers(0, BLOCK - 1))
    def lose_power(self, number: int, block: int, offset: int) -> None:
        """End all processes, and write a zero byte into a partial file, as a power loss may do."""
        self.rotten = True
        for _, reader in self.readers:
            reader.handle.close()
        self.readers.clear()
        for which in (0, 1):
            _close(self.contents[which], self.transports[which])
        for path in (self.folder / "cache/.onefs/partial").glob(f"{self.datasets[number].id}*data"):
            position = min(block * BLOCK + offset, len(BODIES[number]) - 1)
            # a byte in a hole would take space that nothing counts
            with path.open("r+b") as file, suppress(OSError):
                if os.lseek(file.fileno(), position, os.SEEK_DATA) == position:
                    os.pwrite(file.fileno(), b"\0", position)
        for which in (0, 1):
            self._open(which)

    @invariant()
    def keeps_to_its_limit(self) -> None:
        if self.contents:
            held = sum(3 * BLOCK + 2 * BLOCK for _ in self.readers)
            pinned = sum(len(BODIES[number]) for number in self.pins)
            assert self.contents[0].total_bytes() <= LIMIT + held + pinned + len(BODIES[2]) + BLOCK

    @invariant()
    def leaves_alone_what_is_not_its_own(self) -> None:
        for path, body in self.foreign.items():
            assert path.read_bytes() == body

    @invariant()
    def keeps_what_is_pinned(self) -> None:
        for number in self.pinned:
            assert self.contents[0].cached_path(self.datasets[number]) is not None

    def _counts_what_is_there(self) -> bool:
        ledger = self.contents[0].store.usage
        there = disk_bytes(self.folder / "cache") - sum(map(allocated_size, self.foreign))
        return (
            ledger.reserved_bytes() == 0
            and there - RECORDS_SIZE <= ledger.total_bytes() <= there + RECORDS_SIZE
        )

    def _keep(self, which: int, reader: HandleReader) -> bool:
        mine = reader.content is self.contents[which]
        if mine:
            reader.handle.close()
        return not mine

    def _open(self, which: int) -> None:
        transport = Transport()
        content = Content(
            self.folder / "cache",
            "lab.org",
            lambda: HttpSource(transport, HostAuth(None)),
            stall=5.0,
            small_file=100_000,
            limits=CacheLimits(LIMIT),
        )
        self.contents[which : which + 1] = [content]
        self.transports[which : which + 1] = [transport]


def _close(content: Content, transport: Transport) -> None:
    content.close()
    transport.close()
    content.close_store()


def run(examples: int, steps: int, *, always_the_same: bool = False) -> None:
    """Run the state machine. Its rules and invariants assert; some of its reads must succeed."""
    before = Cache.compared_reads
    run_state_machine_as_test(
        Cache,
        settings=settings(
            max_examples=examples,
            stateful_step_count=steps,
            deadline=None,
            database=None,
            derandomize=always_the_same,
            suppress_health_check=list(HealthCheck),
        ),
    )
    assert Cache.compared_reads > before


def test_any_order_of_reads_faults_evictions_and_restarts() -> None:
    # the long test tries other orders each time
    run(examples=12, steps=20, always_the_same=True)


@pytest.mark.long
@pytest.mark.timeout(900)
def test_any_order_at_length() -> None:
    run(examples=150, steps=50)
