"""The daemon that the tests start. The daemon serves the folder that its settings name."""

from __future__ import annotations

import errno
import os
import sys
import time
from pathlib import Path

from onefs import errors
from onefs.mount import daemon
from onefs.mount.daemon_config import DaemonConfig
from onefs.mount.mount_registry import MountStatus
from onefs.mount.serve import Service
from tests.mount.folder_tree import FolderTree


def build(config: DaemonConfig) -> Service:
    settings = config.settings
    if "fails" in settings:
        raise getattr(errors, settings["fails"])(f"{settings['fails']}, as this test asks")
    if "dies" in settings:
        os._exit(settings["dies"])
    time.sleep(settings.get("slow", 0.0))
    tree = FolderTree(
        Path(settings["root"]), settings.get("deadline", 60.0), settings.get("xattrs")
    )
    stop = tree.stop if settings.get("stops", True) else _do_nothing
    return Service(
        tree,
        status=lambda: _status(settings.get("trouble", "")),
        stop=stop,
        close=lambda: time.sleep(settings.get("closing", 0.0)),
    )


def _status(trouble: str) -> MountStatus:
    """Raise OSError if the file ``trouble`` exists. Each call appends one byte to this file."""
    if trouble and os.path.exists(trouble):
        with open(trouble, "r+b") as file:  # fails if the test has just removed the file
            file.seek(0, os.SEEK_END)
            file.write(b".")
        raise OSError(errno.EIO, os.strerror(errno.EIO))
    return MountStatus(cache_bytes=1)


def _do_nothing() -> None:
    pass


if __name__ == "__main__":
    sys.exit(daemon.run(build))
