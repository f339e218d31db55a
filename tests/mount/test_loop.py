"""The loop of a mount. The main thread never waits for libfuse."""

from __future__ import annotations

import threading
from queue import SimpleQueue
from typing import Any

from onefs.mount.daemon_config import DaemonConfig
from onefs.mount.loop import MountLoop, PathInvalidations
from tests.running import wait_until


class StuckLibrary:
    """A replacement for libfuse's loop, in which an invalidation waits until ``release`` is set.

    In libfuse, an invalidation waits for reads of the same path.
    """

    can_invalidate = True

    def __init__(self) -> None:
        self.asked, self.release = threading.Event(), threading.Event()

    def invalidate_path(self, path: str) -> None:
        self.asked.set()
        assert self.release.wait(30)

    def exit(self) -> None:
        """Do nothing."""

    def has_exited(self) -> bool:
        return False


def test_an_invalidation_that_hangs_blocks_no_other_thread() -> None:
    paths: SimpleQueue[str] = SimpleQueue()
    forgotten: list[str] = []
    operations: Any = None
    loop = MountLoop(
        operations,
        DaemonConfig("/nowhere", "x"),
        on_end=lambda: None,
        invalidations=PathInvalidations(paths, forgotten.append),
    )
    library: Any = StuckLibrary()
    loop._on_session_ready(library)
    paths.put("/a")
    assert library.asked.wait(10)
    answers: list[bool] = []
    main = threading.Thread(target=lambda: answers.append(loop.is_unmounted()), daemon=True)
    main.start()
    main.join(10)
    assert answers == [False]
    # libfuse is freed only after the invalidation has ended, but the main thread already sees that
    # the mount has ended
    freed = threading.Thread(target=loop._on_session_freed, daemon=True)
    freed.start()
    wait_until(loop.is_unmounted)
    assert freed.is_alive()
    library.release.set()
    freed.join(10)
    assert not freed.is_alive()
    wait_until(lambda: forgotten == ["/a"])
