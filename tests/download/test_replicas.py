"""Several replicas of one dataset: order, failures, and when blocks of two can be mixed."""

from __future__ import annotations

from dataclasses import replace

import pytest

from onefs.content.content import Content
from onefs.download.whole_file import MAX_DOWNLOADS
from onefs.errors import (
    BadContent,
    OnefsError,
    ServerError,
    Throttled,
    Unreachable,
)
from onefs.model import Replica
from tests.content.conftest import Open, in_threads
from tests.content.ranged_file import (
    BLOCK,
    HandleReader,
    dataset_of,
    read_all,
    read_first_bytes,
    served,
    some_bytes,
)
from tests.download.conftest import DATA, LONG, PAGE, SHORT_STALL_SECONDS, STALL_SECONDS
from tests.running import wait_until, within
from tests.scripted_server import (
    Script,
    ScriptedServer,
    Scripts,
    answer,
    refusing_url,
    stall,
)


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
    scripts: Scripts = {"/x": [served(DATA), answer(b"", 404)], "/y": served(other)}
    with ScriptedServer(scripts) as server:
        dataset = dataset_of(server, DATA, "/x", "/y", md5="")
        with HandleReader(content, dataset) as reader:
            assert reader.read(0, 10) == DATA[:10]
            with pytest.raises(BadContent, match="open the file again"):
                reader.read(3 * BLOCK, 10)
        assert read_all(content, dataset) == other  # all bytes from one replica


def test_a_partial_file_whose_replica_has_moved_is_fetched_from_the_start(
    open_content: Open,
) -> None:
    """The dataset has no md5. Blocks are cached, and then the address of its repository changes."""
    content = open_content(stall=STALL_SECONDS, small_file=0)
    with ScriptedServer({"/x": served(DATA), "/y": served(DATA)}) as server:
        before = dataset_of(server, DATA, "/x", md5="")
        read_first_bytes(content, before, 10)
        moved = replace(before, replicas=dataset_of(server, DATA, "/y").replicas)
        after = open_content(stall=STALL_SECONDS, small_file=0)
        with HandleReader(after, moved) as reader:
            assert reader.read(0, 10) == DATA[:10]  # these bytes are cached
            with pytest.raises(BadContent, match="open the file again"):
                reader.read(3 * BLOCK, 10)
        assert read_all(after, moved) == DATA


@pytest.mark.parametrize("away", ["refuses", "is gone"])
def test_cached_blocks_stay_while_no_replica_is_available(open_content: Open, away: str) -> None:
    """The dataset has no md5. One replica has moved or is gone, the other is unavailable."""
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
    scripts: Scripts = {"/x": lambda talk: now[0](talk), "/y": answer(b"", 404)}
    with ScriptedServer(scripts) as server:
        dataset = dataset_of(server, DATA, "/x", "/y", md5="")
        with HandleReader(content, dataset) as reader:
            assert reader.read(0, 10) == DATA[:10]
        now[0] = answer(b"", 410)
        asked = len(server.requests)
        with (
            HandleReader(content, dataset) as reader,
            pytest.raises(ServerError, match=r"HTTP 4(04|10)"),
        ):
            reader.read(4 * BLOCK, 10)
        assert len(server.requests) - asked <= 4  # a reader that reads on can cause requests ahead


def test_a_replica_with_a_passing_fault_is_kept(open_content: Open) -> None:
    """The dataset has no md5. Its cached blocks are kept, and no other replica is used."""
    content = open_content(stall=STALL_SECONDS, small_file=0)
    scripts: Scripts = {
        "/x": [served(DATA), answer(b"", 503), served(DATA)],
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
    scripts: Scripts = {"/wrong": served(DATA[:-7]), "/good": [busy, served(DATA)]}
    with ScriptedServer(scripts) as server:
        dataset = dataset_of(server, DATA, "/wrong", "/good")
        content = open_content(stall=STALL_SECONDS, small_file=small_file)
        with pytest.raises(Throttled):
            read_all(content, dataset)
        assert content.state(dataset)[0] != "bad"
        # the server does not ask to wait any more
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
        with pytest.raises(Throttled, match="asks to wait"):  # and the server gets no request
            read_all(content, dataset_of(throttled, DATA, "/more"))
        assert len(throttled.requests) == asked


def test_replicas_are_mixed_where_the_md5_proves_it(open_content: Open) -> None:
    content = open_content(stall=STALL_SECONDS, small_file=0)
    scripts: Scripts = {"/x": [served(DATA), answer(b"", 404)], "/y": served(DATA, '"y"')}
    with ScriptedServer(scripts) as server:
        dataset = dataset_of(server, DATA, "/x", "/y")
        assert read_all(content, dataset) == DATA
        wait_until(lambda: content.state(dataset)[0] == "cached")
