"""What servers do wrong, by the rows of the table of faults in docs/SEMANTICS.md."""

from __future__ import annotations

import errno
import itertools
import uuid
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from functools import partial

import pytest

from onefs.content.content import Content
from onefs.errors import BadContent, OnefsError, Throttled
from onefs.model import Replica
from tests.content.conftest import Open, pass_time
from tests.content.ranged_file import BLOCK, HandleReader, read_all, requested_span, served
from tests.download.conftest import (
    DATA,
    PAGE,
    SHORT_STALL_SECONDS,
    STALL_SECONDS,
    read_or_empty,
)
from tests.download.sources.wires import OTHER, Check, Wire
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
    unanswering_url,
)

#: in place of an errno: the bytes are right
RIGHT = 0
RANGE = f"bytes 0-{BLOCK - 1}/{len(DATA)}"


def other_id(text: str) -> str:
    """Return the id of another dataset."""
    return str(uuid.uuid5(uuid.NAMESPACE_URL, text))


def opened(wire: Wire, open_content: Open, seconds: float = STALL_SECONDS) -> Content:
    return open_content(source=wire.source, stall=seconds, small_file=0)


def reads(wire: Wire, content: Content, *allowed: int) -> None:
    """Read the file whole. Fail unless the bytes are right, or the errno is one of ``allowed``."""
    number, text = RIGHT, ""
    with within():
        try:
            assert read_all(content, wire.dataset()) == DATA
        except OnefsError as error:
            number, text = error.errno, str(error)
    assert number in allowed, text


def passing(*faults: str) -> Check:
    """Each fault happens once: the bytes are right."""

    def check(wire: Wire, open_content: Open) -> None:
        for fault in faults:
            content = open_content(
                source=wire.source, stall=STALL_SECONDS, small_file=0, cache=f"cache {fault}"
            )
            wire.answer(FAULTS[fault](wire), wire.good)
            reads(wire, content, RIGHT)

    return check


def lasting(*allowed: int, **faults: Script | None) -> Check:
    """Each fault happens each time: the errno is one of ``allowed``, and no byte is served."""

    def check(wire: Wire, open_content: Open) -> None:
        for name, script in faults.items():
            content = open_content(
                source=wire.source, stall=SHORT_STALL_SECONDS, small_file=0, cache=f"cache {name}"
            )
            wire.answer(script or FAULTS[name](wire))
            reads(wire, content, *allowed)
            assert content.state(wire.dataset())[0] in ("remote", "partial")

    return check


FAULTS: dict[str, Callable[[Wire], Script]] = {
    "reset": lambda wire: served(DATA, cut=BLOCK + 5000, then=ScriptedConnection.reset),
    "truncated": lambda wire: served(DATA, cut=7_000),
    "500": lambda wire: wire.error(500),
    "502": lambda wire: wire.error(502),
    "503": lambda wire: wire.error(503),
    "429": lambda wire: wire.error(429, Retry_After=1),
    "404": lambda wire: wire.error(404),
    "410": lambda wire: wire.error(410),
    "401": lambda wire: wire.error(401),
    "403": lambda wire: wire.error(403),
}


def no_connection(wire: Wire, open_content: Open) -> None:
    for number, address in enumerate((refusing_url, unanswering_url)):
        with address() as url:
            content = open_content(
                source=wire.open_source(url, wire.transport),
                stall=SHORT_STALL_SECONDS,
                small_file=0,
                cache=f"cache{number}",
            )
            with within(), pytest.raises(OnefsError) as caught:
                read_all(content, wire.dataset(url))
            assert caught.value.errno in (errno.EHOSTUNREACH, errno.ETIMEDOUT)


def slow_answer(wire: Wire, open_content: Open) -> None:
    stalls = {
        "silent": stall(),
        "middle": served(DATA, cut=70_000, then=ScriptedConnection.pause),
        "trickle": served(DATA, rate=1.0),
    }
    lasting(errno.ETIMEDOUT, **stalls)(wire, open_content)


def throttled_for_long(wire: Wire, open_content: Open) -> None:
    """The error comes at once, and the server gets no further request."""
    content = opened(wire, open_content)
    wire.answer(wire.error(429, Retry_After=3600))
    with pytest.raises(Throttled):
        read_all(content, wire.dataset())
    count = len(wire.requests)
    with pytest.raises(Throttled):
        read_all(content, wire.dataset(id=other_id("another file")))
    assert len(wire.requests) == count


def ignored_ranges(wire: Wire, open_content: Open) -> None:
    content = opened(wire, open_content)
    wire.answer(served(DATA, ranges=False))
    with HandleReader(content, wire.dataset()) as reader:
        assert reader.read(3 * BLOCK + 7, 100) == DATA[3 * BLOCK + 7 : 3 * BLOCK + 107]
        assert reader.read_to_end() == DATA
    assert len(wire.requests) <= 2  # the first download may end when its reader has its block


def wrong_range(wire: Wire, open_content: Open) -> None:
    content = opened(wire, open_content)
    for said in (f"bytes 7-{BLOCK - 1}/{len(DATA)}", f"bytes */{len(DATA)}", "rubbish", ""):
        wire.answer(answer(DATA[:BLOCK], 206, Content_Range=said))
        with HandleReader(content, wire.dataset(id=other_id(said))) as reader:
            with pytest.raises(OnefsError) as caught:
                reader.read(0, 100)
            assert caught.value.errno == errno.EIO
    assert content.total_bytes() == 0


def larger_range(wire: Wire, open_content: Open) -> None:
    def script(talk: ScriptedConnection) -> None:
        start, _ = requested_span(talk.request, len(DATA)) or (0, len(DATA))
        first = start // 2
        about = {"Content_Range": f"bytes {first}-{len(DATA) - 1}/{len(DATA)}"}
        answer(DATA[first:], 206, ETag='"one"', **about)(talk)

    content = opened(wire, open_content)
    wire.answer(script)
    with HandleReader(content, wire.dataset()) as reader:
        at = 3 * BLOCK + 7
        assert reader.read(at, 100) == DATA[at : at + 100]
        assert reader.read_to_end() == DATA


def interim_answers(wire: Wire, open_content: Open) -> None:
    def script(talk: ScriptedConnection) -> None:
        talk.send(b"HTTP/1.1 102 Processing\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: <x>\r\n\r\n")
        wire.good(talk)

    wire.answer(script)
    reads(wire, opened(wire, open_content), RIGHT)


def surplus_bytes(wire: Wire, open_content: Open) -> None:
    content = opened(wire, open_content)
    wire.answer(answer(DATA + b"more", 206, Content_Range=RANGE))
    with HandleReader(content, wire.dataset()) as reader:
        assert reader.read(0, BLOCK) == DATA[:BLOCK]


def without_length(wire: Wire, open_content: Open) -> None:
    def script(talk: ScriptedConnection, sent: int | None = None) -> None:
        start, end = requested_span(talk.request, len(DATA)) or (0, len(DATA))
        said = f"bytes {start}-{end - 1}/{len(DATA)}"
        talk.head(206, Connection="close", Content_Range=said)
        talk.send(DATA[start:end][:sent])
        talk.hang_up()

    wire.answer(partial(script, sent=1000), script)
    reads(wire, opened(wire, open_content), RIGHT)


def redirect_to_another_host(wire: Wire, open_content: Open) -> None:
    """The target gets neither a password nor a signature."""
    with ScriptedServer({"/elsewhere.npy": served(DATA)}) as other:
        wire.answer(redirect(f"{other.url}/elsewhere.npy"))
        reads(wire, opened(wire, open_content), RIGHT)
        assert other.requests
        for request in other.requests:
            names = " ".join(request.headers)
            assert "authorization" not in names
            assert "x-amz" not in names


def error_text_in_the_middle(wire: Wire, open_content: Open) -> None:
    content = opened(wire, open_content)
    wire.answer(wire.good)
    dataset = wire.dataset()
    with HandleReader(content, dataset) as reader:
        assert reader.read(0, 100) == DATA[:100]
        wire.answer(answer(b"out of order", ETag='"page"', Content_Type="text/plain"))
        with suppress(OnefsError):  # the block may have been read ahead
            assert reader.read(len(DATA) - 50, 50) == DATA[-50:]
        assert reader.read(0, 100) == DATA[:100]
    wire.answer(wire.good)
    pass_time(content)
    wait_until(lambda: read_or_empty(content, dataset) == DATA, timeout=20)


def new_file_in_the_middle(wire: Wire, open_content: Open) -> None:
    content = opened(wire, open_content)
    wire.answer(served(OTHER, '"old"'), served(DATA, '"new"'))
    dataset = wire.dataset()
    with HandleReader(content, dataset) as reader:
        assert reader.read(0, 100) == OTHER[:100]
        with pytest.raises(BadContent, match="changed on the server"):
            reader.read(len(DATA) - 100, 100)
    assert read_all(content, dataset) == DATA


def many_validators(wire: Wire, open_content: Open) -> None:
    turns = itertools.cycle([served(DATA, '"a"'), served(DATA, '"b"')])
    wire.answer(lambda talk: next(turns)(talk))
    reads(wire, opened(wire, open_content), RIGHT)


def one_old_server(wire: Wire, open_content: Open) -> None:
    content = opened(wire, open_content)
    turns = itertools.cycle([served(OTHER, '"old"'), served(DATA, '"new"')])
    wire.answer(lambda talk: next(turns)(talk))
    given: list[bytes] = []
    places = (0, 3, 1, 4, 2)
    with HandleReader(content, wire.dataset()) as reader, suppress(OnefsError):
        for block in places:
            given.append(reader.read(block * BLOCK, 50))
    versions = [[v[n * BLOCK : n * BLOCK + 50] for n in places] for v in (OTHER, DATA)]
    assert any(given == version[: len(given)] for version in versions)


def new_file_without_validator(wire: Wire, open_content: Open) -> None:
    content = opened(wire, open_content)
    wire.answer(served(OTHER, ""), served(DATA, ""))
    dataset = wire.dataset()
    with HandleReader(content, dataset) as reader, suppress(OnefsError):
        reader.read(0, 100)
        reader.read(len(DATA) - 100, 100)

    def comes_right() -> bool:
        pass_time(content)
        return read_or_empty(content, dataset) == DATA and content.state(dataset)[0] == "cached"

    wait_until(comes_right, timeout=30)


def restart(wire: Wire, open_content: Open) -> None:
    def reset(talk: ScriptedConnection) -> None:
        talk.reset()

    cut = served(DATA, cut=BLOCK + 10, then=ScriptedConnection.reset)
    wire.answer(cut, reset, reset, wire.good)
    reads(wire, opened(wire, open_content, 30.0), RIGHT)


def later(script: Script) -> Script:
    """Answer with a pause, in which blocks could be requested ahead."""

    def answer_later(talk: ScriptedConnection) -> None:
        talk.pause(0.2)
        script(talk)

    return answer_later


def other_replica(wire: Wire, open_content: Open) -> None:
    """A source that refuses or lacks the file is asked once, and then passed over."""
    with ScriptedServer({"/good.npy": served(DATA)}) as other:
        for status, small_file in itertools.product((401, 403, 404), (0, 1 << 30)):
            content = open_content(
                source=wire.source, small_file=small_file, cache=f"cache{status}{small_file}"
            )
            wire.answer(later(wire.error(status)))
            first = wire.dataset().replicas[0]
            replicas = (first, Replica("other", f"{other.url}/good.npy"))
            count = len(wire.requests)
            dataset = wire.dataset(id=other_id(str(status)), replicas=replicas)
            assert read_all(content, dataset) == DATA
            assert read_all(content, replace(dataset, id=other_id(f"{status} again"))) == DATA
            assert len(wire.requests) == count + 1, status


def slow_down(wire: Wire, open_content: Open) -> None:
    """S3's 503 SlowDown is a request to wait, like 429."""
    body = b"<Error><Code>SlowDown</Code></Error>"
    content = opened(wire, open_content)
    wire.answer(answer(body, 503), wire.good)
    reads(wire, content, RIGHT)


SHORT_206 = answer(DATA[:BLOCK], 206, Content_Range=f"bytes 0-{BLOCK - 1}/{len(DATA) + 1}")
TOO_LONG = answer(b"", Content_Length="9" * 30)
CHECKS: dict[str, Check] = {
    "S1": no_connection,
    "S2": passing("reset", "truncated", "500", "502", "503"),
    "S3": slow_answer,
    "S4": lasting(
        errno.EIO,
        **{"truncated": None, "404": None, "410": None, "500": None},
        gzip=gzipped(DATA),
        page=PAGE,
        loop=lambda talk: redirect(talk.request.target)(talk),
        nonsense=raw(b"SSH-2.0-OpenSSH_9.2\r\n"),
    ),
    "S5": lasting(errno.EHOSTUNREACH, errno.EIO, **{"503": None}, reset=lambda talk: talk.reset()),
    "S6": lasting(errno.EACCES, **{"401": None, "403": None}),
    "S7": passing("429"),
    "S8": throttled_for_long,
    "S9": ignored_ranges,
    "S10": wrong_range,
    "S11": larger_range,
    "S12": interim_answers,
    "S13": lasting(errno.EIO, invalid=redirect("http://[::1/"), no_host=redirect("ftp://x/y")),
    "S14": lasting(errno.EIO, impossible=TOO_LONG),
    "S15": surplus_bytes,
    "S16": without_length,
    "S17": redirect_to_another_host,
    "S18": lasting(
        errno.EIO, no_size=answer(b"", 416), size=answer(b"", 416, Content_Range="bytes */17")
    ),
    "S19": lasting(errno.EIO, other_size=SHORT_206),
    "S20": lasting(errno.EIO, shorter=served(DATA[:-1]), text=answer(b"maintenance")),
    "S21": error_text_in_the_middle,
    "S22": new_file_in_the_middle,
    "S23": many_validators,
    "S24": one_old_server,
    "S25": new_file_without_validator,
    "S26": restart,
}
