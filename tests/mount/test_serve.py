"""The main thread of a daemon, while the mount serves requests."""

from __future__ import annotations

import time

from onefs.mount.serve import IdleGarbageCollector


def test_garbage_is_searched_only_while_the_process_is_idle() -> None:
    garbage = IdleGarbageCollector()
    end = time.process_time() + 0.2
    while time.process_time() < end:  # busy
        pass
    assert not garbage.collect_if_idle()
    assert garbage.collect_if_idle()
