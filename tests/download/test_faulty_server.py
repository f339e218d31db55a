"""A faulty file server. Readers get the right bytes, or an error within the deadline.

Each fault is tested with a file that is fetched in blocks and a file that is fetched whole.
"""

from __future__ import annotations

import errno
import threading
from dataclasses import replace

import pytest

from onefs.cache.mismatches import REQUIRED_SIZE_MISMATCHES, UnconfirmedMismatch
from onefs.content.content import Content
from onefs.errors import (
    BadContent,
    DataServerCredentials,
    DeadlineExceeded,
    OnefsError,
    ServerError,
    Throttled,
    Unreachable,
)
from onefs.model import Replica
from tests.content.conftest import FileServer, Open, make_rejected, pass_time
from tests.content.ranged_file import (
    BLOCK,
    HandleReader,
    dataset_of,
    read_all,
    requested_span,
    served,
    some_bytes,
)
from tests.download.conftest import DATA, LONG, PAGE, STALL_SECONDS, read_or_empty
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


def slowly(talk: ScriptedConnection) -> None:
    """Send a correct answer slowly, one byte at a time."""
    size = len(DATA)
    span = requested_span(talk.request, size)
    head = f"HTTP/1.1 200 OK\r\nContent-Length: {size}\r\n\r\n"
    if span:
        head = (
            f"HTTP/1.1 206 OK\r\nContent-Range: bytes {span[0]}-{span[1] - 1}/{size}\r\n"
            f"Content-Length: {span[1] - span[0]}\r\n\r\n"
        )
    trickle(head.encode() + DATA, 0.2)(talk)


PASSING_FAULTS: dict[str, Script] = {
    "resets": served(DATA, cut=BLOCK + 5000, then=ScriptedConnection.reset),
    "resets at once": lambda talk: talk.reset(),
    "truncates": served(DATA, cut=BLOCK + 7_000),
    "truncates the first block": served(DATA, cut=7_000),
    "answers nonsense": raw(b"SSH-2.0-OpenSSH_9.2\r\n"),
    "ends after the headers": served(DATA, cut=0),
    "500": answer(b"", 500),
    "502": answer(b"", 502),
    "503": answer(b"", 503),
    "429": answer(b"", 429, Retry_After=1),
}


@pytest.mark.parametrize("fault", PASSING_FAULTS)
def test_a_passing_fault_is_survived(content: Content, fault: str) -> None:
    with ScriptedServer({"/a.b.npy": [PASSING_FAULTS[fault], served(DATA)]}) as server:
        assert read_all(content, dataset_of(server, DATA)) == DATA


LASTING_FAULTS: dict[str, tuple[Script, type[OnefsError]]] = {
    "stalls": (stall(), DeadlineExceeded),
    "stalls in the middle": (
        served(DATA, cut=7_000, then=ScriptedConnection.pause),
        DeadlineExceeded,
    ),
    "trickles": (slowly, DeadlineExceeded),
    "truncates": (served(DATA, cut=7_000), ServerError),
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
    with ScriptedServer({"/a.b.npy": [lie, served(DATA)]}) as server:
        dataset = dataset_of(server, DATA)
        with (
            HandleReader(content, dataset) as reader,
            pytest.raises(UnconfirmedMismatch, match="the mismatch may be temporary"),
        ):
            reader.read(0, 100)
        assert len(server.requests) == 1
        pass_time(content)
        wait_until(lambda: read_or_empty(content, dataset) == DATA, timeout=20)
        wait_until(lambda: content.store.mismatches.dataset_ids() == [])


def test_an_error_text_with_its_own_date_drops_no_block(open_content: Open) -> None:
    """In the middle of a file the server sends status 200, an error page and its validator."""
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
                pass_time(content)  # fetching ahead may have got the error page again
                return read_or_empty(content, dataset) == LONG

            wait_until(comes_right, timeout=20)
            assert reader.read(35 * BLOCK, 100) == LONG[35 * BLOCK : 35 * BLOCK + 100]


def test_416_without_a_size_is_an_error(open_content: Open) -> None:
    content = open_content(stall=STALL_SECONDS, small_file=0)
    with (
        ScriptedServer({"/a.b.npy": answer(b"", 416)}) as server,
        pytest.raises(ServerError, match="416"),
    ):
        read_all(content, dataset_of(server, DATA))


def test_ranges_that_are_ignored_cost_one_download(open_content: Open) -> None:
    """The server answers 200 with the whole file, whose blocks are stored at the right offsets."""
    content = open_content(stall=STALL_SECONDS, small_file=0)
    with ScriptedServer({"/a.b.npy": served(DATA, ranges=False)}) as server:
        dataset = dataset_of(server, DATA)
        with HandleReader(content, dataset) as reader:
            assert reader.read(3 * BLOCK + 7, 100) == DATA[3 * BLOCK + 7 : 3 * BLOCK + 107]
            assert reader.read(0, 100) == DATA[:100]
            assert reader.read_to_end() == DATA
        assert len(server.requests) <= 2  # the first download may end when its reader has its block


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
    """The server sends the whole file, with its own or the requested range, or a larger range."""
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
    """The server states a size that is too large for SQLite and the kernel."""
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
    span = requested_span(talk.request, len(DATA))
    assert span is not None
    talk.head(206, Connection="close", Content_Range=f"bytes {span[0]}-{span[1] - 1}/{len(DATA)}")
    talk.send(DATA[span[0] : span[0] + 1000])
    talk.hang_up()


def test_an_answer_without_length_is_stored_by_its_range(open_content: Open) -> None:
    content = open_content(stall=STALL_SECONDS, small_file=0)
    with ScriptedServer({"/a.b.npy": [no_length_cut, no_length]}) as server:
        assert read_all(content, dataset_of(server, DATA)) == DATA


def test_credentials_are_not_sent_to_the_target_of_a_redirect(content: Content) -> None:
    with (
        ScriptedServer({"/a.b.npy": served(DATA)}) as other,
        ScriptedServer({"/a.b.npy": redirect(f"{other.url}/a.b.npy")}) as server,
    ):
        assert read_all(content, dataset_of(server, DATA)) == DATA
        assert all("authorization" not in request.headers for request in other.requests)


def test_a_restart_of_the_server_is_survived(open_content: Open, server: FileServer) -> None:
    content, dataset = open_content(stall=60.0, small_file=0), server.dataset("a.b.npy", DATA)
    with HandleReader(content, dataset) as reader:
        assert reader.read(0, 10) == DATA[:10]
        server.listener.stop()
        back = threading.Timer(2.0, server.start)
        back.start()
        assert reader.read_to_end() == DATA
        back.join(60)
