"""A flame graph of a daemon whose cached files are opened, read and closed again and again.

    PYTHONPATH=$PWD .venv/bin/python scripts/benchmarks/open_flames.py OUT.svg [SECONDS]

Needs root, and py-spy on the PATH. The onefs in the working directory is drawn: start it in another
checkout to draw that one. Every second pass begins without names in the kernel.
"""

from __future__ import annotations

import ctypes
import json
import os
import shutil
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from scripts.benchmarks.processes import BenchmarkFailed, run, running

_FILES = 200
_FILE_BYTES = 10_000
#: samples a second
_RATE = 100
#: MS_REMOUNT, MS_RDONLY, MS_NOSUID and MS_NODEV of mount(2)
_REMOUNT_FLAGS = 32 | 1 | 2 | 4


@contextmanager
def mounted(work: Path) -> Iterator[tuple[Path, int]]:
    """A mount of a folder of small files, and its daemon's pid."""
    folder = work / "data" / "lab" / "Subjects" / "mouse" / "2021-01-01" / "001" / "alf"
    folder.mkdir(parents=True)
    for number in range(_FILES):
        (folder / f"object{number:03}.times.npy").write_bytes(os.urandom(_FILE_BYTES))
    names = ("CONFIG", "CACHE", "STATE", "DATA")
    environment = {f"XDG_{name}_HOME": str(work / name.lower()) for name in names}
    environment |= {"HOME": str(work), "XDG_RUNTIME_DIR": str(work)}
    onefs = (sys.executable, "-m", "onefs")
    mount = work / "mnt"
    command: list[str | Path] = [*onefs, "mount", mount, "--demo", "--demo-data", work / "data"]
    run(command, environment=environment)
    try:
        found = json.loads(run([*onefs, "status", "--json"], environment=environment))["mounts"]
        yield mount, next(each["pid"] for each in found if each["mountpoint"] == str(mount))
    finally:
        run([*onefs, "umount", mount], environment=environment)


def drop_names(mount: Path) -> None:
    """Make the kernel forget the names, attributes and pages of a mount."""
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.mount(None, os.fsencode(mount), None, _REMOUNT_FLAGS, None):
        raise BenchmarkFailed(f"remount: {os.strerror(ctypes.get_errno())}")


def read_all(paths: list[Path]) -> None:
    """Open, read and close each file."""
    for path in paths:
        descriptor = os.open(path, os.O_RDONLY)
        if len(os.read(descriptor, 2 * _FILE_BYTES)) != _FILE_BYTES:
            raise BenchmarkFailed(f"{path} is not whole")
        os.close(descriptor)


def draw(image: Path, seconds: int) -> None:
    """Write the flame graph of a daemon that is busy for ``seconds``."""
    with tempfile.TemporaryDirectory() as work, mounted(Path(work)) as (mount, pid):
        paths = sorted(mount.glob("lab/mouse/2021-01-01/001/alf/*.npy"))
        read_all(paths)  # downloads them
        # --gil: threads that wait for a request take no time
        command = ["py-spy", "record", "--gil", "--function", "--rate", str(_RATE)]
        command += ["--duration", str(seconds), "--output", image.name, "--pid", str(pid)]
        with running(command, Path(work) / "log") as profiler:
            while profiler.poll() is None:
                drop_names(mount)
                read_all(paths)
                read_all(paths)
            if profiler.returncode:
                raise BenchmarkFailed((Path(work) / "log").read_text())
        shutil.copy(Path(work) / image.name, image)


if __name__ == "__main__":
    draw(Path(sys.argv[1]).resolve(), int(sys.argv[2]) if len(sys.argv) > 2 else 30)
