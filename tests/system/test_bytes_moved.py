"""What programs read of a large file, and what the file server sends for it."""

from __future__ import annotations

import re
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pytest

from onefs.demo.folder_laboratory import FolderLaboratory
from onefs.demo.servers import Servers
from tests.laboratories import account, data_requests
from tests.required_programs import require_program, skip_or_fail
from tests.running import Home, Mounted, process, run, wait_until

MIB = 1 << 20
#: larger than the files that are fetched as a whole
SIZE = 40 * MIB
_SESSION = "lab/mouse/2021-03-04/001/alf"
_BRAINBOX = Path(__file__).parents[2] / "build" / "brainbox"
#: seconds without a further byte after which the file server is quiet
_QUIET_SECONDS = 1.0

# each program gets the path of a file, and some print how many bytes they have used
_PARTS = """
import os, sys
descriptor = os.open(sys.argv[1], os.O_RDONLY)
for part in sys.argv[2:]:
    offset, length = map(int, part.split("+"))
    assert len(os.pread(descriptor, length, offset)) == length
"""
_MEMMAP = """
import sys
import numpy as np
array = np.load(sys.argv[1], mmap_mode="r")
parts = [array[start : start + 500_000] for start in (400_000, 2_000_000, 3_500_000)]
assert sum(part.sum() for part in parts) > 0
print(array[:0].nbytes + sum(part.nbytes for part in parts))
"""
_MAKE_HDF5 = """
import sys
import h5py, numpy
rows = int(sys.argv[2]) // 80
with h5py.File(sys.argv[1], "w") as file:
    table = numpy.random.default_rng(1).random((rows, 10))
    file.create_dataset("table", data=table, chunks=(int(sys.argv[3]), 1))
"""
_HDF5_COLUMN = 'import sys, h5py; h5py.File(sys.argv[1], "r")["table"][:, 3].sum()'
_MAKE_CBIN = """
import sys
from pathlib import Path
import mtscomp, numpy
path = Path(sys.argv[1])
raw = path.with_suffix(".bin")
numpy.random.default_rng(1).integers(-(2**15), 2**15, (4 * 15_000, 384), "i2").tofile(raw)
mtscomp.compress(raw, path, path.with_suffix(".ch"), sample_rate=15_000.0, n_channels=384,
                 dtype=numpy.int16, check_after_compress=False, n_threads=1)
raw.unlink()
"""
_CBIN_CHUNK = """
import sys
from pathlib import Path
import mtscomp
reader = mtscomp.Reader(n_threads=1)
reader.open(Path(sys.argv[1]), Path(sys.argv[2]))
assert reader[2 * 15_000 + 10 : 2 * 15_000 + 90].shape == (80, 384)
"""


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a session's files, in which each test makes its own."""
    folder = tmp_path_factory.mktemp("data") / _SESSION.replace("lab/", "lab/Subjects/")
    folder.mkdir(parents=True)
    return folder


class Reader:
    """Runs programs on the files in the folder ``data`` through a mount of its own."""

    def __init__(self, home: Home, servers: Servers, data: Path) -> None:
        self._servers = servers
        self.data = data
        self.mounted: Mounted = home.mount(**account(servers))
        self._log = home.root / "strace"

    def path(self, name: str) -> str:
        """Return the path of a file in the mount, which is listed now."""
        path = self.mounted.path / _SESSION / name
        path.stat()
        return str(path)

    def moved(self, name: str) -> int:
        """Return how many bytes of a file the server has sent, once it sends no more."""
        last, since = -1, time.monotonic()

        def is_quiet() -> bool:
            nonlocal last, since
            now = sum(each.bytes for each in data_requests(self._servers, _stem(name)))
            if now != last:
                last, since = now, time.monotonic()
            return time.monotonic() > since + _QUIET_SECONDS

        wait_until(is_quiet, what=f"{name} is still being sent")
        return last

    def read_bytes(self, name: str, command: Sequence[str]) -> int:
        """Run a program, and return how many bytes of a file its system calls have read."""
        strace = require_program("strace", "strace")
        calls = "trace=read,pread64,readv,preadv"
        run([strace, "-f", "-y", "-o", self._log, "-e", calls, *command])
        lines = self._log.read_text(errors="replace").splitlines()
        found = (re.search(r" = (\d+)$", line) for line in lines if f"<{self.path(name)}>" in line)
        return sum(int(match[1]) for match in found if match is not None)

    def check(self, name: str, command: Sequence[str], at_least: int) -> None:
        """Run a program that reads at least some bytes, and compare what was moved for it."""
        read = self.read_bytes(name, command)
        assert read >= at_least
        moved = self.moved(name)
        print(f"{name}: {moved} bytes were sent for {read}")
        assert moved <= 1.25 * read + MIB


def _stem(name: str) -> str:
    """A name as the file server has it, before the UUID."""
    return name.rpartition(".")[0]


@pytest.fixture
def reader(home: Home, data: Path) -> Iterator[Reader]:
    """A mount on an empty cache. The test must have made its files before."""
    with Servers(FolderLaboratory(data.parents[5])) as servers:
        yield Reader(home, servers, data)


def _make_array(data: Path, name: str) -> None:
    np.save(data / name, np.random.default_rng(1).random(SIZE // 8))


@pytest.fixture
def array(data: Path) -> str:
    """The name of a large array."""
    name = "big.array.npy"
    if not (data / name).exists():
        _make_array(data, name)
    return name


def _python_with(module: str) -> str:
    """Return a Python that has ``module``, this one or Debian's; without one, skip or fail."""
    for python in (sys.executable, "/usr/bin/python3"):
        if run([python, "-c", f"import {module}"], code=None).returncode == 0:
            return python
    return skip_or_fail(f"{module} is not installed (Debian's package python3-{module})")


def test_file(array: str, reader: Reader) -> None:
    command = [require_program("file", "file"), reader.path(array)]
    reader.check(array, command, at_least=100)


def test_head(array: str, reader: Reader) -> None:
    run(["sh", "-c", 'head -c 10 "$0" >"$1"', reader.path(array), str(reader.data / "head")])
    assert 10 <= reader.moved(array) <= MIB // 2


@pytest.mark.parametrize(
    "parts",
    [
        pytest.param([(0, 200), (9 * MIB + 5, 11 * MIB)], id="one chunk"),
        pytest.param([(0, 2048), (SIZE - 9000, 9000)], id="header and tail"),
        pytest.param(
            [(0, 500), *((3 * MIB + 2048 + 6 * MIB * n, MIB) for n in range(6))], id="1 MiB chunks"
        ),
        pytest.param([(5000 + 8 * MIB * n, 3 * MIB) for n in range(5)], id="3 MiB chunks"),
        pytest.param([(MIB * n, MIB) for n in reversed(range(30))], id="backwards"),
        pytest.param([(MIB * n, MIB) for n in range(20)], id="the first half"),
    ],
)
def test_parts(array: str, reader: Reader, parts: Sequence[tuple[int, int]]) -> None:
    texts = [f"{offset}+{length}" for offset, length in parts]
    command = [sys.executable, "-c", _PARTS, reader.path(array), *texts]
    reader.check(array, command, at_least=sum(length for _, length in parts))


def test_numpy_memmap(array: str, reader: Reader) -> None:
    used = int(run([sys.executable, "-c", _MEMMAP, reader.path(array)]).stdout)
    assert used == 12_000_000
    moved = reader.moved(array)
    assert used <= moved <= 1.25 * used + MIB


@pytest.mark.parametrize("rows", [131_072, 300_000])
def test_a_column_of_an_hdf5_table(data: Path, home: Home, rows: int) -> None:
    """In chunks of 1 MiB, and of more."""
    python = _python_with("h5py")
    name = f"table{rows}.data.h5"
    run([python, "-c", _MAKE_HDF5, data / name, str(72 * MIB), str(rows)])
    with Servers(FolderLaboratory(data.parents[5])) as servers:
        reader = Reader(home, servers, data)
        column = 72 * MIB // 10
        reader.check(name, [python, "-c", _HDF5_COLUMN, reader.path(name)], at_least=column)


def test_a_chunk_of_a_compressed_recording(data: Path, home: Home) -> None:
    if not (_BRAINBOX / "mtscomp.py").is_file():
        skip_or_fail("mtscomp is not installed: scripts/test --all installs it")
    python = ["env", f"PYTHONPATH={_BRAINBOX}", sys.executable, "-c"]
    name = "_spikeglx_ephysData_g0_t0.imec0.ap.cbin"
    run([*python, _MAKE_CBIN, data / name])
    with Servers(FolderLaboratory(data.parents[5])) as servers:
        reader = Reader(home, servers, data)
        header = str((data / name).with_suffix(".ch"))
        command = [*python, _CBIN_CHUNK, reader.path(name), header]
        reader.check(name, command, at_least=10 * MIB)


@pytest.fixture
def video(data: Path) -> str:
    """The name of a film of noise, with its index at the end."""
    ffmpeg = require_program("ffmpeg", "ffmpeg")
    name = "_iblrig_leftCamera.raw.mp4"
    path = data / name
    if not path.exists():
        picture = "testsrc2=size=640x480:rate=30,noise=c0s=80:c0f=t"
        quality = ["-c:v", "mpeg4", "-qscale:v", "2", "-g", "30"]
        short = data.parents[6] / "short.mp4"
        run([ffmpeg, "-v", "error", "-f", "lavfi", "-i", picture, "-t", "3", *quality, str(short)])
        times = str(100 * MIB // short.stat().st_size)
        loop = ["-stream_loop", times, "-i", str(short), "-c", "copy"]
        run([ffmpeg, "-v", "error", *loop, str(path)])
    return name


def test_ffprobe(video: str, reader: Reader) -> None:
    program = require_program("ffprobe", "ffmpeg")
    command = [program, "-v", "error", "-show_streams", reader.path(video)]
    reader.check(video, command, at_least=1000)


def test_one_frame_of_a_film(video: str, reader: Reader) -> None:
    show = ["-frames:v", "1", "-f", "null", "-"]
    command = ["ffmpeg", "-v", "error", "-ss", "9", "-i", reader.path(video), *show]
    reader.check(video, command, at_least=1000)


def test_a_reader_that_is_killed_gets_no_more(array: str, reader: Reader) -> None:
    read = 20 * MIB
    code = f"import sys, time; print(len(open(sys.argv[1], 'rb', 0).read({read})), flush=True)"
    command = [sys.executable, "-c", f"{code}; time.sleep(600)", reader.path(array)]
    with process(command, stdout=subprocess.PIPE, text=True) as started:
        assert started.stdout is not None
        assert int(started.stdout.readline()) == read
    assert reader.moved(array) <= 1.25 * read + MIB
