"""The session of the synthetic laboratory that has all files which IBL's loaders read."""

from __future__ import annotations

import hashlib
import io
import json
import sys
import zlib
from typing import Any

import numpy as np
import pytest

from onefs.demo.synthetic.complete import complete_files
from onefs.demo.synthetic.files import Files, encode
from onefs.demo.synthetic.plan import SessionKind, SessionPlan, all_sessions
from onefs.demo.synthetic.recording import Recording

_RAW = "raw_ephys_data/probe00/_spikeglx_ephysData_g0_t0.imec0"
_SORTING = "alf/probe00/pykilosort"
_REVISION = "2024-05-06"


def complete_plan(kind: SessionKind) -> SessionPlan:
    """The only session of this kind that has everything."""
    [plan] = [plan for plan in all_sessions() if plan.complete and plan.kind is kind]
    return plan


@pytest.fixture(scope="module")
def files() -> Files:
    return complete_files(Recording(complete_plan(SessionKind.EPHYS)))


def array(files: Files, path: str) -> Any:
    return np.load(io.BytesIO(encode(files[path]())))


def frame(files: Files, path: str) -> Any:
    pandas = pytest.importorskip("pandas")
    return pandas.read_parquet(io.BytesIO(encode(files[path]())))


def voltage(files: Files) -> Any:
    """The samples of the compressed recording, decompressed as mtscomp does."""
    content, header = encode(files[f"{_RAW}.ap.cbin"]()), json.loads(files[f"{_RAW}.ap.ch"]())  # type: ignore[arg-type]
    assert header["sha1_compressed"] == hashlib.sha1(content).hexdigest()
    bounds, offsets = header["chunk_bounds"], header["chunk_offsets"]
    assert offsets[-1] == len(content)
    chunks = []
    for number in range(len(bounds) - 1):
        flat = np.frombuffer(
            zlib.decompress(content[offsets[number] : offsets[number + 1]]), header["dtype"]
        )
        shape = (bounds[number + 1] - bounds[number], header["n_channels"])
        chunks.append(np.cumsum(flat.reshape(shape, order="F"), axis=0, dtype=header["dtype"]))
    samples = np.concatenate(chunks)
    assert header["sha1_uncompressed"] == hashlib.sha1(samples.tobytes()).hexdigest()
    return samples


def test_spikes_are_in_the_compressed_recording(files: Files) -> None:
    samples = voltage(files)
    metadata = dict(line.split("=", 1) for line in str(files[f"{_RAW}.ap.meta"]()).splitlines())
    assert int(metadata["fileSizeBytes"]) == samples.nbytes
    assert float(metadata["fileTimeSecs"]) == len(samples) / float(metadata["imSampRate"])
    spikes, clusters = (array(files, f"{_SORTING}/spikes.{x}.npy") for x in ("samples", "clusters"))
    channels = array(files, f"{_SORTING}/clusters.channels.npy")
    within = spikes < len(samples) - 100
    troughs = samples[spikes[within], channels[clusters[within]]]
    assert within.sum() > 5
    # noise is between -2 and 2, and spikes may overlap
    assert np.median(troughs) < -20
    assert troughs.max() < -5


def test_tables_agree_with_the_arrays(files: Files) -> None:
    trials = frame(files, "alf/_ibl_trials.table.pqt")
    assert len(trials) == len(array(files, "alf/_ibl_trials.stimOff_times.npy"))
    assert not any("goCue_times.npy" in path for path in files), "they are in the table"
    for camera in ("left", "right", "body"):
        times = array(files, f"alf/_ibl_{camera}Camera.times.npy")
        assert len(frame(files, f"alf/_ibl_{camera}Camera.dlc.pqt")) == len(times)
        assert len(array(files, f"alf/{camera}Camera.ROIMotionEnergy.npy")) == len(times)
    for folder in (_SORTING, f"{_SORTING}/#{_REVISION}#"):
        clusters = array(files, f"{folder}/spikes.clusters.npy")
        metrics = frame(files, f"{folder}/clusters.metrics.pqt")
        assert metrics.spike_count.tolist() == np.bincount(clusters).tolist()
        good = metrics.label.to_numpy()[clusters] == 1
        assert len(frame(files, f"{folder}/passingSpikes.table.pqt")) == good.sum()
        assert str(files[f"{folder}/clusters.uuids.csv"]()).count("\n") == len(metrics) + 1


def test_one_probe_has_places_in_the_brain_and_the_other_has_none(files: Files) -> None:
    for name in ("mlapdv", "localCoordinates", "brainLocationIds_ccf_2017"):
        sites = array(files, f"alf/probe00/electrodeSites.{name}.npy")
        assert np.array_equal(sites, array(files, f"{_SORTING}/channels.{name}.npy"))
    assert {path for path in files if path.startswith("alf/probe01/channels")} == {
        "alf/probe01/channels.localCoordinates.npy", "alf/probe01/channels.rawInd.npy",
    }  # fmt: skip


def test_the_passive_session_has_one_picture_for_each_time() -> None:
    passive = complete_files(Recording(complete_plan(SessionKind.PASSIVE)))
    pictures = encode(passive["raw_passive_data/_iblrig_RFMapStim.raw.bin"]())
    assert len(pictures) == len(array(passive, "alf/_ibl_passiveRFM.times.npy")) * 15 * 15


def test_without_pyarrow_the_older_files_stay(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    older = complete_files(Recording(complete_plan(SessionKind.EPHYS)))
    assert not [path for path in older if path.endswith(".pqt")]
    assert {"alf/_ibl_trials.choice.npy", f"{_SORTING}/clusters.metrics.csv"} <= set(older)
