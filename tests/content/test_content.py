"""The cache serves right bytes or an error, downloads once, and keeps other programs' files."""

from __future__ import annotations

import hashlib
import json
import logging
import os
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import pytest
from werkzeug import Request, Response

from onefs.cache.mismatches import (
    FIRST_PAUSE_SECONDS,
    REQUIRED_SIZE_MISMATCHES,
    UnconfirmedMismatch,
)
from onefs.cache.sparse import disk_size
from onefs.content.content import Content
from onefs.dates import dataset_mtime
from onefs.errors import (
    BadContent,
    DataServerCredentials,
    DeadlineExceeded,
    OnefsError,
    ServerError,
    Stopping,
    Unreachable,
    UsageError,
)
from onefs.model import Dataset, Replica
from tests.content.conftest import FileServer, Open, in_threads, login, pass_time, place_of
from tests.running import wait_until, within

BYTES = bytes(range(256)) * 500


def read(content: Content, dataset: Dataset) -> bytes:
    """Return the bytes of a dataset, read in the same way as the mount reads them."""
    handle = content.open(dataset, place_of(dataset))
    try:
        return os.pread(handle.wait_fd(0, handle.size), handle.size, 0)
    finally:
        handle.close()


def final(tmp_path: Path, dataset: Dataset) -> Path:
    return tmp_path / "cache/lab/Subjects/subject/2020-01-01/001/alf" / dataset.name


def test_a_dataset_is_downloaded_once_and_stands_at_its_one_path(
    open_content: Open, server: FileServer, tmp_path: Path
) -> None:
    content, dataset = open_content(), server.dataset("a.b.npy", BYTES)
    assert content.state(dataset) == ("remote", "")
    assert read(content, dataset) == BYTES
    assert read(content, dataset) == BYTES
    assert server.asked == ["/a.b.npy"]
    assert final(tmp_path, dataset).read_bytes() == BYTES
    assert final(tmp_path, dataset).stat().st_mtime == dataset_mtime(place_of(dataset), dataset)
    assert content.state(dataset) == ("cached", "")
    assert content.total_bytes() == disk_size(len(BYTES))
    assert list((tmp_path / "cache/.onefs/partial").iterdir()) == []


def test_opening_asks_no_server(open_content: Open, server: FileServer) -> None:
    content, dataset = open_content(), server.dataset("a.b.npy", BYTES)
    handle = content.open(dataset, place_of(dataset))
    assert not handle.try_fd(0, 10)
    handle.close()
    assert server.asked == []


def test_an_empty_file(open_content: Open, server: FileServer) -> None:
    content, dataset = open_content(), server.dataset("empty.x.npy", b"")
    assert read(content, dataset) == b""


def test_another_process_finds_it(open_content: Open, server: FileServer) -> None:
    dataset = server.dataset("a.b.npy", BYTES)
    read(open_content(), dataset)
    assert read(open_content(), dataset) == BYTES
    assert len(server.asked) == 1


def test_many_readers_cause_one_download(open_content: Open, server: FileServer) -> None:
    dataset = server.dataset("a.b.npy", BYTES)
    one, other = open_content(), open_content()
    results = in_threads(24, lambda: read(one, dataset) + read(other, dataset))
    assert results == [BYTES + BYTES] * 24
    assert len(server.asked) == 1


@pytest.mark.parametrize(
    "claims",
    [{"size": len(BYTES) + 17}, {"size": len(BYTES) - 1}],
    ids=["too-big", "too-small"],
)
def test_a_wrong_size_rejects_a_file_when_it_was_seen_again_later(
    open_content: Open, server: FileServer, claims: dict[str, object]
) -> None:
    dataset = server.dataset("a.b.npy", BYTES, **claims)
    content = open_content()
    for asked in range(1, REQUIRED_SIZE_MISMATCHES):
        for _ in range(4):
            with pytest.raises(
                UnconfirmedMismatch, match=r"the database says .* can be fetched again in"
            ):
                read(content, dataset)
        assert len(server.asked) == asked
        assert content.state(dataset)[0] == "remote"
        assert "the database says" in content.state(dataset)[1]
        pass_time(content)
    for _ in range(4):
        with pytest.raises(BadContent, match=r"the database says .* run `onefs refresh`"):
            read(content, dataset)
    assert len(server.asked) == REQUIRED_SIZE_MISMATCHES
    assert content.state(dataset)[0] == "bad"


def test_wrong_sizes_that_differ_do_not_reject_a_file(
    open_content: Open, server: FileServer
) -> None:
    dataset = server.dataset("a.b.npy", BYTES)
    content = open_content()
    for length in range(1, 8):
        server.put("a.b.npy", BYTES[:length])
        with pytest.raises(UnconfirmedMismatch, match="the mismatch may be temporary"):
            read(content, dataset)
        pass_time(content)
    server.put("a.b.npy", BYTES)
    assert read(content, dataset) == BYTES
    assert list(content.store.mismatches.dataset_ids()) == []


@pytest.mark.parametrize("small_file", [0, 1 << 30], ids=["blocks", "whole"])
@pytest.mark.parametrize("kind", ["text/plain", "application/octet-stream", "application/json"])
def test_a_server_that_is_out_of_order_does_not_make_a_file_bad(
    open_content: Open, server: FileServer, small_file: int, kind: str
) -> None:
    dataset = server.dataset("a.b.npy", BYTES)
    content = open_content(small_file=small_file)
    good = server.files["/a.b.npy"]
    server.put("a.b.npy", b"Service temporarily unavailable", content_type=kind)
    for _ in range(3):
        with pytest.raises(UnconfirmedMismatch, match="the mismatch may be temporary"):
            read(content, dataset)
    server.files["/a.b.npy"] = good
    pass_time(content, FIRST_PAUSE_SECONDS)
    wait_until(lambda: _succeeds(content, dataset), timeout=20)
    wait_until(lambda: content.store.mismatches.dataset_ids() == [])


def _succeeds(content: Content, dataset: Dataset) -> bool:
    with suppress(UnconfirmedMismatch):
        return read(content, dataset) == BYTES
    return False


def test_the_evidence_of_several_processes_is_counted_together(
    open_content: Open, server: FileServer
) -> None:
    dataset = server.dataset("a.b.npy", BYTES, size=len(BYTES) - 1)
    for number in range(REQUIRED_SIZE_MISMATCHES):
        content = open_content()
        if number:
            with pytest.raises(UnconfirmedMismatch, match="can be fetched again in"):
                read(content, dataset)
        pass_time(content, number * 30.0)
        with pytest.raises(
            BadContent if number == REQUIRED_SIZE_MISMATCHES - 1 else UnconfirmedMismatch
        ):
            read(content, dataset)
        assert len(server.asked) == number + 1


def test_bytes_that_are_wrong_once_are_asked_for_again(
    open_content: Open, server: FileServer
) -> None:
    dataset = server.dataset("a.b.npy", BYTES)
    good, content = server.files["/a.b.npy"], open_content()

    def wrong_once(request: Request) -> Response:
        server.files["/a.b.npy"] = good
        return Response(BYTES[::-1])

    server.files["/a.b.npy"] = wrong_once
    assert read(content, dataset) == BYTES
    assert len(server.asked) == 2


def test_wrong_bytes_that_differ_do_not_reject_a_file(
    open_content: Open, server: FileServer
) -> None:
    dataset = server.dataset("a.b.npy", BYTES)
    good, content = server.files["/a.b.npy"], open_content()
    server.files["/a.b.npy"] = lambda request: Response(os.urandom(len(BYTES)))
    for _ in range(4):
        with pytest.raises(UnconfirmedMismatch, match="the mismatch may be temporary"):
            read(content, dataset)
        pass_time(content)
    assert len(server.asked) == 8
    server.files["/a.b.npy"] = good
    assert read(content, dataset) == BYTES


def test_wrong_bytes_are_never_given_and_never_fetched_in_a_loop(
    open_content: Open,
    server: FileServer,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    dataset = server.dataset("a.b.npy", BYTES, md5="0" * 32)
    content = open_content()
    with caplog.at_level(logging.INFO):
        for _ in range(4):
            with pytest.raises(BadContent, match="the database says"):
                read(content, dataset)
    assert len(server.asked) == 2  # the second response confirms the first response
    (record,) = [each for each in caplog.records if "the database says" in each.getMessage()]
    assert record.levelno == logging.INFO  # the reader gets the error
    state, reason = content.state(dataset)
    assert state == "bad"
    assert "the database says" in reason
    assert not final(tmp_path, dataset).exists()
    # after a change in the database, the file is requested again
    mended = server.dataset("a.b.npy", BYTES)
    assert read(content, mended) == BYTES


def test_without_md5_the_size_must_do(open_content: Open, server: FileServer) -> None:
    content, dataset = open_content(), server.dataset("a.b.npy", BYTES, md5="")
    assert read(content, dataset) == BYTES
    assert content.state(dataset) == ("unverified", "")


def test_a_missing_file_is_an_error_for_a_moment(open_content: Open, server: FileServer) -> None:
    content, dataset = open_content(), server.dataset("a.b.npy", BYTES)
    del server.files["/a.b.npy"]
    for _ in range(3):
        with pytest.raises(ServerError, match="404"):
            read(content, dataset)
    assert len(server.asked) == 1
    assert content.state(dataset)[0] == "remote"
    assert "404" in content.state(dataset)[1]


def test_the_next_replica_is_used(open_content: Open, server: FileServer) -> None:
    dataset = server.dataset("a.b.npy", BYTES)
    gone = Replica("flatiron_y", f"{server.listener.url}/gone.npy")
    both = server.dataset("a.b.npy", BYTES, replicas=(gone, *dataset.replicas))
    assert read(open_content(), both) == BYTES
    assert server.asked == ["/gone.npy", "/a.b.npy"]


def test_an_html_page_is_not_taken_for_the_file(open_content: Open, server: FileServer) -> None:
    """A server responds with a listing and status 200 to a URL that ends before a revision's #."""
    page = b"<html>Index of /</html>"
    dataset = server.dataset("a.b.npy", page, size=None, md5="")
    server.put("a.b.npy", page, content_type="text/html")
    with pytest.raises(ServerError, match="page instead of the file"):
        open_content().probe_size(dataset)


def test_credentials_are_sent_when_asked_for(open_content: Open, server: FileServer) -> None:
    dataset = server.dataset("a.b.npy", BYTES)
    serve = server.files["/a.b.npy"]

    def guarded(request: Request) -> Response:
        sent = request.authorization
        if sent is None or (sent.username, sent.password) != ("user", "password"):
            return Response("", 401, {"WWW-Authenticate": 'Basic realm="FlatIron"'})
        return serve(request)

    server.files["/a.b.npy"] = guarded
    with pytest.raises(DataServerCredentials, match="ONEFS_DATA_PASSWORD"):
        read(open_content(), dataset)
    assert read(open_content(credentials=login()), dataset) == BYTES


@pytest.mark.parametrize("status", [403, 404, 200, 429])
def test_a_signed_url_is_not_shown_with_its_signature(
    open_content: Open, server: FileServer, status: int
) -> None:
    """No signature is shown: not the one in the record's URL, and not one in the URL of a
    redirect."""
    signed = "?X-Amz-Credential=AKIA1234&X-Amz-Signature=5ecre7&sig=5ecre7&jwt=5ecre7&pwd=5ecre7"
    dataset = server.dataset("a.b.npy", BYTES)
    (copy,) = dataset.replicas
    dataset = replace(dataset, replicas=(replace(copy, url=copy.url + signed),))

    def lead(request: Request) -> Response:
        if request.path == "/a.b.npy":
            return Response("", 302, {"Location": "/elsewhere" + signed})
        kind = {"Content-Type": "text/html", "Retry-After": "100"}
        return Response("<html>no</html>", status, kind)

    server.files["/a.b.npy"] = server.files["/elsewhere"] = lead
    content = open_content(stall=2.0)
    with pytest.raises(OnefsError) as caught:
        read(content, dataset)
    for text in (str(caught.value), *content.state(dataset)):
        assert "5ecre7" not in text
        assert "AKIA" not in text


def test_a_server_that_is_away(open_content: Open, server: FileServer) -> None:
    cached, other = server.dataset("a.b.npy", BYTES), server.dataset("c.d.npy", BYTES)
    content = open_content(stall=2.0)
    read(content, cached)
    server.close()
    with pytest.raises(Unreachable):
        read(content, other)
    assert read(content, cached) == BYTES


def test_waiting_ends_when_no_byte_comes(open_content: Open, server: FileServer) -> None:
    dataset, over = server.dataset("a.b.npy", BYTES), threading.Event()

    def stalls(request: Request) -> Response:
        def body() -> object:
            yield BYTES[:1000]
            over.wait(60)

        return Response(body(), headers={"Content-Length": str(len(BYTES))})  # type: ignore[arg-type]

    server.files["/a.b.npy"] = stalls
    try:
        with within(), pytest.raises(DeadlineExceeded):
            read(open_content(stall=0.5), dataset)
    finally:
        over.set()


def test_close_wakes_waiting_readers(open_content: Open, server: FileServer) -> None:
    dataset, over = server.dataset("a.b.npy", BYTES), threading.Event()
    content = open_content()

    def stalls(request: Request) -> Response:
        content.close()
        over.wait(60)
        return Response(BYTES)

    server.files["/a.b.npy"] = stalls
    try:
        with within(), pytest.raises(Stopping):
            read(content, dataset)
    finally:
        over.set()


def test_a_file_that_is_there_is_taken_after_its_hash_agrees(
    open_content: Open, server: FileServer, tmp_path: Path
) -> None:
    dataset = server.dataset("a.b.npy", BYTES)
    path = final(tmp_path, dataset)
    path.parent.mkdir(parents=True)
    path.write_bytes(BYTES)
    content = open_content()
    assert read(content, dataset) == BYTES
    assert server.asked == []
    assert content.state(dataset) == ("cached", "")
    assert content.total_bytes() == 0  # onefs did not download it


def test_a_wrong_file_of_another_program_is_left_alone(
    open_content: Open, server: FileServer, tmp_path: Path
) -> None:
    """ONE-api leaves a truncated file with the final name if its download is interrupted."""
    dataset = server.dataset("a.b.npy", BYTES)
    path = final(tmp_path, dataset)
    path.parent.mkdir(parents=True)
    path.write_bytes(BYTES[:100])
    content = open_content()
    assert read(content, dataset) == BYTES
    assert path.read_bytes() == BYTES[:100]
    assert read(content, dataset) == BYTES
    assert len(server.asked) == 1


def test_a_cached_file_that_was_changed_is_not_served(
    open_content: Open, server: FileServer, tmp_path: Path
) -> None:
    dataset = server.dataset("a.b.npy", BYTES)
    content = open_content()
    read(content, dataset)
    final(tmp_path, dataset).write_bytes(b"x" * len(BYTES))
    assert content.state(dataset)[0] == "remote"
    assert read(content, dataset) == BYTES
    assert len(server.asked) == 2


@pytest.mark.parametrize("by", ["writing", "replacing", "removing"])
def test_a_cached_file_that_is_changed_before_its_first_read_is_not_served(
    open_content: Open, server: FileServer, tmp_path: Path, by: str
) -> None:
    """It was verified when it was opened, and not when it is read."""
    dataset = server.dataset("a.b.npy", BYTES)
    content, path = open_content(), final(tmp_path, dataset)
    read(content, dataset)
    handle = content.open(dataset, place_of(dataset))
    if by == "removing":
        path.unlink()
    else:
        other = path if by == "writing" else path.with_name("other")
        other.write_bytes(b"x" * len(BYTES))
        os.utime(other, ns=(0, path.stat().st_mtime_ns))
        other.replace(path)
    assert handle.try_fd(0, len(BYTES)) is None
    assert os.pread(handle.wait_fd(0, len(BYTES)), len(BYTES), 0) == BYTES
    handle.close()
    assert len(server.asked) == 2


def test_a_cached_file_that_was_removed_is_fetched_again(
    open_content: Open, server: FileServer, tmp_path: Path
) -> None:
    dataset = server.dataset("a.b.npy", BYTES)
    content = open_content()
    read(content, dataset)
    final(tmp_path, dataset).unlink()
    assert read(content, dataset) == BYTES


def test_the_folder_of_another_database_is_refused(open_content: Open, tmp_path: Path) -> None:
    open_content(database="one.org")
    label = json.loads((tmp_path / "cache/.onefs/database.json").read_text())
    assert label["database"] == "one.org"
    with pytest.raises(UsageError, match=r"belongs to one\.org, not to other\.org"):
        open_content(database="other.org")


def test_a_size_that_alyx_lacks_is_asked_for(open_content: Open, server: FileServer) -> None:
    content = open_content()
    assert content.probe_size(server.dataset("a.b.npy", BYTES, size=None)) == len(BYTES)
    assert content.probe_size(server.dataset("empty.x.npy", b"", size=None)) == 0
    missing = server.dataset("gone.x.npy", BYTES, size=None)
    del server.files["/gone.x.npy"]
    with pytest.raises(ServerError):
        content.probe_size(missing)


def test_the_kernel_may_keep_pages_of_the_same_bytes_only(
    open_content: Open, server: FileServer
) -> None:
    content, dataset = open_content(), server.dataset("a.b.npy", BYTES)
    assert not content.open(dataset, place_of(dataset)).keep_cache
    assert content.open(dataset, place_of(dataset)).keep_cache
    changed = server.dataset("a.b.npy", BYTES[::-1])
    assert not content.open(changed, place_of(changed)).keep_cache
    assert content.open(changed, place_of(changed)).keep_cache


@pytest.mark.parametrize("md5", [True, False], ids=["md5", "no md5"])
def test_the_kernel_keeps_no_pages_of_what_was_here_before(
    open_content: Open, server: FileServer, md5: bool
) -> None:
    """Without an md5 the server's file may change. A cached file may be edited while it is read."""
    content = open_content()
    claims = {} if md5 else {"md5": ""}
    dataset = server.dataset("a.b.npy", BYTES, **claims)
    assert read(content, dataset) == BYTES
    again = content.open(dataset, place_of(dataset))
    assert again.keep_cache  # the pages of the first read are still valid
    again.close()
    if md5:
        path = content.cached_path(dataset)
        assert path is not None
        path.write_bytes(BYTES[::-1])
    else:
        content.admin.evict(dataset.id)
        server.put("a.b.npy", BYTES[::-1])
    handle = content.open(dataset, place_of(dataset))
    assert not handle.keep_cache
    expected = BYTES if md5 else BYTES[::-1]
    assert os.pread(handle.wait_fd(0, handle.size), handle.size, 0) == expected
    handle.close()
    assert content.open(dataset, place_of(dataset)).keep_cache


def test_a_reader_of_the_new_bytes_does_not_get_the_old_ones_in_flight(
    open_content: Open, server: FileServer
) -> None:
    """A dataset gets a new md5 while its old bytes are being fetched."""
    content = open_content()
    old, asked, go_on = server.dataset("a.b.npy", BYTES), threading.Event(), threading.Event()

    def slow(request: Request) -> Response:
        asked.set()
        assert go_on.wait(60)
        return Response(BYTES)

    server.files["/a.b.npy"] = slow
    with ThreadPoolExecutor(2) as pool:
        first = pool.submit(read, content, old)
        assert asked.wait(60)
        new = server.dataset("a.b.npy", BYTES[::-1])
        second = pool.submit(read, content, new)
        time.sleep(0.2)  # this thread may join the running download, or wait for its end
        go_on.set()
        assert second.result(60) == BYTES[::-1]
        # a whole file: the requested version, or the version that replaced it before the opening
        assert first.result(60) in (BYTES, BYTES[::-1])


def test_a_body_longer_than_it_should_be_is_cut_off(open_content: Open, server: FileServer) -> None:
    """A server could send bytes without end if the response has no length."""
    dataset = server.dataset("a.b.npy", BYTES)

    def endless(request: Request) -> Response:
        return Response((BYTES for _ in range(100)), content_type="application/octet-stream")

    server.files["/a.b.npy"] = endless
    with pytest.raises(UnconfirmedMismatch, match="the file has more"):
        read(open_content(), dataset)


def test_sha1_is_taken_for_what_it_is(open_content: Open, server: FileServer) -> None:
    sha1 = hashlib.sha1(BYTES).hexdigest()
    content, dataset = open_content(), server.dataset("a.b.npy", BYTES, md5=sha1)
    assert read(content, dataset) == BYTES
    assert content.state(dataset) == ("cached", "")


def test_the_length_of_a_sentence_is_not_taken_for_a_size(
    open_content: Open, server: FileServer
) -> None:
    dataset, content = server.dataset("a.b.npy", BYTES, size=None), open_content()
    good = server.files["/a.b.npy"]
    server.files["/a.b.npy"] = lambda request: Response(b"Service temporarily unavailable")
    with pytest.raises(ServerError, match="something else than the file"):
        content.probe_size(dataset)
    server.files["/a.b.npy"] = good
    assert content.probe_size(dataset) == len(BYTES)
    short = server.dataset("c.d.npy", b"short", size=None)
    server.files["/c.d.npy"] = lambda request: Response(b"short")  # no ranges
    assert content.probe_size(short) == len(b"short")
