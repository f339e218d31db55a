"""Files that are fetched before a program reads them."""

from __future__ import annotations

import os
import threading
import time

import pytest
from werkzeug import Request, Response

from onefs.cache.reservations import CacheLimits
from onefs.cache.sparse import disk_size
from onefs.content.content import Content
from onefs.content.fetch_ahead import fetch_ahead
from onefs.content.fetch_ahead import fetch_ahead_budget as budget
from onefs.errors import BadContent, FetchLimit, OnefsError, ServerError
from onefs.model import Dataset
from tests.content.conftest import FileServer, Open, place_of
from tests.content.ranged_file import read_all, some_bytes
from tests.running import wait_until

SIZE = 100_000
BYTES = some_bytes(SIZE)


def fetch(content: Content, dataset: Dataset, *, is_unread: bool = True) -> bool:
    return fetch_ahead(content, dataset, place_of(dataset), lambda: is_unread)


def test_a_file_that_was_fetched_ahead_is_verified_and_read_without_a_request(
    open_content: Open, server: FileServer
) -> None:
    content, dataset = open_content(), server.dataset("a.b.npy", BYTES)
    assert fetch(content, dataset)
    assert content.state(dataset) == ("cached", "")
    assert not fetch(content, dataset)
    assert read_all(content, dataset) == BYTES
    assert server.asked == ["/a.b.npy"]


def test_what_was_never_read_is_evicted_first(open_content: Open, server: FileServer) -> None:
    content = open_content(limits=CacheLimits(cache_size=3 * disk_size(SIZE) + SIZE // 2))
    used, ahead, hit, last = (server.dataset(f"{n}.b.npy", some_bytes(SIZE, n)) for n in range(4))
    read_all(content, used)
    assert fetch(content, ahead)
    assert fetch(content, hit)
    # being synced to the disk is no use
    records = content.store.records
    wait_until(lambda: all(not each.boot for each in records.all_entries()))
    os.utime(records._path(used.id), (1e9, 1e9))  # it was used long ago
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


def test_an_error_is_not_remembered_and_not_retried(open_content: Open, server: FileServer) -> None:
    content, dataset = open_content(), server.dataset("a.b.npy", BYTES)
    for status in (404, 503):
        server.files["/a.b.npy"] = lambda _request, status=status: Response("no", status)  # type: ignore[misc]
        server.asked.clear()
        with pytest.raises(OnefsError):
            fetch(content, dataset)
        assert len(server.asked) == 1
    server.put("a.b.npy", BYTES)
    assert read_all(content, dataset) == BYTES


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
    # what is unread counts towards the half
    assert budget(content, SIZE, ()) == 9 * SIZE // 2
    with content.quota.reserve("a read", 7 * SIZE, "a read"):
        assert budget(content, SIZE, ()) == SIZE
        with pytest.raises(FetchLimit):
            fetch(content, server.dataset("large.b.npy", some_bytes(3 * SIZE)))


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
