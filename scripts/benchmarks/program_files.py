"""Files as the field has them, of which programs read a part.

usage: python -m scripts.benchmarks.program_files hdf5|mtscomp PATH BYTES

A process of its own makes them, with the packages of ``requirements.txt``.
"""

from __future__ import annotations

import importlib
import sys
from pathlib import Path

import numpy as np

from scripts.benchmarks.processes import run

#: of an HDF5 file: bytes of a chunk, and chunks of a column: 6.3 MB
HDF5_CHUNK_BYTES = 1 << 20
HDF5_CHUNKS = 6
#: of recordings of Neuropixels: channels, and samples of a second, which is one chunk
_CHANNELS, _RATE = 385, 30_000
#: about the bytes of a second of them, compressed
MTSCOMP_CHUNK_BYTES = 11_000_000
#: seconds of the part of which a video is made
CLIP_SECONDS = 10


def make_hdf5(path: Path, size: int) -> None:
    """Columns of 6 MiB, whose chunks are written in turns, as a table's are."""
    h5py = importlib.import_module("h5py")
    count = HDF5_CHUNK_BYTES // 8
    chance = np.random.default_rng(1)
    with h5py.File(path, "w") as file:
        columns = [
            file.create_dataset(f"column{n}", (count * HDF5_CHUNKS,), dtype="f8", chunks=(count,))
            for n in range(max(2, size // (HDF5_CHUNK_BYTES * HDF5_CHUNKS)))
        ]
        for place in range(0, count * HDF5_CHUNKS, count):
            for column in columns:
                column[place : place + count] = chance.random(count)


def make_mtscomp(path: Path, size: int) -> None:
    """A ``.cbin`` file; its description is beside it, with the suffix ``.ch``."""
    mtscomp = importlib.import_module("mtscomp")
    raw = path.with_suffix(".bin")
    chance = np.random.default_rng(1)
    with raw.open("wb") as file:
        for _ in range(max(2, size // MTSCOMP_CHUNK_BYTES)):
            file.write(chance.normal(0, 8, (_RATE, _CHANNELS)).astype(np.int16).tobytes())
    mtscomp.compress(
        raw, path, path.with_suffix(".ch"), sample_rate=_RATE, n_channels=_CHANNELS,
        dtype=np.int16, check_after_compress=False, n_threads=1,
    )  # fmt: skip
    raw.unlink()


def make_video(path: Path, size: int) -> int:
    """An mp4 file whose index is at its end, as a camera's; returns its seconds."""
    clip = path.with_suffix(".clip.mp4")
    source = f"testsrc2=size=640x512:rate=60:duration={CLIP_SECONDS},noise=c0s=12:c0f=t"
    quiet = ["ffmpeg", "-v", "error", "-y"]
    run([*quiet, "-f", "lavfi", "-i", source, "-c:v", "libx264", "-preset", "ultrafast",
         "-pix_fmt", "yuv420p", clip])  # fmt: skip
    loops = max(1, size // clip.stat().st_size)
    run([*quiet, "-stream_loop", str(loops - 1), "-i", clip, "-c", "copy", path])
    clip.unlink()
    return loops * CLIP_SECONDS


if __name__ == "__main__":
    make = {"hdf5": make_hdf5, "mtscomp": make_mtscomp}[sys.argv[1]]
    make(Path(sys.argv[2]), int(sys.argv[3]))
