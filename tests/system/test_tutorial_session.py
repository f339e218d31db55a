"""The session of the ONE tutorial in the embedded laboratory, with no account."""

from __future__ import annotations

import json
import os
import sys

import numpy as np
import pytest

from tests.running import Home, Mounted, run

EID = "cf264653-2deb-44cb-aa84-89b82507028a"
SESSION = "mainenlab/clns0730/2018-08-24/001"
#: the dataset types that the tutorial lists; each is one file of no collection
TYPES = (
    "_ibl_lickPiezo.raw", "_ibl_lickPiezo.timestamps", "_ibl_wheel.position",
    "channels.brainLocation", "channels.probe", "channels.rawRow", "channels.site",
    "channels.sitePositions", "clusters._phy_annotation", "clusters.depths",
    "clusters.peakChannel", "clusters.probes", "clusters.templateWaveforms",
    "clusters.waveformDuration", "eye.area", "eye.blink", "eye.timestamps", "eye.xyPos",
    "licks.times", "probes.description", "probes.insertion", "probes.rawFilename",
    "probes.sitePositions", "spikes.amps", "spikes.clusters", "spikes.depths", "spikes.times",
    "spontaneous.intervals",
)  # fmt: skip
TABLES = (
    "channels.brainLocation", "probes.description", "probes.rawFilename",
    "clusters._phy_annotation",
)  # fmt: skip


@pytest.fixture(scope="module")
def mounted(shared_home: Home) -> Mounted:
    return shared_home.mount("--demo")


def test_its_files_are_listed(mounted: Mounted) -> None:
    listed = run(["ls", mounted.path / SESSION]).stdout.split()
    expected = [f"{name}.{'tsv' if name in TABLES else 'npy'}" for name in TYPES]
    assert sorted(listed) == sorted([*expected, "notes.md"])


def test_its_types_are_those_of_the_tutorial(mounted: Mounted) -> None:
    folder = mounted.path / SESSION
    found = {mounted.xattr("dataset_type", str(path)) for path in folder.iterdir()}
    assert found == {*TYPES, "unknown"}


@pytest.mark.parametrize("view", [f".by-eid/{EID}", ".by-ref/2018-08-24_1_clns0730"])
def test_eid_and_ref_lead_there(mounted: Mounted, view: str) -> None:
    assert os.readlink(mounted.path / view) == f"../{SESSION}"
    assert (mounted.path / view).samefile(mounted.path / SESSION)
    assert mounted.xattr("eid", view) == EID


@pytest.mark.parametrize(
    "path",
    [
        f"{SESSION}/spikes.times.npy",
        "mainenlab/Subjects/clns0730/2018-08-24/001/spikes.times.npy",
        "mainenlab/clns0730/2018-08-24/1/spikes.times.npy",
        f".by-eid/{EID}/spikes.times.npy",
    ],
)
def test_spike_times_load_by_every_path(mounted: Mounted, path: str) -> None:
    times = np.load(mounted.path / path)
    assert len(times) >= 10_000
    assert (np.diff(times) >= 0).all()


def test_its_arrays_fit_together(mounted: Mounted) -> None:
    folder = mounted.path / SESSION
    rows: dict[str, set[int]] = {"spikes": set(), "clusters": set()}
    for path in folder.glob("*.npy"):
        array = np.load(path, allow_pickle=False)
        assert array.dtype != object
        rows.setdefault(path.name.split(".")[0], set()).add(len(array))
    waveforms = np.load(folder / "clusters.templateWaveforms.npy")
    assert waveforms.dtype == np.dtype("f4")
    assert waveforms.ndim == 3
    assert len(rows["spikes"]) == len(rows["clusters"]) == 1


def test_the_whole_record_is_a_file(mounted: Mounted) -> None:
    text = (mounted.path / SESSION / ".session.json").read_text()
    record = json.loads(text)
    assert record["id"] == EID
    assert record["users"] == ["olivier", "test_user"]
    assert text == json.dumps(record, sort_keys=True, indent=2, ensure_ascii=False) + "\n"
    assert ".session.json" not in os.listdir(mounted.path / SESSION)


def test_the_second_session_of_the_tutorial(mounted: Mounted) -> None:
    flowers = mounted.path / "zadorlab/flowers"
    assert os.listdir(flowers) == ["2018-07-13"]
    assert mounted.xattr("eid", str(flowers / "2018-07-13/001")) == (
        "4e0b3320-47b7-416e-b842-c34dc9004cf8"
    )
    assert len(list((flowers / "2018-07-13/001").glob("**/*.*"))) >= 5


def test_its_arrays_can_be_mapped_into_memory(mounted: Mounted) -> None:
    code = "import sys, numpy as np; print(np.load(sys.argv[1], mmap_mode='r').sum())"
    path = mounted.path / SESSION / "spikes.times.npy"
    mapped = float(run([sys.executable, "-c", code, path]).stdout)
    assert mapped == pytest.approx(np.load(path).sum())
