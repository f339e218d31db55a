"""Read-ahead in simulated reads: what is fetched, beside what a program reads."""

from __future__ import annotations

import random
from collections.abc import Iterable, Iterator

import pytest

from onefs.blocks.block_map import BLOCK_SIZE
from onefs.blocks.readahead import MAX_READAHEAD_BYTES, MAX_REQUEST_BYTES, Readahead

KIB, MIB = 1 << 10, 1 << 20
#: the kernel asks for this many bytes at a time, and for one such piece after the next
PIECE = 128 * KIB
SIZE = 1 << 30

Part = tuple[int, int]


class SimulatedFile:
    """One open file, whose requests are answered at once.

    Each part that a program reads, as its offset and its length, becomes the kernel's requests.
    """

    def __init__(self, size: int = SIZE, max_bytes: int = MAX_READAHEAD_BYTES) -> None:
        self.readahead = Readahead(size, BLOCK_SIZE, lambda: max_bytes)
        self.size = size
        #: blocks that were fetched, and those of them that were fetched ahead of a read
        self.fetched: set[int] = set()
        self.ahead: set[int] = set()
        self.requests: list[Part] = []
        #: bytes that programs have read
        self.read_bytes = 0

    def ask(self, offset: int, length: int = PIECE) -> None:
        """Answer one request of the kernel."""
        length = min(length, self.size - offset)
        if length <= 0:
            return
        window = self.readahead.advance(offset, length)
        window.find_limit()
        planned = window.plan_requests() if window.has_requests() else []
        wanted = range(offset // BLOCK_SIZE, -(-(offset + length) // BLOCK_SIZE))
        for first, last in planned:
            assert 0 < (last - first) * BLOCK_SIZE <= MAX_REQUEST_BYTES
            assert last * BLOCK_SIZE < self.size + BLOCK_SIZE
            self.ahead.update(set(range(first, last)) - self.fetched - set(wanted))
            self.fetched.update(range(first, last))
        self.requests += planned
        self.fetched.update(wanted)

    def read(self, part: Part) -> None:
        for offset in pieces(part):
            self.ask(offset)
        self.read_bytes += part[1]

    @property
    def moved_bytes(self) -> int:
        return sum(min(BLOCK_SIZE, self.size - block * BLOCK_SIZE) for block in self.fetched)

    @property
    def bound(self) -> float:
        return 1.25 * self.read_bytes + MIB


def pieces(part: Part) -> Iterator[int]:
    """Yield the offsets of the kernel's requests for a part: at most two more than it needs."""
    start = part[0] // 4096 * 4096
    return iter(range(start, start + (part[1] // PIECE + 2) * PIECE, PIECE))


def in_parts(length: int, stride: int, start: int = 4 * MIB + 777) -> list[Part]:
    """Return a header, and all parts of ``length`` bytes that begin ``stride`` bytes apart."""
    return [(0, 100), *((offset, length) for offset in range(start, SIZE - length, stride))]


def at_random(seed: int) -> list[Part]:
    """Return parts of 2 to 16 MiB in any order."""
    chance = random.Random(seed)
    lengths = [chance.randrange(2 * MIB, 16 * MIB) for _ in range(50)]
    return [(chance.randrange(SIZE - length), length) for length in lengths]


def backwards(length: int) -> list[Part]:
    return [(offset, length) for offset in range(SIZE - 2 * length, SIZE // 2, -length)]


@pytest.mark.parametrize(
    "parts",
    [
        [(0, SIZE)],
        [(0, 7 * MIB), (SIZE - 7 * MIB, 7 * MIB)],
        [(0, 100), (SIZE - 56_000, 56_000)],
        [(0, 100), (SIZE // 2 + 5, 11 * MIB)],
        [(0, 100), (200 * MIB + 5, MIB), (300 * MIB, MIB)],
        in_parts(MIB, 10 * MIB)[:8],
        in_parts(2 * MIB, 10 * MIB),
        in_parts(4 * MIB + 5, 41 * MIB + 9),
        in_parts(11 * MIB, 23 * MIB),
        backwards(2 * MIB),
        backwards(8 * MIB),
        *map(at_random, range(5)),
    ],
)
def test_a_quarter_more_and_one_mib_are_fetched_at_most(parts: list[Part]) -> None:
    file = SimulatedFile()
    for part in parts:
        file.read(part)
        assert file.moved_bytes <= file.bound


def test_of_many_short_parts_nothing_is_fetched_ahead() -> None:
    """Each costs what the kernel asks for, in whole blocks."""
    file = SimulatedFile()
    parts = in_parts(MIB, 5 * MIB)
    for part in parts:
        file.read(part)
    assert file.moved_bytes <= len(parts) * (MIB + 2 * PIECE + 2 * BLOCK_SIZE)
    late = {block for block in file.ahead if block * BLOCK_SIZE > 100 * MIB}
    assert late == set()


def test_random_reads_fetch_their_blocks_and_nothing_else() -> None:
    file, chance = SimulatedFile(), random.Random(1)
    for _ in range(300):
        file.ask(chance.randrange(SIZE // 4096) * 4096, 4096)
    assert file.requests == []
    assert len(file.fetched) <= 300


def test_a_stream_after_many_jumps_is_read_ahead_soon() -> None:
    file, chance = SimulatedFile(), random.Random(1)
    for _ in range(1000):
        file.ask(chance.randrange(SIZE // 8192) * 4096, 16 * KIB)
    assert file.requests == []
    for offset in range(SIZE // 2, SIZE // 2 + 96 * MIB, PIECE):
        file.ask(offset)
    [(first, _), *_, (_, last)] = file.requests
    assert first * BLOCK_SIZE - SIZE // 2 <= 6 * MIB
    assert last * BLOCK_SIZE - offset >= MAX_REQUEST_BYTES


@pytest.mark.parametrize("stride", [300 * KIB, 900 * KIB])
def test_a_stream_after_a_pass_in_steps_is_read_ahead_soon(stride: int) -> None:
    """The pass skips most of the file, in steps so short that it seems sequential."""
    file = SimulatedFile()
    for offset in range(0, SIZE, stride):
        file.ask(offset, 16 * KIB)
    assert len(file.requests) < 3
    before = len(file.requests)
    for offset in range(0, 64 * MIB, PIECE):
        file.ask(offset)
    [(first, _), *_, (_, last)] = file.requests[before:]
    assert first * BLOCK_SIZE <= 6 * MIB
    assert last * BLOCK_SIZE - offset >= MAX_REQUEST_BYTES


def test_reads_at_smaller_and_smaller_offsets_fetch_nothing_ahead() -> None:
    file = SimulatedFile()
    for offset in range(SIZE - PIECE, SIZE // 2, -PIECE):
        file.ask(offset)
    assert file.ahead == set()


def test_a_sequential_reader_waits_for_few_blocks() -> None:
    """The window doubles at first, and ends as long as it may be; the requests get long too."""
    file = SimulatedFile()
    for offset in range(0, 2 * MIB, PIECE):
        file.ask(offset)
    assert len(file.ahead) >= 0.75 * len(file.fetched)
    for offset in range(2 * MIB, SIZE, PIECE):
        file.ask(offset)
    assert file.fetched == set(range(SIZE // BLOCK_SIZE))
    assert len(file.ahead) > 0.99 * len(file.fetched)
    assert len(file.requests) < 220
    assert max(last - first for first, last in file.requests) == MAX_REQUEST_BYTES // BLOCK_SIZE


def test_a_sequential_reader_of_a_medium_file_needs_few_requests() -> None:
    """Each request costs as much processor time as a MiB of the file."""
    file = SimulatedFile(128 * MIB)
    file.read((0, 128 * MIB))
    assert len(file.requests) < 60


def test_of_a_whole_file_the_window_doubles_until_it_is_as_long_as_it_may_be() -> None:
    file = SimulatedFile()
    file.readahead.is_whole = True
    step = 4 * PIECE
    for offset in range(0, MAX_READAHEAD_BYTES + MAX_REQUEST_BYTES, step):
        file.ask(offset, step)
        read = offset + step
        if read >= 2 * MIB:
            farthest = (max(file.fetched) + 1) * BLOCK_SIZE
            assert farthest - read >= min(read // 2, MAX_READAHEAD_BYTES - MAX_REQUEST_BYTES)


def test_the_window_is_as_long_as_it_may_be_and_not_longer() -> None:
    for longest in (MAX_READAHEAD_BYTES, 3 * MIB, 0):
        file = SimulatedFile(max_bytes=longest)
        farthest = 0
        for offset in range(0, SIZE // 2, PIECE):
            file.ask(offset)
            farthest = max(farthest, (max(file.fetched) + 1) * BLOCK_SIZE - offset - PIECE)
        assert longest - MAX_REQUEST_BYTES <= farthest <= longest


def interleaved(*starts: int) -> Iterable[int]:
    for step in range(0, 60 * MIB, PIECE):
        for start in starts:
            yield start + step


@pytest.mark.parametrize("count", [2, 5, 8])
def test_interleaved_readers_are_all_sequential(count: int) -> None:
    file = SimulatedFile()
    for offset in interleaved(*range(0, SIZE - SIZE // count + 1, SIZE // count)):
        file.ask(offset)
        file.read_bytes += PIECE
    assert file.moved_bytes <= file.bound
    assert len(file.ahead) > 0.95 * len(file.fetched)


def test_more_readers_than_windows_fetch_nothing_twice_or_in_vain() -> None:
    file = SimulatedFile()
    for offset in interleaved(*range(0, SIZE, SIZE // 8 // 4)):
        file.ask(offset)
        file.read_bytes += PIECE
    assert file.moved_bytes <= file.bound


@pytest.mark.parametrize("distance", [1, 2, 4])
def test_requests_that_arrive_in_another_order_are_sequential_too(distance: int) -> None:
    file = SimulatedFile()
    chance = random.Random(distance)
    offsets = list(range(0, 200 * MIB, PIECE))
    for start in range(0, len(offsets), distance + 1):
        group = offsets[start : start + distance + 1]
        for offset in chance.sample(group, len(group)):
            file.ask(offset)
            file.read_bytes += PIECE
    assert file.moved_bytes <= file.bound
    assert len(file.ahead) > 0.9 * len(file.fetched)


def test_the_bytes_that_a_reader_skips_count_as_not_read() -> None:
    """A reader that reads 128 of each 640 KiB seems sequential, but most blocks are in vain."""
    file = SimulatedFile()
    for offset in range(0, SIZE, 5 * PIECE):
        file.ask(offset)
        file.read_bytes += PIECE
    assert file.moved_bytes <= file.bound


def test_skipped_bytes_count_as_read_when_they_are_read_and_only_once() -> None:
    readahead = Readahead(SIZE, BLOCK_SIZE, lambda: MAX_READAHEAD_BYTES)
    readahead.advance(0, MIB)
    window = readahead.advance(MIB + 4 * PIECE, PIECE)
    earned = window.earned_bytes()
    for _ in range(4):  # these bytes were read before
        assert readahead.advance(MIB - PIECE, PIECE) is window
    assert window.earned_bytes() == earned
    for _ in range(4):
        assert readahead.advance(MIB - PIECE // 2, PIECE) is window
    assert window.earned_bytes() == earned + PIECE // 2 + PIECE // 8


def test_blocks_that_were_planned_stay_wanted_until_they_are_read() -> None:
    readahead = Readahead(SIZE, BLOCK_SIZE, lambda: MAX_READAHEAD_BYTES)
    for offset in range(0, 8 * MIB, PIECE):
        window = readahead.advance(offset, PIECE)
        window.find_limit()
        window.plan_requests()
    first, last = window.wanted_range()
    assert (first, last) == (8 * MIB // BLOCK_SIZE, max(last, window.planned_until))
    for part in range(1, 4):  # other windows use up the budget
        readahead.advance(part * 100 * MIB, PIECE)
    assert window.wanted_range()[1] >= window.planned_until


def test_a_reader_that_skips_bytes_which_were_requested_continues_its_window() -> None:
    """Other open files have filled the kernel's pages, so the kernel does not ask for them here."""
    file = SimulatedFile()
    for offset in range(0, 32 * MIB, PIECE):
        file.ask(offset)
    [window] = file.readahead.windows
    assert window.planned_until * BLOCK_SIZE > 36 * MIB
    file.ask(35 * MIB)
    assert file.readahead.windows == [window]
    assert window.wanted_range()[1] >= window.planned_until
    for offset in range(35 * MIB + PIECE, SIZE // 2, PIECE):
        file.ask(offset)
    assert len(file.readahead.windows) == 1


def test_no_lock_is_held_while_the_limit_is_found() -> None:
    """It may wait for other processes, and readers of other files wait for the lock."""
    held: list[bool] = []

    def limit() -> int:
        held.append(readahead.lock.locked())
        return MAX_READAHEAD_BYTES

    readahead = Readahead(SIZE, BLOCK_SIZE, limit)
    for offset in (0, PIECE, 2 * PIECE):
        with readahead.lock:
            window = readahead.advance(offset, PIECE)
        window.find_limit()
    assert held == [False]


def test_a_block_that_was_lost_is_planned_again_with_those_after_it() -> None:
    file = SimulatedFile()
    for offset in range(0, 8 * MIB, PIECE):
        file.ask(offset)
    [window] = file.readahead.windows
    planned, at = window.planned_until, 8 * MIB // BLOCK_SIZE
    assert planned > at
    window.note_lost(planned, 8 * MIB)  # it was not planned
    window.note_lost(at - 1, 8 * MIB - PIECE)  # the read goes back
    assert window.planned_until == planned
    window.note_lost(at, 8 * MIB)
    assert window.has_requests()
    requests = window.plan_requests()
    assert requests[0][0] == at
    assert window.planned_until >= planned - 512 * KIB // BLOCK_SIZE
