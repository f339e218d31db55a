"""Files change on the server. Readers get only old bytes, only new bytes, or an error."""

from __future__ import annotations

import itertools
import random
import threading
from collections.abc import Callable
from contextlib import suppress

import pytest

from onefs.blocks.block_map import MIXED_VERSIONS_MARKER, BlockMapHeader, read_header
from onefs.content.content import Content
from onefs.content.handle import DatasetHandle
from onefs.errors import (
    BadContent,
    OnefsError,
)
from onefs.model import Dataset
from tests.content.conftest import Open, in_threads, pass_time
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
from tests.download.conftest import DATA, LONG, STALL_SECONDS, read_or_empty
from tests.running import wait_until
from tests.scripted_server import (
    Script,
    ScriptedConnection,
    ScriptedServer,
)


def test_a_file_that_changes_while_it_is_read_is_fetched_again(open_content: Open) -> None:
    """The reader of the old bytes gets an error. The next reader gets the new bytes."""
    told: list[object] = []
    content = open_content(stall=STALL_SECONDS, small_file=0, on_invalidated=told.append)
    old, new = some_bytes(len(DATA), seed=3), DATA
    with ScriptedServer({"/a.b.npy": [served(old, '"old"'), served(new, '"new"')]}) as server:
        dataset = dataset_of(server, new)
        with HandleReader(content, dataset) as reader:
            assert reader.read(0, 100) == old[:100]
            with pytest.raises(BadContent, match="changed on the server"):
                reader.read(2 * BLOCK, 100)
            with pytest.raises(BadContent):
                reader.read(0, 100)
        wait_until(lambda: told == [dataset])  # the reader gets its error a moment earlier
        assert read_all(content, dataset) == new
        wait_until(lambda: content.state(dataset)[0] == "cached")


def in_rotation_among_servers(*scripts: Script) -> Script:
    """Return a script for load-balanced servers. The next server answers each request."""
    turns = itertools.cycle(scripts)
    return lambda talk: next(turns)(talk)


MANY_NAMES: dict[str, Callable[[bytes], Script]] = {
    "two ETags": lambda data: in_rotation_among_servers(served(data, '"a"'), served(data, '"b"')),
    "two dates": lambda data: in_rotation_among_servers(
        served(data, "", Last_Modified="Mon, 02 Mar 2020 10:00:00 GMT"),
        served(data, "", Last_Modified="Mon, 02 Mar 2020 10:00:07 GMT"),
    ),
    "without ranges for another version": lambda data: in_rotation_among_servers(
        served(data, '"a"'), served(data, '"b"', ranges=False)
    ),
    "a new ETag each time": lambda data: lambda talk: served(data, f'"{random.random()}"')(talk),
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
    """Each response has another ETag. One reader is in this process, one in another process."""
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
    """One of two servers still has the old file. The first blocks of both files are equal."""
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
            return read_or_empty(content, dataset) == DATA and content.state(dataset)[0] == "cached"

        wait_until(comes_right, timeout=40)


def test_without_md5_another_version_is_fetched_from_the_start(open_content: Open) -> None:
    content = open_content(stall=10.0, small_file=0)
    old, new = some_bytes(len(DATA), seed=3), DATA
    with ScriptedServer({"/a.b.npy": [served(old, '"old"'), served(new, '"new"')]}) as server:
        dataset = dataset_of(server, new, md5="")
        with HandleReader(content, dataset) as reader:
            assert reader.read(0, 100) == old[:100]
            with pytest.raises(BadContent, match="changed on the server"):
                reader.read(2 * BLOCK, 100)
        assert read_all(content, dataset) == new


def test_a_file_that_changed_between_two_processes(open_content: Open) -> None:
    old, new = some_bytes(len(DATA), seed=3), DATA
    with ScriptedServer({"/a.b.npy": [served(old, '"old"'), served(new, '"new"')]}) as server:
        dataset = dataset_of(server, new)
        read_first_bytes(open_content(small_file=0), dataset, 100)
        content = open_content(small_file=0, stall=STALL_SECONDS)
        with HandleReader(content, dataset) as reader:
            # the change is not known yet, because these bytes are cached
            assert reader.read(0, 100) == old[:100]
            with pytest.raises(BadContent):
                reader.read(2 * BLOCK, 100)
        with HandleReader(content, dataset) as reader:
            assert reader.read_to_end() == new


def test_a_change_without_a_new_answer_is_not_noticed(open_content: Open) -> None:
    old, new = some_bytes(len(DATA), seed=3), DATA
    with ScriptedServer({"/a.b.npy": [served(old, '"old"'), served(new, '"new"')]}) as server:
        dataset = dataset_of(server, new)
        read_first_bytes(open_content(small_file=0), dataset, 100)
        with HandleReader(open_content(small_file=0, stall=STALL_SECONDS), dataset) as reader:
            assert reader.read(3 * BLOCK, 100) == new[3 * BLOCK : 3 * BLOCK + 100]
            assert reader.read_to_end() == new


def test_threads_that_notice_a_change_together_restart_the_file_once(open_content: Open) -> None:
    old, new = some_bytes(len(DATA), seed=3), DATA
    with ScriptedServer({"/a.b.npy": [served(old, '"old"'), served(new, '"new"')]}) as server:
        dataset = dataset_of(server, new)
        first = open_content(small_file=0)
        with HandleReader(first, dataset) as reader:
            reader.read(len(DATA) - 50, 50)  # at the end of the file, where no bytes are read ahead
        first.close()
        places = [number * BLOCK for number in range(len(DATA) // BLOCK)]
        with HandleReader(open_content(small_file=0, stall=STALL_SECONDS), dataset) as reader:
            found = in_threads(8, lambda: [reader.read(place, 100) for place in places])
        assert found == [[new[place : place + 100] for place in places]] * 8


def test_without_validators_the_md5_detects_a_change(open_content: Open) -> None:
    content = open_content(stall=STALL_SECONDS, small_file=0)
    old, new = some_bytes(len(DATA), seed=3), DATA
    with ScriptedServer({"/a.b.npy": [served(old, ""), served(new, "")]}) as server:
        dataset = dataset_of(server, new)
        with HandleReader(content, dataset) as reader:
            with suppress(BadContent):  # the content may be rejected before the last read
                reader.read_to_end()
            wait_until(lambda: content.store.mismatches.dataset_ids() == [dataset.id])
            with pytest.raises(BadContent):
                reader.read(0, 1)
        pass_time(content)
        assert read_all(content, dataset) == new


def test_a_thread_that_notices_a_change_late_reads_the_new_file(open_content: Open) -> None:
    """Another thread has started over by then, and has served bytes of the new version."""
    old, new = some_bytes(len(DATA), seed=3), DATA
    with ScriptedServer({"/a.b.npy": [served(old, '"old"'), served(new, '"new"')]}) as server:
        dataset = dataset_of(server, new)
        first = open_content(small_file=0)
        with HandleReader(first, dataset) as reader:
            reader.read(len(DATA) - 50, 50)
        first.close()
        with HandleReader(open_content(small_file=0), dataset) as reader:
            assert reader.read(0, 100) == new[:100]
            assert isinstance(reader.handle, DatasetHandle)
            reader.handle._restart(last=False)  # what the late thread does
            assert reader.read(BLOCK, 100) == new[BLOCK : BLOCK + 100]
