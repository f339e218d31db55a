"""Bytes that cross the network for programs that read a part of a large file, and what they read.

What a program reads is what its calls of ``read`` returned, as strace saw them.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from scripts.benchmarks.bench_run import Bench
from scripts.benchmarks.contenders import Contender, installed
from scripts.benchmarks.laboratory import Original, Served, md5_of
from scripts.benchmarks.processes import BenchmarkFailed, Command, module_command, run
from scripts.benchmarks.program_files import make_video
from scripts.benchmarks.results import Case

MOVED, READ = "onefs, moved", "the program, read"
REPETITIONS = 3
_CALLS = ("read", "pread64", "readv", "preadv", "preadv2")
#: of strace: ``12 pread64(3</path>, ...) = 99``, and the end of a call that another one interrupted
_CALL = re.compile(r"^(\d+) +(\w+)\(\d+<(.*?)>.*?(?:= (-?\d+)|(<unfinished \.\.\.>))")
_RESUMED = re.compile(r"^(\d+) +<\.\.\. (\w+) resumed>.*= (-?\d+)")
_HDF5 = "import h5py, sys; print(h5py.File(sys.argv[1])['column1'][:].sum())"
_MTSCOMP = (
    "import mtscomp, sys; r = mtscomp.decompress(*sys.argv[1:3]); print(r[30000:60000].sum())"
)


@dataclass(frozen=True)
class Program:
    """A program, the file that it reads, and its arguments for a place of that file."""

    name: str
    original: Original
    command: Callable[[Path], Command]


def measure_programs(bench: Bench) -> None:
    """Each program on a file of its own, in each repetition."""
    if not installed("strace"):
        raise BenchmarkFailed("strace is not installed")
    programs = list(_programs(bench))
    cases = {
        each.name: bench.results.case(
            f"program-{each.name.split(' ')[0]}",
            f"{each.name} (of {each.original.size / 1e6:.0f} MB)",
            "MB",
        )
        for each in programs
    }
    originals = [each.original for each in programs]
    sessions = [bench.laboratory.add_session("plain", originals) for _ in range(REPETITIONS)]
    with ExitStack() as stack:
        ours = bench.mount(stack, bench.onefs)
        for files in sessions:
            run(["ls", "-l", ours.path(files[0]).parent])
            for program, file in zip(programs, files, strict=True):
                case = cases[program.name]
                case.attempt(MOVED, partial(_moved, bench, case, ours, program, file))


def _moved(bench: Bench, case: Case, ours: Contender, program: Program, file: Served) -> float:
    """MB that the file server sent of a file; what the program read is added to the case."""
    mark = bench.origin.mark()
    log = bench.work / "strace.log"
    path = ours.path(file)
    trace: Command = ["strace", "-f", "-y", "-s", "0", "-e", f"trace={','.join(_CALLS)}", "-o", log]
    run([*trace, *program.command(path)])
    case.add(READ, read_bytes(log.read_text(errors="replace"), str(path)) / 1e6)
    requests = bench.origin.requests(mark)
    return sum(each.body for each in requests if each.path == f"/{file.on_server}") / 1e6


def read_bytes(log: str, path: str) -> int:
    """The bytes that a program read of a file, by the log of ``strace -f -y``."""
    total = 0
    pending: dict[tuple[str, str], bool] = {}
    for line in log.splitlines():
        if (call := _CALL.match(line)) is not None:
            thread, name, of, count, unfinished = call.groups()
            if unfinished:
                pending[thread, name] = of == path
            elif of == path:
                total += max(0, int(count))
        elif (end := _RESUMED.match(line)) is not None:
            thread, name, count = end.groups()
            if pending.pop((thread, name), False):
                total += max(0, int(count))
    return total


def _programs(bench: Bench) -> Iterator[Program]:
    """The programs that are installed here."""
    size = bench.plan.programs
    array = bench.original("array-large", bench.plan.array, array=True)
    if installed("file"):
        yield Program("file", array, lambda path: ["file", path])
    yield Program("head -c 10", array, lambda path: ["head", "-c", "10", path])
    if installed("ffmpeg"):
        target = _target(bench, "video.mp4")
        middle = make_video(target, size) * 3 // 5
        video = _original(target)
        shown = ["ffprobe", "-v", "error", "-show_format", "-show_streams"]
        yield Program("ffprobe", video, lambda path: [*shown, path])
        yield Program(
            "ffmpeg: one frame of an mp4", video,
            lambda path: ["ffmpeg", "-v", "error", "-ss", str(middle), "-i", path,
                          "-frames:v", "1", "-f", "null", "-"],
        )  # fmt: skip
    if _has_module("h5py"):
        table = _made(bench, "hdf5", "table.h5", size)
        yield Program("h5py: a column", table, lambda path: [sys.executable, "-c", _HDF5, path])
    if _has_module("mtscomp"):
        recording = _made(bench, "mtscomp", "recording.cbin", size)
        described = recording.path.with_suffix(".ch")
        yield Program(
            "mtscomp: one chunk", recording,
            lambda path: [sys.executable, "-c", _MTSCOMP, path, described],
        )  # fmt: skip


def _has_module(name: str) -> bool:
    try:
        run([sys.executable, "-c", f"import {name}"])
    except BenchmarkFailed:
        print(f"{name} is not installed: its row is left out", file=sys.stderr)
        return False
    return True


def _made(bench: Bench, kind: str, name: str, size: int) -> Original:
    path = _target(bench, name)
    run(module_command("program_files", kind, path, str(size)))
    return _original(path)


def _target(bench: Bench, name: str) -> Path:
    folder = bench.work / "originals"
    folder.mkdir(exist_ok=True)
    return folder / name


def _original(path: Path) -> Original:
    return Original(path, path.stat().st_size, md5_of(path))
