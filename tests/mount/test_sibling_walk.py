"""Which files are fetched ahead, for many ways of reading sessions. Without servers or mounts."""

from __future__ import annotations

import random
from collections.abc import Iterable
from itertools import chain
from posixpath import dirname

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from onefs.mount.sibling_walk import (
    FIRST_READS,
    MAX_DISORDER,
    MAX_WINDOW_BYTES,
    MAX_WINDOW_FILES,
    Entries,
    SessionFiles,
    SiblingWalk,
)
from onefs.tree.nodes import Node, NodeKind

LIMIT = 16 << 20
NO_BUDGET_LIMIT = 1 << 40


def session(top: str, counts: dict[str, int], size: int = 1000) -> SessionFiles:
    """A session with ``counts`` files in its folders, whose inode numbers are shuffled."""
    chance = random.Random(top)
    folders: dict[str, list[tuple[str, Node]]] = {top: []}
    for folder, count in counts.items():
        path = top
        for name in filter(None, folder.split("/")):
            children = folders.setdefault(path, [])
            if name not in [each for each, _ in children]:
                children.append((name, Node(NodeKind.DIRECTORY, chance.randrange(1 << 40))))
            path = f"{path}/{name}"
        folders.setdefault(path, []).extend(
            (f"file{index:03}.npy", Node(NodeKind.FILE, chance.randrange(1 << 40), size))
            for index in range(count)
        )
    listed: dict[str, Entries] = {path: sorted(names) for path, names in folders.items()}
    return SessionFiles(listed, top, LIMIT)


class Program:
    """A process that reads files of ``sessions``, and whose siblings are fetched at once."""

    def __init__(self, *sessions: SessionFiles, budget: int = NO_BUDGET_LIMIT) -> None:
        self.walk = SiblingWalk()
        self.sessions = sessions
        self.budget = budget
        self.cached: set[str] = set()
        self.cold: list[str] = []
        self.ahead: list[str] = []

    def read(self, *paths: str) -> Program:
        for path in paths:
            if path in self.cached:
                self.walk.note_hit(path)
            else:
                self.walk.note_cold_read(path)
                self.cold.append(path)
                self.cached.add(path)
            self._fetch()
        return self

    def _fetch(self) -> None:
        folder = self.walk.unknown_folder()
        for each in self.sessions:
            if folder and any(dirname(file.path) == folder for file in each.orders[0]):
                self.walk.learn(folder, each)
        while (file := self.walk.take_next(self.budget)) is not None:
            if file.path in self.cached:
                self.walk.note_skipped(file.path)
            else:
                self.ahead.append(file.path)
                self.cached.add(file.path)
            assert len(self.walk.unread) <= MAX_WINDOW_FILES
            assert sum(self.walk.unread.values()) <= min(MAX_WINDOW_BYTES, self.budget)

    @property
    def wasted(self) -> set[str]:
        """The files that were fetched ahead and never read."""
        return set(self.walk.unread)


class Threads(Program):
    """A process with eight threads that take the next of some files, and are unequally quick."""

    def read_in_threads(self, paths: list[str], chance: random.Random) -> Threads:
        waiting, taken = list(enumerate(paths)), list[tuple[int, str]]()
        while waiting or taken:
            while waiting and len(taken) < 4:
                taken.append(waiting.pop(0))
            number, path = taken.pop(chance.randrange(len(taken)))
            if path in self.cached:
                self.walk.note_hit(path, number % 8)
            else:
                self.walk.note_cold_read(path, number % 8)
                self.cold.append(path)
                self.cached.add(path)
            self._fetch()
        return self


def paths_of(files: SessionFiles, order: int = 0) -> list[str]:
    return [each.path for each in files.orders[order]]


def test_the_window_doubles_up_to_eight_files() -> None:
    files = session("/s", {"alf": 40})
    paths = paths_of(files)
    program, windows = Program(files), []
    for path in paths:
        program.read(path)
        windows.append(program.walk.window)
    assert windows[:8] == [0, 0, 1, 2, 4, 8, 8, 8]
    assert program.cold == paths[:FIRST_READS]
    assert program.ahead == paths[FIRST_READS:]
    assert program.wasted == set()


#: listing order, files before folders (os.walk), and inode order (cp -r)
@pytest.mark.parametrize("order", [0, 1, 2])
def test_a_program_that_reads_a_whole_session_goes_on_from_folder_to_folder(order: int) -> None:
    files = session("/s", {"": 2, "alf": 12, "alf/probe00": 9, "alf/probe01": 9, "raw": 5})
    paths = paths_of(files, order)
    program = Program(files).read(*paths)
    assert sorted([*program.cold, *program.ahead]) == sorted(paths)
    assert len(program.cold) <= 12, program.cold
    assert program.wasted == set()


@pytest.mark.parametrize("order", [0, 1, 2])
@pytest.mark.parametrize(
    "counts",
    [{"alf": 60}, {f"f{n}": 10 for n in range(6)}, {"alf": 25, "alf/probe00": 15, "raw": 20}],
)
def test_sixty_files_cost_a_quarter_of_the_round_trips(counts: dict[str, int], order: int) -> None:
    """A file arrives one round trip after the process asks for it, or after it is fetched ahead."""
    files = session("/s", counts)
    program, now, arrivals = Program(files), 0, dict[str, int]()
    for path in paths_of(files, order):
        program.read(path)
        for asked in {path, *program.ahead} - arrivals.keys():
            arrivals[asked] = now + 1
        now = max(now, arrivals[path])
    assert len(arrivals) == 60
    assert now <= 16


def test_orders_are_those_of_readdir_of_os_walk_and_of_cp() -> None:
    files = session("/s", {"": 1, "a": 1, "z": 1})
    assert paths_of(files, 0) == ["/s/a/file000.npy", "/s/file000.npy", "/s/z/file000.npy"]
    assert paths_of(files, 1) == ["/s/file000.npy", "/s/a/file000.npy", "/s/z/file000.npy"]
    entries = [("x", Node(NodeKind.FILE, 9, 5)), ("y", Node(NodeKind.FILE, 4, 5))]
    assert paths_of(SessionFiles({"/s": entries}, "/s", LIMIT), 2) == ["/s/y", "/s/x"]


def test_two_files_of_each_session_fetch_nothing() -> None:
    sessions = [session(f"/s{number}", {"alf": 40}) for number in range(300)]
    program = Program(*sessions)
    for files in sessions:
        program.read(*paths_of(files)[:2])
    assert program.ahead == []
    assert len(program.cold) == 600


def test_a_loop_that_skips_fetches_nothing() -> None:
    files = session("/s", {"alf": 60})
    for step in (2, 3, 7):
        assert Program(files).read(*paths_of(files)[::step]).ahead == []
    backwards = Program(files).read(*reversed(paths_of(files)))
    assert backwards.ahead == []


def test_a_loop_that_begins_to_skip_leaves_one_window_unread() -> None:
    files = session("/s", {"alf": 100})
    paths = paths_of(files)
    program = Program(files).read(*paths[:20], *paths[20::2])
    assert len(program.wasted) <= MAX_WINDOW_FILES
    assert len(program.ahead) <= 20 + 2 * MAX_WINDOW_FILES


def test_after_two_folders_with_unread_files_no_more_are_fetched() -> None:
    sessions = [session(f"/s{number}", {"alf": 40}) for number in range(9)]
    program = Program(*sessions)
    for files in sessions:
        program.read(*paths_of(files)[:4])
    # one is fetched after the third read, and two more after the fourth
    assert program.walk.has_ended
    assert len(program.ahead) == 2 * 3
    assert {dirname(path) for path in program.ahead} == {"/s0/alf", "/s1/alf"}


def test_a_folder_that_is_read_to_its_end_forgives_one_that_is_not() -> None:
    sessions = [session(f"/s{number}", {"alf": 20}) for number in range(12)]
    program = Program(*sessions)
    for number, files in enumerate(sessions):
        program.read(*paths_of(files)[: 5 if number % 2 else 20])
    assert not program.walk.has_ended
    assert {dirname(path) for path in program.ahead} == {f"/s{n}/alf" for n in range(12)}


def test_a_loop_over_one_folder_of_each_session_stays_in_that_folder() -> None:
    sessions = [session(f"/s{n}", {"alf": 20, "alf/probe00": 20, "raw": 20}) for n in range(5)]
    program = Program(*sessions)
    for files in sessions:
        program.read(*[path for path in paths_of(files) if dirname(path).endswith("/alf")])
    assert len(program.ahead) == 5 * (20 - FIRST_READS)
    assert program.wasted == set()
    assert not program.walk.has_ended


def test_files_that_cannot_be_fetched_are_passed_over() -> None:
    entries = [(f"f{n:02}", Node(NodeKind.FILE, n, 1000)) for n in range(20)]
    entries[4] = ("f04", Node(NodeKind.FILE, 4, LIMIT + 1))
    entries[5] = ("f05", Node(NodeKind.FILE, 5, 0))
    entries[6] = ("f06", Node(NodeKind.FILE, 6, None))
    entries[7] = ("f07", Node(NodeKind.LINK, 7, 10))
    files = SessionFiles({"/s": entries}, "/s", LIMIT)
    program = Program(files).read("/s/f00", "/s/f01", "/s/f02", "/s/f03")
    assert program.ahead == ["/s/f03", "/s/f08", "/s/f09"]


def test_a_file_that_is_refused_is_the_next_one_again() -> None:
    """A file after it would be read later, and takes bytes that the refused one needs first."""
    files = session("/a", {"": 10})
    paths, walk = paths_of(files), SiblingWalk()
    for path in paths[:FIRST_READS]:
        walk.note_cold_read(path)
    walk.learn("/a", files)
    for _ in range(2):
        file = walk.take_next(NO_BUDGET_LIMIT)
        assert file is not None
        assert file.path == paths[FIRST_READS]
        walk.note_refused(file.path)
    assert not walk.unread


def test_the_bytes_ahead_are_bounded() -> None:
    files = session("/s", {"alf": 30}, size=6 << 20)
    program = Program(files).read(*paths_of(files)[:9])
    assert len(program.walk.unread) == 5  # 30 MiB
    program = Program(files, budget=(6 << 20) - 1).read(*paths_of(files))
    assert program.ahead == []


def test_a_failure_spares_the_rest_of_the_folder() -> None:
    files = session("/s", {"alf": 30, "raw": 30})
    paths = paths_of(files)
    program = Program(files).read(*paths[:3])
    program.walk.note_failure(program.ahead[0])
    assert program.read(*paths[4:30]).ahead == paths[3:4]
    assert program.read(*paths[30:]).ahead[1:] == paths[33:]


def test_a_file_that_is_read_twice_counts_once() -> None:
    files = session("/s", {"alf": 30})
    paths = paths_of(files)
    program = Program(files)
    for path in paths[:2]:
        for _ in range(3):  # as several requests of the kernel for one file
            program.walk.note_cold_read(path)
    program._fetch()
    assert program.ahead == []


@pytest.mark.parametrize("seed", range(5))
def test_threads_that_read_nearly_in_order_read_in_order(seed: int) -> None:
    files = session("/s", {"alf": 100})
    chance = random.Random(seed)
    program = Threads(files).read_in_threads(paths_of(files), chance)
    assert len(program.ahead) >= 60
    assert program.wasted == set()
    one = Program(files).read(*(paths_of(files)[index] for index in (1, 0, 2, 4, 3, 5)))
    assert one.ahead == []  # one thread that reads so does not read in order


@pytest.mark.parametrize("seed", range(5))
def test_threads_that_skip_files_read_all_that_is_fetched(seed: int) -> None:
    sessions = [session(f"/s{number}", {"alf": 60}) for number in range(10)]
    chance = random.Random(seed)
    two = [path for files in sessions for path in paths_of(files)[:2]]
    assert Threads(*sessions).read_in_threads(two, chance).ahead == []
    skips = Threads(*sessions).read_in_threads(paths_of(sessions[0])[::2], chance)
    assert skips.wasted == set()


def test_memory_does_not_grow_with_the_number_of_sessions() -> None:
    program = Program()
    for number in range(5000):
        program.read(f"/s{number}/a", f"/s{number}/b")
    walk = program.walk
    remembered = (walk._read, walk._skipped, walk._failed_folders)
    assert sum(map(len, remembered)) <= MAX_DISORDER + FIRST_READS


@settings(deadline=None, max_examples=60)
@given(st.data())
def test_any_order_of_reads_keeps_the_bounds(data: st.DataObject) -> None:
    counts = st.dictionaries(
        st.sampled_from(["", "alf", "alf/p", "raw"]), st.integers(1, 12), min_size=1
    )
    sessions = [session(f"/s{n}", data.draw(counts)) for n in range(data.draw(st.integers(1, 4)))]
    everything = list(chain.from_iterable(paths_of(each) for each in sessions))
    runs: list[list[str]] = []
    for _ in range(data.draw(st.integers(1, 8))):
        start = data.draw(st.integers(0, len(everything) - 1))
        runs.append(everything[start : start + data.draw(st.integers(1, 12))])
    program = Program(*sessions, budget=data.draw(st.sampled_from([0, 2500, NO_BUDGET_LIMIT])))
    program.read(*chain.from_iterable(runs))
    assert_no_file_moves_twice(program.cold, program.ahead)
    # in each run of reads in order, at most one window is fetched for nothing
    assert len(program.wasted) <= MAX_WINDOW_FILES
    if program.budget == 0:
        assert program.ahead == []


def assert_no_file_moves_twice(cold: Iterable[str], ahead: Iterable[str]) -> None:
    moved = [*cold, *ahead]
    assert len(moved) == len(set(moved))
