"""Files that are fetched before a program reads them."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import replace

import pytest
from werkzeug import Request, Response

from onefs.cache.reservations import CacheLimits
from onefs.cache.sparse import disk_size
from onefs.content.content import Content
from onefs.content.fetch_ahead import fetch_ahead
from onefs.content.fetch_ahead import fetch_ahead_budget as budget
from onefs.download.body import LinkSpeed
from onefs.errors import (
    BadContent,
    DeadlineExceeded,
    FetchLimit,
    OnefsError,
    ServerError,
    Throttled,
    Unreachable,
)
from onefs.model import Dataset, Replica
from tests.call_counts import counted_calls
from tests.content.conftest import FileServer, Open, place_of
from tests.content.ranged_file import read_all, some_bytes
from tests.running import wait_until

SIZE = 100_000
BYTES = some_bytes(SIZE)


def fetch(content: Content, dataset: Dataset) -> bool | None:
    return fetch_ahead(content, dataset, place_of(dataset))


def is_unused(content: Content, dataset: Dataset) -> bool:
    return content.store.records.is_unused(dataset.id)


class Gate:
    """Lets a file server begin its answers for a file, and finish them when the gate is open."""

    def __init__(self, server: FileServer, path: str, data: bytes) -> None:
        self.is_open = threading.Event()
        #: whether more than one byte comes through the open gate
        self.is_wide = threading.Event()
        self.is_wide.set()
        #: how many answers have begun
        self.begun_count = 0
        self._data = data
        server.files[path] = self._serve

    def _serve(self, request: Request) -> Response:
        half = len(self._data) // 2

        def chunks() -> Iterator[bytes]:
            yield self._data[:half]
            self.begun_count += 1
            self.is_open.wait(60)
            yield self._data[half : half + 1]
            self.is_wide.wait(60)
            yield self._data[half + 1 :]

        return Response(chunks(), headers={"Content-Length": str(len(self._data))})


@contextmanager
def fetching(content: Content, dataset: Dataset) -> Iterator[list[object]]:
    """Fetch a file ahead on another thread. Yield a list that gets the result or the error."""
    outcome: list[object] = []

    def run() -> None:
        try:
            outcome.append(fetch(content, dataset))
        except OnefsError as error:
            outcome.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    try:
        yield outcome
    finally:
        thread.join(60)
        assert not thread.is_alive()


def test_a_file_that_was_fetched_ahead_is_verified_and_read_without_a_request(
    open_content: Open, server: FileServer
) -> None:
    content, dataset = open_content(), server.dataset("a.b.npy", BYTES)
    assert fetch(content, dataset)
    assert content.state(dataset) == ("cached", "")
    assert not fetch(content, dataset)
    assert read_all(content, dataset) == BYTES
    assert server.asked == ["/a.b.npy"]


def test_the_budget_counts_no_blocks_and_is_none_while_a_large_file_is_read(
    open_content: Open, server: FileServer
) -> None:
    content = open_content(small_file=SIZE)
    large = server.dataset("large.b.npy", BYTES * 3)
    gate = Gate(server, "/large.b.npy", BYTES * 3)
    with ExitStack() as ends:
        handle = content.open(large, place_of(large))
        ends.callback(handle.close)
        reader = threading.Thread(target=handle.wait_fd, args=(0, 10))
        reader.start()
        ends.callback(reader.join, 60)
        ends.callback(gate.is_open.set)
        wait_until(lambda: gate.begun_count > 0)
        with counted_calls() as calls:
            assert budget(content, 0, place_of(server.dataset("a.b.npy", BYTES))) == 0
            assert budget(content, 0, place_of(large)) > 0
        assert calls["block_map.records"] == calls["block_map.present_bytes"] == 0
        assert [each.path for each in content.transfers()] == ["/".join(place_of(large))]
    assert read_all(content, large) == BYTES * 3


def test_what_was_never_read_is_evicted_first(open_content: Open, server: FileServer) -> None:
    content = open_content(limits=CacheLimits(cache_size=3 * disk_size(SIZE) + SIZE // 2))
    used, ahead, hit, last = (server.dataset(f"{n}.b.npy", some_bytes(SIZE, n)) for n in range(4))
    read_all(content, used)
    assert fetch(content, ahead)
    assert fetch(content, hit)
    os.utime(content.store.records._path(used.id), (1e9, 1e9))  # it was used long ago
    read_all(content, hit)
    read_all(content, last)
    states = [content.state(each)[0] for each in (used, ahead, hit, last)]
    assert states == ["cached", "remote", "cached", "cached"]


def test_wrong_bytes_are_dropped_and_the_reader_tries_anew(
    open_content: Open, server: FileServer
) -> None:
    content, dataset = open_content(), server.dataset("a.b.npy", BYTES)
    server.put("a.b.npy", BYTES[:-1] + b"x")
    with pytest.raises(BadContent):
        fetch(content, dataset)
    assert content.state(dataset) == ("remote", "")
    server.put("a.b.npy", BYTES)
    assert read_all(content, dataset) == BYTES
    assert len(server.asked) == 2


@pytest.mark.parametrize(
    ("status", "headers", "kind", "pauses"),
    [
        (404, {}, ServerError, False),
        (503, {}, OnefsError, True),
        (429, {"Retry-After": "300"}, Throttled, True),
        pytest.param(0, {}, DeadlineExceeded, True, marks=pytest.mark.long),
    ],
)
def test_a_failure_pauses_siblings_and_has_no_effect_on_reads(
    open_content: Open,
    server: FileServer,
    status: int,
    headers: dict[str, str],
    kind: type[OnefsError],
    pauses: bool,
) -> None:
    content = open_content(stall=60.0 if status else 5.0)  # half of it for a fetch ahead
    dataset = server.dataset("a.b.npy", BYTES)
    other = server.dataset("other.b.npy", BYTES[::-1])
    good, ranges, ending = server.files["/a.b.npy"], list[str | None](), threading.Event()

    def fail(request: Request) -> Response:
        ending.wait(0 if status else 60)
        return Response("no", status or 500, headers)

    server.files["/a.b.npy"] = fail
    try:
        with pytest.raises(kind):
            fetch(content, dataset)
        assert len(server.asked) == 1
        assert content.state(dataset) == ("remote", "")
        assert content.small_files.can_fetch_ahead(other) is not pauses
        assert fetch(content, other) is not pauses

        def serve(request: Request) -> Response:
            ranges.append(request.headers.get("Range"))
            return good(request)

        server.files["/a.b.npy"] = serve
        assert read_all(content, dataset) == BYTES
        assert ranges == [None]  # one request, and no probe
    finally:
        ending.set()
    with FileServer.running() as elsewhere:
        assert not status or fetch(content, elsewhere.dataset("third.b.npy", BYTES))


def test_the_next_replica_is_tried_if_one_fails(open_content: Open, server: FileServer) -> None:
    """As with a bucket that answers 400 for all files."""
    server.files["/bad.npy"] = lambda request: Response("no", 400)
    bad = Replica("aws_lab", f"{server.listener.url}/bad.npy")
    dataset = server.dataset("a.b.npy", BYTES)
    dataset = replace(dataset, replicas=(bad, *dataset.replicas))
    content = open_content()
    assert fetch(content, dataset)
    assert server.asked == ["/bad.npy", "/a.b.npy"]
    assert read_all(content, dataset) == BYTES
    content.small_files._hosts.pause_ahead(bad.url, Unreachable("no such host"))
    assert not content.small_files.can_fetch_ahead(dataset)


def test_a_reader_that_waits_for_a_failing_fetch_downloads_the_file_itself(
    open_content: Open, server: FileServer
) -> None:
    content, dataset = open_content(), server.dataset("a.b.npy", BYTES)
    good, failing = server.files["/a.b.npy"], threading.Event()
    answers = [lambda: failing.wait(60) and Response("no", 404)]

    def serve(request: Request) -> Response:
        return answers.pop()() or Response("late", 500) if answers else good(request)

    server.files["/a.b.npy"] = serve
    errors: list[Exception] = []
    results: list[bytes] = []

    def run_ahead() -> None:
        try:
            fetch(content, dataset)
        except ServerError as error:
            errors.append(error)

    ahead = threading.Thread(target=run_ahead)
    ahead.start()
    wait_until(lambda: server.asked)
    reader = threading.Thread(target=lambda: results.append(read_all(content, dataset)))
    reader.start()
    time.sleep(0.3)  # so that the reader waits for the download that is under way
    failing.set()
    for thread in (ahead, reader):
        thread.join(60)
    assert results == [BYTES]
    assert len(errors) == 1
    assert len(server.asked) == 2


def test_at_most_half_of_the_quota_is_fetched_ahead(open_content: Open, server: FileServer) -> None:
    content = open_content(max_fetch=10 * SIZE)
    one, other = (server.dataset(f"{n}.b.npy", some_bytes(SIZE, n)) for n in range(2))
    assert budget(content, 0, ()) == 5 * SIZE
    read_all(content, one)
    assert budget(content, 0, ()) == 9 * SIZE // 2
    fetch(content, other)
    assert budget(content, SIZE, ()) == 4 * SIZE
    with content.quota.reserve("a read", 7 * SIZE, "a read"):
        assert budget(content, SIZE, ()) == SIZE // 2
        assert not fetch(content, server.dataset("large.b.npy", some_bytes(SIZE)))


def test_no_file_is_evicted_for_files_that_are_fetched_ahead(
    open_content: Open, server: FileServer
) -> None:
    content = open_content(limits=CacheLimits(cache_size=80 * SIZE))
    assert budget(content, 0, ()) == 10 * SIZE  # an eighth
    with content.space.reservation(79 * SIZE, 79 * SIZE):
        assert budget(content, 0, ()) == SIZE
        assert budget(content, SIZE, ()) == 2 * SIZE


def test_large_files_and_files_of_unknown_size_are_left_alone(
    open_content: Open, server: FileServer
) -> None:
    content = open_content(small_file=SIZE)
    assert not fetch(content, server.dataset("large.b.npy", BYTES + b"x"))
    assert not fetch(content, server.dataset("unknown.b.npy", BYTES, size=None))
    assert server.asked == []


def test_nothing_is_fetched_ahead_while_programs_wait_for_other_files(
    open_content: Open, server: FileServer
) -> None:
    content, dataset = open_content(), server.dataset("a.b.npy", BYTES)
    good, answering = server.files["/a.b.npy"], threading.Event()

    def serve(request: Request) -> Response:
        answering.wait(60)
        return good(request)

    server.files["/a.b.npy"] = serve
    reader = threading.Thread(target=lambda: read_all(content, dataset))
    reader.start()
    try:
        wait_until(lambda: server.asked)
        assert budget(content, 0, place_of(dataset)) > 0
        assert budget(content, 0, ()) == 0
    finally:
        answering.set()
        reader.join(60)
    assert budget(content, 0, ()) > 0


def test_a_file_that_does_not_fit_is_not_fetched_and_evicts_nothing(
    open_content: Open, server: FileServer
) -> None:
    content = open_content(limits=CacheLimits(cache_size=2 * disk_size(SIZE) + 4096))
    datasets = [server.dataset(f"{n}.b.npy", some_bytes(SIZE, n)) for n in range(4)]
    read_all(content, datasets[0])
    read_all(content, datasets[1])
    assert not fetch(content, datasets[2])
    full = open_content(cache="full", limits=CacheLimits(min_free=1 << 60))
    assert not fetch(full, datasets[3])
    assert server.asked == ["/0.b.npy", "/1.b.npy"]
    assert [content.state(each)[0] for each in datasets[:3]] == ["cached", "cached", "remote"]


def test_many_at_the_same_time_keep_the_limits_of_the_cache_and_of_the_quota(
    open_content: Open, server: FileServer
) -> None:
    limit = 3 * disk_size(SIZE) + 4096
    small = open_content(limits=CacheLimits(cache_size=limit))
    slow = open_content(cache="slow", max_fetch=7 * SIZE)
    datasets = [server.dataset(f"{n}.b.npy", some_bytes(SIZE, n)) for n in range(8)]
    gates = [Gate(server, f"/{n}.b.npy", some_bytes(SIZE, n)) for n in range(8)]
    with ExitStack() as stack:
        try:
            for content in (small, slow):
                outcomes = [stack.enter_context(fetching(content, each)) for each in datasets]
                wait_until(lambda: sum(map(len, outcomes)) == 5)  # noqa: B023
                wait_until(lambda: sum(gate.begun_count for gate in gates) == 3)
                assert small.total_bytes() <= limit
                for gate in gates:
                    gate.begun_count = 0
        finally:
            for gate in gates:
                gate.is_open.set()
    assert len(server.asked) == 6
    assert [small.state(each)[0] for each in datasets].count("cached") == 3
    assert slow.quota.spent_bytes() == 3 * SIZE


def test_a_body_that_is_too_long_evicts_nothing(open_content: Open, server: FileServer) -> None:
    content = open_content(limits=CacheLimits(cache_size=2 * disk_size(SIZE)))
    kept, long = server.dataset("a.b.npy", BYTES), server.dataset("b.b.npy", BYTES[::-1])
    read_all(content, kept)
    server.files["/b.b.npy"] = lambda _request: Response(iter([BYTES] * 9))  # without its length
    with suppress(OnefsError):
        assert not fetch(content, long)
    assert content.state(kept)[0] == "cached"
    assert content.state(long) == ("remote", "")


def test_a_download_ahead_makes_room_for_a_read(open_content: Open, server: FileServer) -> None:
    content = open_content(max_fetch=4 * SIZE)
    ahead, read = server.dataset("a.b.npy", BYTES), server.dataset("b.b.npy", BYTES[::-1])
    gate = Gate(server, "/a.b.npy", BYTES)
    gate.is_wide.clear()
    with fetching(content, ahead) as outcome:
        try:
            wait_until(lambda: content.quota.spent_bytes() == SIZE // 2)
            with content.quota.reserve("another read", 5 * SIZE // 2, "another read"):
                assert read_all(content, read) == BYTES[::-1]
                gate.is_open.set()
                wait_until(lambda: outcome)
        finally:
            gate.is_open.set()
            gate.is_wide.set()
    assert outcome == [False]
    assert content.state(ahead) == ("remote", "")


def test_a_download_that_a_reader_waits_for_is_an_ordinary_one(
    open_content: Open, server: FileServer
) -> None:
    content, dataset = open_content(max_fetch=3 * SIZE), server.dataset("a.b.npy", BYTES)
    gate = Gate(server, "/a.b.npy", BYTES)
    results: list[bytes] = []
    reader = threading.Thread(target=lambda: results.append(read_all(content, dataset)))
    with fetching(content, dataset) as outcome:
        try:
            wait_until(lambda: content.quota.spent_bytes() == SIZE // 2)
            assert [each.is_ahead for each in content.transfers()] == [True]
            assert budget(content, 0, ()) > 0
            # no byte counts twice for the reader: the half that has arrived, and the other half
            with content.quota.reserve("another read", 2 * SIZE, "another read"):
                reader.start()
                wait_until(lambda: not any(each.is_ahead for each in content.transfers()))
                assert budget(content, 0, ()) == 0
                gate.is_open.set()
                reader.join(60)
        finally:
            gate.is_open.set()
    assert outcome == [True]
    assert results == [BYTES]
    assert server.asked == ["/a.b.npy"]
    assert not is_unused(content, dataset)


def test_a_file_that_was_read_counts_as_used(open_content: Open, server: FileServer) -> None:
    content, other = open_content(), open_content()  # as two processes
    datasets = [server.dataset(f"{n}.b.npy", some_bytes(SIZE, n)) for n in range(4)]
    early = [
        each.open(datasets[n], place_of(datasets[n])) for n, each in enumerate([content, other])
    ]
    for dataset in datasets:
        assert fetch(content, dataset)
        assert is_unused(content, dataset)
    for handle in early:  # they were opened before their files were fetched
        handle.wait_fd(0, SIZE)
        handle.close()
    other.fetch_file(datasets[2], place_of(datasets[2]))
    assert [is_unused(content, each) for each in datasets] == [False, False, False, True]
    content.close()
    other.close()
    records = [content.store.records.get(each.id) for each in datasets]
    # a file is synced to the disk after its first use, which never changes the time of last use
    assert [each is not None and each.boot for each in records][:3] == ["", "", ""]
    assert [is_unused(content, each) for each in datasets] == [False, False, False, True]


def test_a_dataset_that_another_process_fetches_is_left_to_it(
    open_content: Open, server: FileServer
) -> None:
    content, other = open_content(), open_content()
    dataset = server.dataset("a.b.npy", BYTES)
    gate = Gate(server, "/a.b.npy", BYTES)
    results: list[bytes] = []
    reader = threading.Thread(target=lambda: results.append(read_all(other, dataset)))
    reader.start()
    try:
        wait_until(lambda: gate.begun_count)
        assert not fetch(content, dataset)
        assert content.small_files.can_fetch_ahead(dataset)
    finally:
        gate.is_open.set()
        reader.join(60)
    assert results == [BYTES]
    assert server.asked == ["/a.b.npy"]
    assert not is_unused(content, dataset)


def test_a_reader_waits_no_longer_after_a_download_ahead(
    open_content: Open, server: FileServer
) -> None:
    """The wait for a failing download ahead counts for the longest wait of its reader."""
    content, dataset = open_content(), server.dataset("a.b.npy", BYTES)
    good, failing, going_on = server.files["/a.b.npy"], threading.Event(), threading.Event()
    gates = [failing, going_on]

    def serve(request: Request) -> Response:
        gates[len(server.asked) - 1].wait(60)
        return Response("no", 404) if len(server.asked) == 1 else good(request)

    server.files["/a.b.npy"] = serve
    reader = threading.Thread(target=lambda: read_all(content, dataset))
    with fetching(content, dataset):
        try:
            wait_until(lambda: server.asked)
            reader.start()
            wait_until(lambda: not content.transfers()[0].is_ahead)
            failed_at = time.monotonic()
            failing.set()
            wait_until(lambda: len(server.asked) == 2)
            assert content.transfers()[0].last_progress_at < failed_at
        finally:
            failing.set()
            going_on.set()
            reader.join(60)
    assert content.state(dataset)[0] == "cached"


def test_no_more_is_fetched_ahead_than_arrives_in_a_quarter_of_the_longest_wait(
    open_content: Open, server: FileServer
) -> None:
    content = open_content(stall=60.0)
    data = some_bytes(600_000)
    dataset = server.dataset("a.b.npy", data)
    gate = Gate(server, "/a.b.npy", data)
    most = budget(content, 0, ())
    reader = threading.Thread(target=lambda: read_all(content, dataset))
    reader.start()
    try:
        wait_until(lambda: gate.begun_count)
        time.sleep(1)  # so that the file arrives in far more than a tenth of a second
    finally:
        gate.is_open.set()
        reader.join(60)
    assert 0 < budget(content, 0, ()) <= 10 * len(data) * 15 < most


def test_a_pause_is_no_sign_of_a_slow_link() -> None:
    now = 0.0
    speed = LinkSpeed(lambda: now)
    with speed.measure():
        speed.count(20_000)
        now += 100.0  # the disk woke up, or the program stood still
        speed.count(20_000)
    assert speed.bytes_in(15) is None
    now += 300.0  # nothing is read
    for _ in range(10):
        with speed.measure():
            now += 0.01
            speed.count(300_000)
    measured = speed.bytes_in(1)
    assert measured is not None
    assert 20_000_000 < measured < 40_000_000
    now += 100.0
    assert speed.bytes_in(1) is None


def test_the_speed_is_that_of_all_bodies_together() -> None:
    now = 0.0
    speed = LinkSpeed(lambda: now)
    with speed.measure(), speed.measure():
        for _ in range(300):
            now += 0.01
            speed.count(1500)
    measured = speed.bytes_in(1)
    assert measured is not None
    assert abs(measured - 150_000) < 5_000


def test_a_download_ahead_that_takes_too_long_is_ended(
    open_content: Open, server: FileServer
) -> None:
    content, dataset = open_content(), server.dataset("a.b.npy", BYTES)
    gate = Gate(server, "/a.b.npy", BYTES)
    with fetching(content, dataset) as outcome:
        try:
            wait_until(lambda: content.quota.spent_bytes() == SIZE // 2)
            content.transfers()[0].started_at -= 3600
        finally:
            gate.is_open.set()
    assert isinstance(outcome[0], DeadlineExceeded)
    assert content.transfers() == []
    assert read_all(content, dataset) == BYTES


def test_a_file_that_is_fetched_again_after_a_failure_ahead_stays_within_the_quota(
    open_content: Open, server: FileServer
) -> None:
    content, dataset = open_content(max_fetch=2 * SIZE), server.dataset("a.b.npy", BYTES)
    wrong = BYTES[:-1] + bytes([BYTES[-1] ^ 1])
    gate = Gate(server, "/a.b.npy", wrong)
    errors: list[Exception] = []

    def read() -> None:
        try:
            read_all(content, dataset)
        except FetchLimit as error:
            errors.append(error)

    reader = threading.Thread(target=read)
    with fetching(content, dataset) as outcome, ExitStack() as stack:
        try:
            wait_until(lambda: content.quota.spent_bytes() == SIZE // 2)
            reader.start()
            wait_until(lambda: not any(each.is_ahead for each in content.transfers()))
            stack.enter_context(content.quota.reserve("another read", SIZE, "another read"))
        finally:
            gate.is_open.set()
            reader.join(60)
    assert isinstance(outcome[0], BadContent)
    assert len(errors) == 1
    assert server.asked == ["/a.b.npy"]


def test_nothing_is_fetched_ahead_into_a_folder_without_locks(
    open_content: Open, server: FileServer
) -> None:
    content, dataset = open_content(share_partials=False), server.dataset("a.b.npy", BYTES)
    assert not content.small_files.can_fetch_ahead(dataset)
    assert not fetch(content, dataset)
    assert read_all(content, dataset) == BYTES
    assert server.asked == ["/a.b.npy"]
