"""Read-ahead after its blocks were evicted before they were read."""

from __future__ import annotations

from tests.content.conftest import Open
from tests.content.ranged_file import BLOCK, HandleReader, dataset_of, served, some_bytes
from tests.running import wait_until
from tests.scripted_server import ScriptedServer

DATA = some_bytes(128 * BLOCK)
STEP = 2 * BLOCK


def test_blocks_that_were_evicted_before_they_were_read_are_read_ahead_again(
    open_content: Open,
) -> None:
    with ScriptedServer({"/a.b.npy": served(DATA)}) as server:
        content = open_content(small_file=BLOCK)
        dataset = dataset_of(server, DATA)
        with HandleReader(content, dataset) as reader:
            for offset in range(0, len(DATA) // 2, STEP):
                assert reader.read(offset, STEP) == DATA[offset : offset + STEP]
            wait_until(lambda: not content.transfers())
            # another process knows nothing of what is to be read ahead here
            open_content().admin.evict(dataset.id)
            before = len(server.requests)
            end = len(DATA) // 2 + 8 * STEP
            for offset in range(len(DATA) // 2, end, STEP):
                assert reader.read(offset, STEP) == DATA[offset : offset + STEP]
            # of 512 KiB each, where each read would send one
            assert len(server.requests) - before <= 5
