"""A short raw recording of a Neuropixels 1.0 probe, compressed as by the program mtscomp.

The recording is three files: ``.cbin`` has the compressed chunks, ``.ch`` says where each chunk is,
and ``.meta`` is the header that the program SpikeGLX writes.
"""

from __future__ import annotations

import hashlib
import json
import zlib
from typing import Any

import numpy as np
from numpy.typing import NDArray

from onefs.demo.synthetic.spike_sorting import Sorting

#: samples per second of the spike band
RATE_HZ = 30_000
#: volts of one step of the analogue-to-digital converter
VOLTS_PER_STEP = 1.2 / 1024 / 500
_CHANNELS = 384
_CHUNK_SAMPLES = 3_000
_CHUNKS = 5
SAMPLES = _CHUNK_SAMPLES * _CHUNKS
#: the sample of a template at which the spike is largest
_PEAK_SAMPLE = 28

Array = NDArray[Any]


def make_voltage(
    random: np.random.Generator, sorting: Sorting, waveforms: Array, channels: Array
) -> Array:
    """Return noise and the spikes of a sorting, as recorded steps with shape (samples, channels).

    The last channel is the synchronization signal. ``waveforms`` are the templates in volts, with
    shape (clusters, samples, n), and ``channels`` their n channels, with shape (clusters, n).
    """
    steps = np.zeros((SAMPLES, _CHANNELS + 1), dtype=np.int16)
    noise = random.integers(-2, 3, (_CHUNK_SAMPLES, _CHANNELS), dtype=np.int16)
    for chunk in range(_CHUNKS):
        # the same noise, moved to other channels: random numbers for all would take long
        first = chunk * _CHUNK_SAMPLES
        steps[first : first + _CHUNK_SAMPLES, :-1] = np.roll(noise, 37 * chunk, axis=1)
    shapes = np.round(waveforms / VOLTS_PER_STEP).astype(np.int16)
    length = shapes.shape[1]
    starts = np.round(sorting.spike_times * RATE_HZ).astype(int) - _PEAK_SAMPLE
    for spike in np.flatnonzero((starts >= 0) & (starts + length <= SAMPLES)):
        cluster = sorting.spike_clusters[spike]
        rows = slice(starts[spike], starts[spike] + length)
        steps[rows, channels[cluster]] += shapes[cluster]
    # a pulse of 64 in the second half of each chunk
    steps[:, -1] = 64 * (np.arange(SAMPLES) % _CHUNK_SAMPLES >= _CHUNK_SAMPLES // 2)
    return steps


def compress(steps: Array) -> tuple[bytes, str]:
    """Return the texts of ``.cbin`` and ``.ch``.

    Each chunk is the differences of following samples, channel after channel, compressed by zlib.
    """
    chunks = np.split(steps, _CHUNKS)
    parts = [
        zlib.compress(np.diff(chunk, axis=0, prepend=np.int16(0)).tobytes(order="F"), 1)
        for chunk in chunks
    ]
    content = b"".join(parts)
    header = {
        "version": "1.0",
        "algorithm": "zlib",
        "comp_level": -1,
        "do_time_diff": True,
        "do_spatial_diff": False,
        "dtype": "int16",
        "n_channels": steps.shape[1],
        "sample_rate": float(RATE_HZ),
        "chunk_bounds": [number * _CHUNK_SAMPLES for number in range(_CHUNKS + 1)],
        "chunk_offsets": [0, *np.cumsum(list(map(len, parts))).tolist()],
        "chunk_order": "F",
        "sha1_compressed": hashlib.sha1(content).hexdigest(),
        "sha1_uncompressed": hashlib.sha1(steps.tobytes()).hexdigest(),
        "shape": list(steps.shape),
    }
    return content, json.dumps(header, indent=2, sort_keys=True)


def header(serial: str) -> str:
    """Return the text of ``.meta``. ``serial`` is the serial number of the probe."""
    channels = range(_CHANNELS)
    values = {
        "acqApLfSy": "384,384,1",
        "appVersion": "20190327",
        "fileName": "ephysData_g0_t0.imec0.ap.bin",
        "fileSizeBytes": SAMPLES * (_CHANNELS + 1) * 2,
        "fileTimeSecs": SAMPLES / RATE_HZ,
        "firstSample": 0,
        "gateMode": "Immediate",
        "imAiRangeMax": 0.6,
        "imAiRangeMin": -0.6,
        "imDatApi": 1.15,
        "imDatPrb_pn": "PRB_1_4_0480_1",
        "imDatPrb_port": 1,
        "imDatPrb_slot": 2,
        "imDatPrb_sn": serial,
        "imDatPrb_type": 0,
        "imSampRate": RATE_HZ,
        "nSavedChans": _CHANNELS + 1,
        "snsApLfSy": "384,0,1",
        "snsSaveChanSubset": "0:383,768",
        "typeThis": "imec",
        "~imroTbl": "(0,384)" + "".join(f"({n} 0 0 500 250 1)" for n in channels),
        "~snsChanMap": "(384,384,1)"
        + "".join(f"(AP{n};{n}:{n})" for n in channels)
        + "(SY0;768:384)",
        "~snsShankMap": "(1,2,480)" + "".join(f"(0:{n % 2}:{n // 2}:1)" for n in channels),
    }
    return "".join(f"{name}={value}\n" for name, value in values.items())
