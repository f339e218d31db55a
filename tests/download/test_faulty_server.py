"""A file server that misbehaves: right bytes, or an error within the deadline.

Each fault is tried on a file that is fetched by the block and on one that is fetched whole.
"""

from __future__ import annotations

import errno
import itertools
import random
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace

import pytest

from onefs.blocks.block_file import MIXED_VERSIONS_MARKER, BlockMapHeader, read_header
from onefs.cache.mismatches import REQUIRED_SIZE_MISMATCHES, UnconfirmedMismatch
from onefs.content.content import Content
from onefs.download.host_circuits import HostCircuits
from onefs.download.whole_file import MAX_DOWNLOADS
from onefs.errors import (
    BadContent,
    DataServerCredentials,
    DeadlineExceeded,
    OnefsError,
    ServerError,
    Stopping,
    Throttled,
    Unreachable,
)
from onefs.model import Dataset, Replica
from tests.content.conftest import FileServer, Open, in_threads, make_rejected, pass_time
from tests.content.ranged_file import (
    BLOCK,
    HandleReader,
    dataset_of,
    read_all,
    read_first_bytes,
    requested_span,
    served,
    some_bytes,
)
from tests.running import wait_until, within
from tests.scripted_server import (
    Script,
    ScriptedConnection,
    ScriptedServer,
    answer,
    gzipped,
    raw,
    redirect,
    refusing_url,
    stall,
    trickle,
    unanswering_url,
    unauthorized,
)

DATA = some_bytes(4 * BLOCK + 99)
LONG = some_bytes(40 * BLOCK)
STALL_SECONDS = 4.0
#: of the faults that last until then: each of them is waited out
SHORT_STALL_SECONDS = 0.8
PAGE = answer(b"<html>Sorry</html>", Content_Type="text/html")


@pytest.fixture(params=[0, 1 << 30], ids=["blocks", "whole"])
def content(request: pytest.FixtureRequest, open_content: Open) -> Iterator[Content]:
    return open_content(stall=STALL_SECONDS, small_file=request.param)


@pytest.fixture(params=[0, 1 << 30], ids=["blocks", "whole"])
def hasty(request: pytest.FixtureRequest, open_content: Open) -> Iterator[Content]:
    return open_content(stall=SHORT_STALL_SECONDS, small_file=request.param)


def slowly(talk: ScriptedConnection) -> None:
    """A correct answer that arrives byte by byte, slowly."""
    size = len(DATA)
    span = requested_span(talk.request, size)
    head = f"HTTP/1.1 200 OK\r\nContent-Length: {size}\r\n\r\n"
    if span:
        head = (
            f"HTTP/1.1 206 OK\r\nContent-Range: bytes {span[0]}-{span[1] - 1}/{size}\r\n"
            f"Content-Length: {span[1] - span[0]}\r\n\r\n"
        )
    trickle(head.encode() + DATA, 0.2)(talk)


@contextmanager
def suppress_thread_errors() -> Iterator[None]:
    """Ignore exceptions in threads of this test."""
    before, threading.excepthook = threading.excepthook, lambda _: None
    try:
        yield
    finally:
        threading.excepthook = before


def alternating_faults(*scripts: Script) -> list[Script]:
    return list(scripts)


PASSING_FAULTS: dict[str, Script] = {
    "resets": served(DATA, cut=BLOCK + 5000, then=ScriptedConnection.reset),
    "resets at once": lambda talk: talk.reset(),
    "truncates": served(DATA, cut=BLOCK + 70_000),
    "truncates the first block": served(DATA, cut=70_000),
    "answers nonsense": raw(b"SSH-2.0-OpenSSH_9.2\r\n"),
    "ends after the headers": served(DATA, cut=0),
    "500": answer(b"", 500),
    "502": answer(b"", 502),
    "503": answer(b"", 503),
    "429": answer(b"", 429, Retry_After=1),
}


@pytest.mark.parametrize("fault", PASSING_FAULTS)
def test_a_passing_fault_is_survived(content: Content, fault: str) -> None:
    with ScriptedServer(
        {"/a.b.npy": alternating_faults(PASSING_FAULTS[fault], served(DATA))}
    ) as server:
        assert read_all(content, dataset_of(server, DATA)) == DATA


LASTING_FAULTS: dict[str, tuple[Script, type[OnefsError]]] = {
    "stalls": (stall(), DeadlineExceeded),
    "stalls in the middle": (
        served(DATA, cut=70_000, then=ScriptedConnection.pause),
        DeadlineExceeded,
    ),
    "trickles": (slowly, DeadlineExceeded),
    "truncates": (served(DATA, cut=70_000), ServerError),
    "resets": (lambda talk: talk.reset(), Unreachable),
    "gzip": (gzipped(DATA), ServerError),
    "a page": (PAGE, ServerError),
    "a loop of redirects": (redirect("/a.b.npy"), ServerError),
    "401": (unauthorized(), DataServerCredentials),
    "403": (answer(b"", 403), DataServerCredentials),
    "404": (answer(b"", 404), ServerError),
    "429 for long": (answer(b"", 429, Retry_After=600), Throttled),
    "500": (answer(b"", 500), ServerError),
    "503": (answer(b"", 503), ServerError),
}


@pytest.mark.parametrize("fault", LASTING_FAULTS)
def test_a_lasting_fault_is_an_error_in_time(hasty: Content, fault: str) -> None:
    script, expected = LASTING_FAULTS[fault]
    with ScriptedServer({"/a.b.npy": script}) as server:
        dataset = dataset_of(server, DATA)
        with within(), pytest.raises(expected):
            read_all(hasty, dataset)
        assert hasty.state(dataset)[0] in ("remote", "partial")


@pytest.mark.parametrize("kind", ["refuses", "never connects"])
def test_no_connection_is_an_error_in_time(hasty: Content, kind: str) -> None:
    with (
        ScriptedServer({}) as server,
        refusing_url() if kind == "refuses" else unanswering_url() as url,
    ):
        dataset = dataset_of(server, DATA, replicas=(Replica("x", f"{url}/a.b.npy"),))
        with within(), pytest.raises((Unreachable, DeadlineExceeded)) as caught:
            read_all(hasty, dataset)
        assert caught.value.errno in (errno.EHOSTUNREACH, errno.ETIMEDOUT)


@pytest.mark.parametrize("total", [len(DATA) - 1, len(DATA) + BLOCK])
def test_another_size_than_alyx_says_is_bad(content: Content, total: int) -> None:
    data = some_bytes(total, seed=2)
    with ScriptedServer({"/a.b.npy": served(data)}) as server:
        dataset = dataset_of(server, DATA)
        with pytest.raises(
            UnconfirmedMismatch, match=f"says {len(DATA)} bytes, the file has {total}"
        ):
            read_all(content, dataset)
        assert content.state(dataset)[0] != "bad"
        make_rejected(content, dataset)
        with pytest.raises(BadContent, match=f"says {len(DATA)} bytes, the file has {total}"):
            read_all(content, dataset)
        assert len(server.requests) == REQUIRED_SIZE_MISMATCHES


def test_416_with_another_size_rejects_the_file(open_content: Open) -> None:
    content = open_content(stall=STALL_SECONDS, small_file=0)
    short = answer(b"", 416, Content_Range="bytes */17")
    with ScriptedServer({"/a.b.npy": short}) as server:
        dataset = dataset_of(server, DATA)
        with pytest.raises(UnconfirmedMismatch, match="has 17"):
            read_all(content, dataset)
        make_rejected(content, dataset)
        with pytest.raises(BadContent, match="has 17"):
            read_all(content, dataset)


def test_a_range_of_a_file_of_another_size_does_not_reject_it_at_once(open_content: Open) -> None:
    content = open_content(stall=STALL_SECONDS, small_file=0)
    lie = answer(DATA[:BLOCK], 206, Content_Range=f"bytes 0-{BLOCK - 1}/{len(DATA) + 1}")
    with ScriptedServer({"/a.b.npy": alternating_faults(lie, served(DATA))}) as server:
        dataset = dataset_of(server, DATA)
        with (
            HandleReader(content, dataset) as reader,
            pytest.raises(UnconfirmedMismatch, match="this may pass"),
        ):
            reader.read(0, 100)
        assert len(server.requests) == 1
        pass_time(content)
        wait_until(lambda: _reads(content, dataset) == DATA, timeout=20)
        wait_until(lambda: content.store.mismatches.dataset_ids() == [])


def test_an_error_text_with_its_own_date_drops_no_block(open_content: Open) -> None:
    """A server that fails in the middle of a file, with 200, a page and its validator."""
    content = open_content(stall=STALL_SECONDS, small_file=0)
    page = answer(b"Service temporarily unavailable", ETag='"page"', Content_Type="text/plain")
    now: list[Script] = [served(LONG)]
    with ScriptedServer({"/a.b.npy": lambda talk: now[0](talk)}) as server:
        dataset = dataset_of(server, LONG)
        with HandleReader(content, dataset) as reader:
            assert reader.read(0, 100) == LONG[:100]
            now[0] = page
            with pytest.raises(UnconfirmedMismatch):
                reader.read(35 * BLOCK, 100)
            assert reader.read(0, 100) == LONG[:100]
            now[0] = served(LONG)

            def comes_right() -> bool:
                pass_time(content)  # what was fetched ahead may have met the sentence again
                return _reads(content, dataset) == LONG

            wait_until(comes_right, timeout=20)
            assert reader.read(35 * BLOCK, 100) == LONG[35 * BLOCK : 35 * BLOCK + 100]


def _reads(content: Content, dataset: Dataset) -> bytes:
    with suppress(OnefsError):
        return read_all(content, dataset)
    return b""


def test_416_without_a_size_is_an_error(open_content: Open) -> None:
    content = open_content(stall=STALL_SECONDS, small_file=0)
    with (
        ScriptedServer({"/a.b.npy": answer(b"", 416)}) as server,
        pytest.raises(ServerError, match="416"),
    ):
        read_all(content, dataset_of(server, DATA))


def test_ranges_that_are_ignored_cost_one_download(open_content: Open) -> None:
    """200 and the whole file: its blocks are stored at their place, never appended."""
    content = open_content(stall=STALL_SECONDS, small_file=0)
    with ScriptedServer({"/a.b.npy": served(DATA, ranges=False)}) as server:
        dataset = dataset_of(server, DATA)
        with HandleReader(content, dataset) as reader:
            assert reader.read(3 * BLOCK + 7, 100) == DATA[3 * BLOCK + 7 : 3 * BLOCK + 107]
            assert reader.read(0, 100) == DATA[:100]
            assert reader.read_to_end() == DATA
        assert len(server.requests) <= 2  # the first may end when its reader has its block


@pytest.mark.parametrize(
    "said",
    [
        f"bytes 7-{BLOCK - 1}/{len(DATA)}",
        f"bytes 0-{BLOCK - 2}/{len(DATA)}",
        f"bytes {BLOCK}-{2 * BLOCK - 1}/{len(DATA)}",
        f"bytes */{len(DATA)}",
        "bytes 5-2/1",
        "rubbish",
        "",
    ],
)
def test_a_wrong_content_range_is_an_error(open_content: Open, said: str) -> None:
    content = open_content(stall=STALL_SECONDS, small_file=0)
    lie = answer(DATA[:BLOCK], 206, Content_Range=said)
    with ScriptedServer({"/a.b.npy": lie}) as server:
        with HandleReader(content, dataset_of(server, DATA)) as reader, pytest.raises(OnefsError):
            reader.read(0, 100)
        assert content.total_bytes() == 0


def test_surplus_bytes_are_ignored(open_content: Open) -> None:
    content = open_content(stall=STALL_SECONDS, small_file=0)
    much = answer(DATA + b"more", 206, Content_Range=f"bytes 0-{BLOCK - 1}/{len(DATA)}")
    with ScriptedServer({"/a.b.npy": much}) as server:
        with HandleReader(content, dataset_of(server, DATA)) as reader:
            assert reader.read(0, BLOCK) == DATA[:BLOCK]
        assert content.total_bytes() == BLOCK


@pytest.mark.parametrize("named", ["the whole", "the range asked for", "more"])
def test_a_206_with_more_than_its_range_is_stored_at_its_place(
    open_content: Open, named: str
) -> None:
    """The whole file under its own name or under that of the range, or a range around it."""
    content = open_content(stall=STALL_SECONDS, small_file=0)

    def script(talk: ScriptedConnection) -> None:
        start, end = requested_span(talk.request, len(DATA)) or (0, len(DATA))
        first, last = (start // 2, len(DATA)) if named == "more" else (0, len(DATA))
        said = (start, end) if named == "the range asked for" else (first, last)
        about = {"Content_Range": f"bytes {said[0]}-{said[1] - 1}/{len(DATA)}"}
        answer(DATA[first:last], 206, ETag='"one"', **about)(talk)

    at = 3 * BLOCK + 7
    with (
        ScriptedServer({"/a.b.npy": script}) as server,
        HandleReader(content, dataset_of(server, DATA)) as reader,
    ):
        assert reader.read(at, 100) == DATA[at : at + 100]
        assert reader.read(0, 100) == DATA[:100]
        assert reader.read_to_end() == DATA


@pytest.mark.parametrize("digits", ["9" * 30, "9" * 5000, "\xb2", "-1", "+1", "1_0"])
def test_a_range_with_impossible_numbers_is_an_error(open_content: Open, digits: str) -> None:
    content = open_content(stall=STALL_SECONDS, small_file=0)
    for said in (f"bytes 0-{digits}/{len(DATA)}", f"bytes 0-{BLOCK - 1}/{digits}"):
        lie = answer(DATA[:BLOCK], 206, Content_Range=said)
        with (
            ScriptedServer({"/a.b.npy": lie}) as server,
            HandleReader(content, dataset_of(server, DATA)) as reader,
            pytest.raises(OnefsError),
        ):
            reader.read(0, 100)


@pytest.mark.parametrize("length", ["9" * 30, "9" * 4000, str(2**63)])
def test_an_impossible_size_is_an_error(content: Content, length: str) -> None:
    """Requested because the database has none: SQLite and the kernel cannot store it."""
    with ScriptedServer({"/a.b.npy": answer(b"", Content_Length=length)}) as server:
        dataset = replace(dataset_of(server, DATA), size=None)
        with pytest.raises(ServerError):
            content.probe_size(dataset)


def no_length(talk: ScriptedConnection) -> None:
    span = requested_span(talk.request, len(DATA))
    assert span is not None
    talk.head(206, Connection="close", Content_Range=f"bytes {span[0]}-{span[1] - 1}/{len(DATA)}")
    talk.send(DATA[span[0] : span[1]])
    talk.hang_up()


def no_length_cut(talk: ScriptedConnection) -> None:
    talk.head(206, Connection="close", Content_Range=f"bytes 0-{BLOCK - 1}/{len(DATA)}")
    talk.send(DATA[:1000])
    talk.hang_up()


def test_an_answer_without_length_is_stored_by_its_range(open_content: Open) -> None:
    content = open_content(stall=STALL_SECONDS, small_file=0)
    with ScriptedServer({"/a.b.npy": alternating_faults(no_length_cut, no_length)}) as server:
        assert read_all(content, dataset_of(server, DATA)) == DATA


def test_credentials_are_not_sent_to_the_target_of_a_redirect(content: Content) -> None:
    with (
        ScriptedServer({"/a.b.npy": served(DATA)}) as other,
        ScriptedServer({"/a.b.npy": redirect(f"{other.url}/a.b.npy")}) as server,
    ):
        assert read_all(content, dataset_of(server, DATA)) == DATA
        assert all("authorization" not in request.headers for request in other.requests)


def test_a_file_that_changes_while_it_is_read_is_fetched_again(open_content: Open) -> None:
    """The reader of the old bytes gets an error, the next reader the new bytes."""
    told: list[object] = []
    content = open_content(stall=STALL_SECONDS, small_file=0, on_invalidated=told.append)
    old, new = some_bytes(len(DATA), seed=3), DATA
    with ScriptedServer(
        {"/a.b.npy": alternating_faults(served(old, '"old"'), served(new, '"new"'))}
    ) as server:
        dataset = dataset_of(server, new)
        with HandleReader(content, dataset) as reader:
            assert reader.read(0, 100) == old[:100]
            with pytest.raises(BadContent, match="changed on the server"):
                reader.read(2 * BLOCK, 100)
            with pytest.raises(BadContent):
                reader.read(0, 100)
        wait_until(lambda: told == [dataset])  # the reader sees a moment before that it is gone
        assert read_all(content, dataset) == new
        wait_until(lambda: content.state(dataset)[0] == "cached")


def in_rotation_among_servers(*scripts: Script) -> Script:
    """Load-balanced servers: each request is answered by the next of them."""
    turns = itertools.cycle(scripts)
    return lambda talk: next(turns)(talk)


MANY_NAMES = {
    "two ETags": lambda data: in_rotation_among_servers(served(data, '"a"'), served(data, '"b"')),
    "two dates": lambda data: in_rotation_among_servers(
        served(data, "", Last_Modified="Mon, 02 Mar 2020 10:00:00 GMT"),
        served(data, "", Last_Modified="Mon, 02 Mar 2020 10:00:07 GMT"),
    ),
    "without ranges for another version": lambda data: in_rotation_among_servers(
        served(data, '"a"'), served(data, '"b"', ranges=False)
    ),
    "a new ETag each time": lambda data: (
        lambda talk: served(data, f'"{random.random()}"')(talk)  # type: ignore[no-any-return]
    ),
}


@pytest.mark.parametrize("kind", MANY_NAMES)
@pytest.mark.parametrize("strict", [False, True])
def test_servers_with_different_etags_for_the_same_bytes(
    open_content: Open, kind: str, strict: bool
) -> None:
    content = open_content(stall=10.0, small_file=0, strict=strict)
    with ScriptedServer({"/a.b.npy": MANY_NAMES[kind](LONG)}) as server:
        dataset = dataset_of(server, LONG)
        with HandleReader(content, dataset) as reader:
            assert reader.read(0, 100) == LONG[:100]
            assert reader.read(30 * BLOCK, 100) == LONG[30 * BLOCK : 30 * BLOCK + 100]
            assert reader.read_to_end() == LONG
        wait_until(lambda: content.state(dataset)[0] == "cached")


def test_no_byte_is_served_while_blocks_may_be_of_several_versions(open_content: Open) -> None:
    """Every request gets another ETag; one reader in this process, one in another."""
    contents = [open_content(stall=10.0, small_file=0) for _ in range(2)]
    fast, slow = threading.Event(), some_bytes(12 * BLOCK)

    def script(talk: ScriptedConnection) -> None:
        wanted = requested_span(talk.request, len(slow))
        if wanted is not None and wanted[1] > 11 * BLOCK and not fast.wait(20):
            talk.hang_up()
        served(slow, f'"{random.random()}"')(talk)

    with ScriptedServer({"/a.b.npy": script}) as server:
        dataset = dataset_of(server, slow)
        with (
            HandleReader(contents[0], dataset) as reader,
            HandleReader(contents[1], dataset) as other,
        ):
            assert reader.read(0, 100) == slow[:100]
            found: list[bytes] = []
            late = threading.Thread(target=lambda: found.append(reader.read(5 * BLOCK, 100)))
            late.start()
            wait_until(lambda: _needs_proof(contents[0], dataset), timeout=20)
            wait_until(lambda: _present_blocks(contents[0], dataset) >= 6, timeout=20)
            assert other.handle.try_fd(5 * BLOCK, 100) is None
            assert not found
            fast.set()
            late.join(30)
            assert found == [slow[5 * BLOCK : 5 * BLOCK + 100]]
            assert other.read_to_end() == slow


def _block_map_header(content: Content, dataset: Dataset) -> BlockMapHeader | None:
    return read_header(content.store.partial_folder, dataset.id)


def _needs_proof(content: Content, dataset: Dataset) -> bool:
    about = _block_map_header(content, dataset)
    return about is not None and MIXED_VERSIONS_MARKER in about.sources


def _present_blocks(content: Content, dataset: Dataset) -> int:
    return sum(each.done_bytes for each in content.transfers()) // BLOCK


def test_old_and_new_bytes_are_never_mixed(open_content: Open) -> None:
    """Two servers, one of which still has the old file; their first blocks are equal."""
    content = open_content(stall=10.0, small_file=0)
    old = DATA[: 2 * BLOCK] + some_bytes(len(DATA) - 2 * BLOCK, seed=5)
    with ScriptedServer(
        {"/a.b.npy": in_rotation_among_servers(served(old, '"old"'), served(DATA, '"new"'))}
    ) as server:
        dataset = dataset_of(server, DATA)
        given: list[bytes] = []
        with HandleReader(content, dataset) as reader, suppress(OnefsError):
            for block in (0, 3, 1, 4, 2):
                given.append(reader.read(block * BLOCK, 100))
        versions = [[v[n * BLOCK : n * BLOCK + 100] for n in (0, 3, 1, 4, 2)] for v in (old, DATA)]
        assert any(given == version[: len(given)] for version in versions)

        def comes_right() -> bool:
            pass_time(content)
            return _reads(content, dataset) == DATA and content.state(dataset)[0] == "cached"

        wait_until(comes_right, timeout=40)


def test_without_md5_another_version_is_fetched_from_the_start(open_content: Open) -> None:
    content = open_content(stall=10.0, small_file=0)
    old, new = some_bytes(len(DATA), seed=3), DATA
    with ScriptedServer(
        {"/a.b.npy": alternating_faults(served(old, '"old"'), served(new, '"new"'))}
    ) as server:
        dataset = dataset_of(server, new, md5="")
        with HandleReader(content, dataset) as reader:
            assert reader.read(0, 100) == old[:100]
            with pytest.raises(BadContent, match="changed on the server"):
                reader.read(2 * BLOCK, 100)
        assert read_all(content, dataset) == new


def test_a_file_that_changed_between_two_processes(open_content: Open) -> None:
    old, new = some_bytes(len(DATA), seed=3), DATA
    with ScriptedServer(
        {"/a.b.npy": alternating_faults(served(old, '"old"'), served(new, '"new"'))}
    ) as server:
        dataset = dataset_of(server, new)
        read_first_bytes(open_content(small_file=0), dataset, 100)
        content = open_content(small_file=0, stall=STALL_SECONDS)
        with HandleReader(content, dataset) as reader:
            # nobody can tell yet: these bytes are on the disk
            assert reader.read(0, 100) == old[:100]
            with pytest.raises(BadContent):
                reader.read(2 * BLOCK, 100)
        with HandleReader(content, dataset) as reader:
            assert reader.read_to_end() == new


def test_a_change_without_a_new_answer_is_not_noticed(open_content: Open) -> None:
    old, new = some_bytes(len(DATA), seed=3), DATA
    with ScriptedServer(
        {"/a.b.npy": alternating_faults(served(old, '"old"'), served(new, '"new"'))}
    ) as server:
        dataset = dataset_of(server, new)
        read_first_bytes(open_content(small_file=0), dataset, 100)
        with HandleReader(open_content(small_file=0, stall=STALL_SECONDS), dataset) as reader:
            assert reader.read(3 * BLOCK, 100) == new[3 * BLOCK : 3 * BLOCK + 100]
            assert reader.read_to_end() == new


def test_threads_that_notice_a_change_together_restart_the_file_once(open_content: Open) -> None:
    old, new = some_bytes(len(DATA), seed=3), DATA
    with ScriptedServer(
        {"/a.b.npy": alternating_faults(served(old, '"old"'), served(new, '"new"'))}
    ) as server:
        dataset = dataset_of(server, new)
        first = open_content(small_file=0)
        with HandleReader(first, dataset) as reader:
            reader.read(len(DATA) - 50, 50)  # at the end, where nothing is read ahead
        first.close()
        places = [number * BLOCK for number in range(len(DATA) // BLOCK)]
        with HandleReader(open_content(small_file=0, stall=STALL_SECONDS), dataset) as reader:
            found = in_threads(8, lambda: [reader.read(place, 100) for place in places])
        assert found == [[new[place : place + 100] for place in places]] * 8


def test_without_validators_the_md5_detects_a_change(open_content: Open) -> None:
    content = open_content(stall=STALL_SECONDS, small_file=0)
    old, new = some_bytes(len(DATA), seed=3), DATA
    with ScriptedServer(
        {"/a.b.npy": alternating_faults(served(old, ""), served(new, ""))}
    ) as server:
        dataset = dataset_of(server, new)
        with HandleReader(content, dataset) as reader:
            with suppress(BadContent):  # the verdict may come before the reader's last read
                reader.read_to_end()
            wait_until(lambda: content.store.mismatches.dataset_ids() == [dataset.id])
            with pytest.raises(BadContent):
                reader.read(0, 1)
        pass_time(content)
        assert read_all(content, dataset) == new


@pytest.mark.parametrize(
    "first",
    [answer(b"", 404), answer(b"", 500), stall(), PAGE],
    ids=["404", "500", "stall", "page"],
)
def test_the_next_replica_is_used(content: Content, first: Script) -> None:
    with ScriptedServer({"/x": first}) as one, ScriptedServer({"/y": served(DATA)}) as other:
        copies = (Replica("one", f"{one.url}/x"), Replica("other", f"{other.url}/y"))
        dataset = dataset_of(one, DATA, replicas=copies)
        with within():
            assert read_all(content, dataset) == DATA


def test_replicas_are_tried_in_the_configured_order(open_content: Open) -> None:
    for number, wish in enumerate((["repo1"], ["none", "*1"])):
        content = open_content(small_file=0, preferred=wish, cache=f"cache{number}")
        with ScriptedServer({"/x": served(DATA), "/y": served(DATA)}) as server:
            assert read_all(content, dataset_of(server, DATA, "/x", "/y")) == DATA
            assert {request.target for request in server.requests} == {"/y"}


def test_a_replica_of_another_size_is_skipped(content: Content) -> None:
    with ScriptedServer({"/x": served(DATA[:-5]), "/y": served(DATA)}) as server:
        assert read_all(content, dataset_of(server, DATA, "/x", "/y")) == DATA


def test_replicas_are_not_mixed_where_no_md5_could_prove_it(open_content: Open) -> None:
    content = open_content(stall=STALL_SECONDS, small_file=0)
    other = some_bytes(len(DATA), seed=4)
    scripts = {"/x": alternating_faults(served(DATA), answer(b"", 404)), "/y": served(other)}
    with ScriptedServer(scripts) as server:
        dataset = dataset_of(server, DATA, "/x", "/y", md5="")
        with HandleReader(content, dataset) as reader:
            assert reader.read(0, 10) == DATA[:10]
            with pytest.raises(BadContent, match="open it again"):
                reader.read(3 * BLOCK, 10)
        assert read_all(content, dataset) == other  # opened again, and all of it from one copy


def test_a_partial_file_whose_replica_has_moved_is_fetched_from_the_start(
    open_content: Open,
) -> None:
    """Without an md5: the address of a repository changes, and old blocks are cached."""
    content = open_content(stall=STALL_SECONDS, small_file=0)
    with ScriptedServer({"/x": served(DATA), "/y": served(DATA)}) as server:
        before = dataset_of(server, DATA, "/x", md5="")
        read_first_bytes(content, before, 10)
        moved = replace(before, replicas=dataset_of(server, DATA, "/y").replicas)
        after = open_content(stall=STALL_SECONDS, small_file=0)
        with HandleReader(after, moved) as reader:
            assert reader.read(0, 10) == DATA[:10]  # it is here, and may be all that is wanted
            with pytest.raises(BadContent, match="open it again"):
                reader.read(3 * BLOCK, 10)
        assert read_all(after, moved) == DATA


@pytest.mark.parametrize("away", ["refuses", "is gone"])
def test_cached_blocks_stay_while_no_replica_is_available(open_content: Open, away: str) -> None:
    """Without an md5: its replica has moved or is gone, and the other is unavailable."""
    content = open_content(stall=STALL_SECONDS, small_file=0)
    now: list[Script] = [served(LONG)]
    with refusing_url() as nobody, ScriptedServer({"/x": lambda talk: now[0](talk)}) as server:
        before = dataset_of(server, LONG, "/x", md5="")
        other = Replica("other", f"{nobody}/y")
        with HandleReader(content, before) as reader:
            assert reader.read(0, 8 * BLOCK) == LONG[: 8 * BLOCK]
        content.close()
        now[0] = answer(b"", 404)
        copies = (other,) if away == "refuses" else (*before.replicas, other)
        after = open_content(stall=STALL_SECONDS, small_file=0)
        with HandleReader(after, replace(before, replicas=copies)) as reader:
            for at in range(0, 8 * BLOCK, BLOCK):  # in order: more would be fetched ahead
                assert reader.read(at, BLOCK) == LONG[at : at + BLOCK]
            with pytest.raises((Unreachable, ServerError)):
                reader.read(30 * BLOCK, 10)
            assert reader.read(0, 8 * BLOCK) == LONG[: 8 * BLOCK]


def test_a_file_that_no_replica_has_is_requested_once_from_each(open_content: Open) -> None:
    content = open_content(stall=STALL_SECONDS, small_file=0)
    now: list[Script] = [served(DATA)]
    scripts = {"/x": lambda talk: now[0](talk), "/y": answer(b"", 404)}
    with ScriptedServer(scripts) as server:
        dataset = dataset_of(server, DATA, "/x", "/y", md5="")
        with HandleReader(content, dataset) as reader:
            assert reader.read(0, 10) == DATA[:10]
        now[0] = answer(b"", 410)
        asked = len(server.requests)
        with (
            HandleReader(content, dataset) as reader,
            pytest.raises(ServerError, match=r"answers 4(04|10)"),
        ):
            reader.read(4 * BLOCK, 10)
        assert len(server.requests) - asked <= 4  # who reads on may have had more fetched ahead


def test_a_replica_with_a_passing_fault_is_kept(open_content: Open) -> None:
    """Without an md5: its cached blocks are worth more than another replica."""
    content = open_content(stall=STALL_SECONDS, small_file=0)
    scripts = {
        "/x": alternating_faults(served(DATA), answer(b"", 503), served(DATA)),
        "/y": served(DATA),
    }
    with ScriptedServer(scripts) as server:
        dataset = dataset_of(server, DATA, "/x", "/y", md5="")
        with HandleReader(content, dataset) as reader:
            assert reader.read(0, 10) == DATA[:10]
            assert reader.read(4 * BLOCK, 10) == DATA[4 * BLOCK : 4 * BLOCK + 10]
        assert "/y" not in [request.target for request in server.requests]


@pytest.mark.parametrize("small_file", [0, 1 << 30], ids=["blocks", "whole"])
@pytest.mark.parametrize("away", [answer(b"", 503), stall()], ids=["503", "silent"])
def test_a_file_is_not_rejected_while_another_replica_may_come_back(
    open_content: Open, small_file: int, away: Script
) -> None:
    content = open_content(stall=SHORT_STALL_SECONDS, small_file=small_file)
    with ScriptedServer({"/wrong": served(DATA[:-7]), "/away": away}) as server:
        dataset = dataset_of(server, DATA, "/wrong", "/away")
        with pytest.raises(OnefsError) as caught:
            read_all(content, dataset)
        assert not isinstance(caught.value, BadContent)
        assert content.state(dataset)[0] != "bad"


@pytest.mark.parametrize("small_file", [0, 1 << 30], ids=["blocks", "whole"])
def test_a_file_is_not_rejected_while_a_replica_has_not_answered(
    open_content: Open, small_file: int
) -> None:
    busy = answer(b"", 429, Retry_After=3600)
    scripts = {"/wrong": served(DATA[:-7]), "/good": alternating_faults(busy, served(DATA))}
    with ScriptedServer(scripts) as server:
        dataset = dataset_of(server, DATA, "/wrong", "/good")
        content = open_content(stall=STALL_SECONDS, small_file=small_file)
        with pytest.raises(Throttled):
            read_all(content, dataset)
        assert content.state(dataset)[0] != "bad"
        # it is free again
        after = open_content(stall=STALL_SECONDS, small_file=small_file)
        assert read_all(after, dataset) == DATA


@pytest.mark.parametrize("small_file", [0, 1 << 30], ids=["blocks", "whole"])
def test_a_server_that_asks_for_a_long_wait_delays_no_other_server(
    open_content: Open, small_file: int
) -> None:
    content = open_content(stall=STALL_SECONDS, small_file=small_file)
    count = MAX_DOWNLOADS + 4
    names = [f"/{number}" for number in range(count)]
    busy = {name: answer(b"", 429, Retry_After=3600) for name in names}
    with ScriptedServer(busy) as throttled, ScriptedServer({"/a.b.npy": served(DATA)}) as other:
        sets = [dataset_of(throttled, DATA, name) for name in names]
        waiting = iter(sets)
        errors = in_threads(count, lambda: read_all(content, next(waiting)))
        assert {type(error) for error in errors} == {Throttled}
        assert read_all(content, dataset_of(other, DATA)) == DATA
        asked = len(throttled.requests)
        assert asked <= count
        with pytest.raises(Throttled, match="asks to wait"):  # and is left in peace
            read_all(content, dataset_of(throttled, DATA, "/more"))
        assert len(throttled.requests) == asked


def test_replicas_are_mixed_where_the_md5_proves_it(open_content: Open) -> None:
    content = open_content(stall=STALL_SECONDS, small_file=0)
    scripts = {"/x": alternating_faults(served(DATA), answer(b"", 404)), "/y": served(DATA, '"y"')}
    with ScriptedServer(scripts) as server:
        dataset = dataset_of(server, DATA, "/x", "/y")
        assert read_all(content, dataset) == DATA
        wait_until(lambda: content.state(dataset)[0] == "cached")


@pytest.mark.long
def test_a_file_that_stalls_does_not_fail_its_neighbours(content: Content) -> None:
    """They are the probes: their server answers, so that they are read at once."""
    names = [f"/{number}" for number in range(3)]
    with ScriptedServer({"/a.b.npy": stall(), **{name: served(DATA) for name in names}}) as server:
        bad = dataset_of(server, DATA)
        with pytest.raises(DeadlineExceeded):
            read_all(content, bad)
        good = iter([dataset_of(server, DATA, name) for name in names])
        assert in_threads(3, lambda: read_all(content, next(good))) == [DATA] * 3
        with pytest.raises(DeadlineExceeded):
            read_all(content, bad)
        assert read_all(content, dataset_of(server, DATA, "/0")) == DATA


def test_a_server_that_delivered_other_bytes_is_not_probed(content: Content) -> None:
    with ScriptedServer(
        {"/x": stall(), "/y": served(LONG, rate=5 << 20), "/z": served(DATA)}
    ) as server:
        slow = threading.Thread(target=read_all, args=(content, dataset_of(server, LONG, "/y")))
        slow.start()
        with pytest.raises(DeadlineExceeded):
            read_all(content, dataset_of(server, DATA, "/x"))
        assert read_all(content, dataset_of(server, DATA, "/z")) == DATA
        slow.join(30)
        probes = [each for each in server.requests if each.headers.get("range") == "bytes=0-0"]
        assert probes == []


def test_after_a_deadline_other_readers_wait_for_a_probe_then_fail(content: Content) -> None:
    now: list[Script] = [stall()]
    scripts = {"/a.b.npy": stall(), "/c.d.npy": lambda talk: now[0](talk)}
    with ScriptedServer(scripts) as server:
        first, second = dataset_of(server, DATA), dataset_of(server, DATA, "/c.d.npy")
        with pytest.raises(DeadlineExceeded):
            read_all(content, first)
        with pytest.raises(DeadlineExceeded, match="tried again in a moment"):
            read_all(content, second)
        now[0] = served(DATA)

        def works() -> bool:
            try:
                return read_all(content, second) == DATA
            except OnefsError:
                return False

        wait_until(works, timeout=20)


def test_readers_that_wait_for_a_probe_are_woken_by_close(content: Content) -> None:
    with ScriptedServer({"/x": stall(), "/y": stall()}) as server:
        with pytest.raises(DeadlineExceeded):
            read_all(content, dataset_of(server, DATA, "/x"))
        threading.Timer(0.3, content.close).start()
        with pytest.raises(Stopping):
            read_all(content, dataset_of(server, DATA, "/y"))


def test_a_probe_that_cannot_start_does_not_prevent_the_next(
    content: Content, monkeypatch: pytest.MonkeyPatch
) -> None:
    start = threading.Thread.start

    def refuse(thread: threading.Thread) -> None:
        if thread.name == "onefs-probe":
            raise RuntimeError("can't start new thread")
        start(thread)

    with ScriptedServer({"/x": stall(), "/y": served(DATA)}) as server:
        good = dataset_of(server, DATA, "/y")
        with pytest.raises(DeadlineExceeded):
            read_all(content, dataset_of(server, DATA, "/x"))
        with monkeypatch.context() as patched:
            patched.setattr(threading.Thread, "start", refuse)
            with pytest.raises(DeadlineExceeded):
                read_all(content, good)

        def works() -> bool:
            with suppress(OnefsError):
                return read_all(content, good) == DATA
            return False

        wait_until(works, timeout=20)


def test_a_probe_that_crashes_does_not_prevent_the_next() -> None:
    asked: list[str] = []

    def probe(url: str) -> None:
        asked.append(url)
        if len(asked) == 1:
            raise ZeroDivisionError("not foreseen")

    circuits = HostCircuits(probe, recent_seconds=1.0)
    circuits.note_timeout("http://host/a")
    with suppress_thread_errors():
        wait_until(lambda: circuits.wait_for_probe(["http://host/b"]), timeout=20)
    assert len(asked) == 2


def test_a_restart_of_the_server_is_survived(open_content: Open, server: FileServer) -> None:
    content, dataset = open_content(stall=60.0, small_file=0), server.dataset("a.b.npy", DATA)
    with HandleReader(content, dataset) as reader:
        assert reader.read(0, 10) == DATA[:10]
        server.listener.stop()
        back = threading.Timer(2.0, server.start)
        back.start()
        assert reader.read_to_end() == DATA
        back.join(60)
