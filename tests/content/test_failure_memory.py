"""Memory after failed downloads: no error keeps frames, and the buffers in them, in memory."""

from __future__ import annotations

from contextlib import suppress

import pytest

from onefs.errors import OnefsError
from tests.content.conftest import Open
from tests.content.ranged_file import BLOCK, HandleReader, dataset_of, served, some_bytes
from tests.scripted_server import Script, ScriptedConnection, ScriptedServer, answer
from tests.unreachable_frames import unreachable_frames

SIZE = 6 * BLOCK
DATA = some_bytes(SIZE)
HALF = BLOCK + BLOCK // 2


@pytest.mark.parametrize(
    "script",
    [
        answer(b"no", 403),
        answer(b"no", 404),
        answer(b"no", 500),
        served(DATA, cut=HALF, then=ScriptedConnection.reset),
        served(DATA, cut=HALF, then=ScriptedConnection.pause),
        served(DATA[:-1] + b"x"),
    ],
    ids=["403", "404", "500", "reset", "stalled", "wrong"],
)
@pytest.mark.parametrize("small_file", [0, SIZE], ids=["large", "small"])
def test_a_failed_read_leaves_no_frames(
    open_content: Open, script: Script, small_file: int
) -> None:
    with ScriptedServer({"/a.b.npy": script}) as server:
        content, dataset = open_content(stall=0.2, small_file=small_file), dataset_of(server, DATA)
        with unreachable_frames() as names:
            with suppress(OnefsError), HandleReader(content, dataset) as reader:
                reader.read(0, 100)
                reader.read(SIZE - 100, 100)
            content.close()
        assert names == []


def test_a_cancelled_request_leaves_no_frames(open_content: Open) -> None:
    script = served(DATA, cut=HALF, then=ScriptedConnection.pause)
    with ScriptedServer({"/a.b.npy": script}) as server:
        content, dataset = open_content(stall=60.0, small_file=0), dataset_of(server, DATA)
        with unreachable_frames() as names:
            for _ in range(3):
                with HandleReader(content, dataset) as reader:
                    reader.read(0, 100)
            content.close()
        assert names == []


def test_a_failed_request_for_a_size_leaves_no_frames(open_content: Open) -> None:
    with ScriptedServer({"/a.b.npy": answer(b"no", 500)}) as server:
        content, dataset = open_content(), dataset_of(server, DATA)
        with unreachable_frames() as names, suppress(OnefsError):
            content.small_files.size_of(dataset, 10.0)
        assert names == []
