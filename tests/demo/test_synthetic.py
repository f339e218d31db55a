"""The synthetic laboratory: the tutorial's sessions, and arrays that agree with each other."""

from __future__ import annotations

import hashlib
import io
from collections import Counter
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from onefs.demo.alyx_rows import public_path, with_uuid
from onefs.demo.records import DatasetRecord
from onefs.demo.synthetic import SyntheticLaboratory
from onefs.demo.synthetic.plan import FLOWERS_EID, TUTORIAL_EID

TYPES = [
    "_ibl_lickPiezo.raw",
    "_ibl_lickPiezo.timestamps",
    "_ibl_wheel.position",
    "channels.brainLocation",
    "channels.probe",
    "channels.rawRow",
    "channels.site",
    "channels.sitePositions",
    "clusters._phy_annotation",
    "clusters.depths",
    "clusters.peakChannel",
    "clusters.probes",
    "clusters.templateWaveforms",
    "clusters.waveformDuration",
    "eye.area",
    "eye.blink",
    "eye.timestamps",
    "eye.xyPos",
    "licks.times",
    "probes.description",
    "probes.insertion",
    "probes.rawFilename",
    "probes.sitePositions",
    "spikes.amps",
    "spikes.clusters",
    "spikes.depths",
    "spikes.times",
    "spontaneous.intervals",
    "unknown",
]
NOT_NPY = {
    "channels.brainLocation": "channels.brainLocation.tsv",
    "probes.description": "probes.description.tsv",
    "probes.rawFilename": "probes.rawFilename.tsv",
    "clusters._phy_annotation": "clusters._phy_annotation.tsv",
    "unknown": "notes.md",
}

Loader = Callable[..., Any]


@pytest.fixture(scope="module")
def laboratory() -> SyntheticLaboratory:
    return SyntheticLaboratory()


def content(laboratory: SyntheticLaboratory, lab: str, row: DatasetRecord) -> bytes:
    path = public_path(lab) + with_uuid(row.file_records[0].relative_path, row.id)
    file = laboratory.file(path)
    assert isinstance(file, bytes)
    return file


@pytest.fixture
def load(laboratory: SyntheticLaboratory) -> Loader:
    """Return an array of a session by the array's path inside the session."""

    def load(eid: str, path: str) -> Any:
        (session,) = [s for s in laboratory.sessions() if s.eid == eid]
        for row in laboratory.datasets(eid):
            if row.file_records[0].relative_path.endswith(f"/{session.number:03d}/{path}"):
                return np.load(io.BytesIO(content(laboratory, session.lab, row)))
        raise AssertionError(f"no {path}")

    return load


def ephys_session(laboratory: SyntheticLaboratory) -> str:
    return next(s.eid for s in laboratory.sessions() if "ephysChoiceWorld" in s.task_protocol)


def test_the_tutorials_session(laboratory: SyntheticLaboratory) -> None:
    olivier = [s for s in laboratory.sessions() if "olivier" in s.users]
    (session,) = [s for s in olivier if s.start_time.startswith("2018-08-24")]
    assert session.eid == TUTORIAL_EID == "cf264653-2deb-44cb-aa84-89b82507028a"
    assert (session.lab, session.subject, session.number) == ("mainenlab", "clns0730", 1)
    assert set(session.users) == {"olivier", "test_user"}
    rows = laboratory.datasets(TUTORIAL_EID)
    assert sorted(row.dataset_type for row in rows) == sorted(TYPES)
    assert {row.dataset_type: row.name for row in rows} == {
        name: NOT_NPY.get(name, f"{name}.npy") for name in TYPES
    }
    assert {row.collection for row in rows} == {""}


def test_the_flowers_session(laboratory: SyntheticLaboratory) -> None:
    (session,) = [s for s in laboratory.sessions() if s.subject == "flowers"]
    assert session.eid == FLOWERS_EID == "4e0b3320-47b7-416e-b842-c34dc9004cf8"
    assert (session.lab, session.start_time[:10]) == ("zadorlab", "2018-07-13")
    assert session.number == 1
    assert {"olivier", "test_user"} <= set(session.users)
    assert len({row.dataset_type for row in laboratory.datasets(FLOWERS_EID)}) >= 5


def test_the_tutorials_arrays_agree(laboratory: SyntheticLaboratory, load: Loader) -> None:
    arrays = {name: load(TUTORIAL_EID, f"{name}.npy") for name in TYPES if name not in NOT_NPY}
    assert all(array.dtype != object for array in arrays.values())
    for thing in ("spikes", "clusters", "eye", "channels", "_ibl_lickPiezo"):
        lengths = {len(a) for name, a in arrays.items() if name.startswith(f"{thing}.")}
        assert len(lengths) == 1, thing
    waveforms = arrays["clusters.templateWaveforms"]
    clusters, _, channels = waveforms.shape
    assert waveforms.dtype == np.float32
    assert len(arrays["channels.site"]) == channels > arrays["clusters.peakChannel"].max()
    times = arrays["spikes.times"]
    assert len(times) >= 10_000
    assert (np.diff(times) >= 0).all()
    assert arrays["spikes.clusters"].max() < clusters
    deepest = np.abs(waveforms).max(axis=1).argmax(axis=1)
    sites = arrays["channels.sitePositions"]
    off = np.abs(sites[deepest, 1] - sites[arrays["clusters.peakChannel"], 1])
    assert off.max() <= 40, "waveforms are largest at the channel that is said to be the peak"
    (row,) = [
        r for r in laboratory.datasets(TUTORIAL_EID) if r.dataset_type == "clusters._phy_annotation"
    ]
    lines = content(laboratory, "mainenlab", row).decode().splitlines()
    assert len(lines) == clusters + 1, "a header, and a row a cluster"


def test_sizes_and_md5s_are_right_and_ids_unique(
    laboratory: SyntheticLaboratory,
) -> None:
    ids = Counter[str]()
    large = 0
    for session in laboratory.sessions():
        for row in laboratory.datasets(session.eid):
            data = content(laboratory, session.lab, row)
            assert len(data) == row.file_size
            assert hashlib.md5(data).hexdigest() == row.hash
            assert laboratory.dataset(row.id) == row
            ids[row.id] += 1
            large += len(data) > 20 * 2**20
    assert set(ids.values()) == {1}
    assert large == 1


def test_it_is_as_large_and_as_mixed_as_promised(laboratory: SyntheticLaboratory) -> None:
    sessions = laboratory.sessions()
    rows = [row for s in sessions for row in laboratory.datasets(s.eid)]
    assert len({s.lab for s in sessions}) >= 3
    assert len({s.subject for s in sessions}) >= 8
    assert len(sessions) >= 40
    assert [s.start_time for s in sessions] == sorted(
        (s.start_time for s in sessions), reverse=True
    )
    probes = Counter(r.eid for r in rows if r.name == "spikes.times.npy" and not r.revision)
    assert 2 in probes.values()
    assert {r.revision for r in rows} == {"", "2020-08-31", "2021-07-05", "2024-05-06"}
    assert any(s.n_trials and not probes[s.eid] for s in sessions), "behaviour only"
    assert any(s.n_trials is None and s.number == 2 for s in sessions), "passive"
    assert {r.data_format for r in rows} >= {"npy", "json", "jsonable", "csv", "tsv", "ssv", "bin"}


def test_each_name_has_one_default_revision(laboratory: SyntheticLaboratory) -> None:
    older = 0
    for session in laboratory.sessions():
        rows = laboratory.datasets(session.eid)
        names = {(r.collection, r.name) for r in rows}
        defaults = Counter((r.collection, r.name) for r in rows if r.default_dataset)
        assert defaults == Counter(names)
        newest = {
            key: max(r.revision for r in rows if (r.collection, r.name) == key) for key in names
        }
        older += any(r.default_dataset and r.revision < newest[r.collection, r.name] for r in rows)
    assert older == 1, "in one session the default is not the newest"


def test_two_laboratories_are_the_same(laboratory: SyntheticLaboratory) -> None:
    other = SyntheticLaboratory(keep=0)
    assert other.sessions() == laboratory.sessions()
    for eid in (TUTORIAL_EID, FLOWERS_EID, ephys_session(laboratory)):
        assert other.datasets(eid) == laboratory.datasets(eid)


def test_evicted_contents_are_computed_again() -> None:
    forgetful = SyntheticLaboratory(keep=0)
    rows = forgetful.datasets(FLOWERS_EID)
    assert len(rows) == 10
    for row in rows:
        assert hashlib.md5(content(forgetful, "zadorlab", row)).hexdigest() == row.hash


def test_neurons_have_a_refractory_period_and_a_depth(
    laboratory: SyntheticLaboratory, load: Loader
) -> None:
    eid = ephys_session(laboratory)
    times, clusters, depths = (
        load(eid, f"alf/probe00/spikes.{name}.npy") for name in ("times", "clusters", "depths")
    )
    home = load(eid, "alf/probe00/clusters.depths.npy")
    rates = []
    for cluster in np.unique(clusters):
        own = clusters == cluster
        assert (np.diff(times[own]) >= 0.002 - 1e-9).all()
        assert np.abs(np.median(depths[own]) - home[cluster]) < 60
        rates.append(own.sum() / times[-1])
    assert max(rates) > 3 * np.median(rates) > 0, "firing rates differ widely"


def test_the_mouse_does_the_task(laboratory: SyntheticLaboratory, load: Loader) -> None:
    eid = ephys_session(laboratory)
    trials = {
        name: load(eid, f"alf/_ibl_trials.{name}.npy")
        for name in ("choice", "contrastLeft", "contrastRight", "feedbackType", "intervals",
                     "stimOn_times", "response_times", "feedback_times", "rewardVolume")
    }  # fmt: skip
    (session,) = [s for s in laboratory.sessions() if s.eid == eid]
    assert {len(array) for array in trials.values()} == {session.n_trials}
    assert (trials["feedbackType"] == 1).sum() == session.n_correct_trials
    left, right = ~np.isnan(trials["contrastLeft"]), ~np.isnan(trials["contrastRight"])
    assert (left ^ right).all()
    easy = np.fmax(trials["contrastLeft"], trials["contrastRight"]) >= 0.25
    assert (trials["feedbackType"][easy] == 1).mean() > 0.85
    reaction = trials["response_times"] - trials["stimOn_times"]
    assert 0.2 < np.median(reaction) < 1.5
    assert reaction.min() > 0.05
    assert (np.diff(trials["intervals"].ravel()) >= 0).all()
    assert (trials["rewardVolume"] > 0).sum() == session.n_correct_trials


def test_the_wheel_moves_as_the_mouse_chooses(
    laboratory: SyntheticLaboratory, load: Loader
) -> None:
    eid = ephys_session(laboratory)
    timestamps = load(eid, "alf/_ibl_wheel.timestamps.npy")
    position = load(eid, "alf/_ibl_wheel.position.npy")
    assert (np.diff(timestamps) > 0).all()
    start = load(eid, "alf/_ibl_trials.stimOn_times.npy")
    end = load(eid, "alf/_ibl_trials.intervals.npy")[:, 1]
    choice = load(eid, "alf/_ibl_trials.choice.npy")
    turned = np.interp(end, timestamps, position) - np.interp(start, timestamps, position)
    assert (np.sign(turned) == choice)[choice != 0].mean() > 0.95


def test_the_small_tables_fit_the_rows(laboratory: SyntheticLaboratory) -> None:
    tables = laboratory.tables()
    rows = [row for s in laboratory.sessions() for row in laboratory.datasets(s.eid)]
    assert {r.dataset_type for r in rows} <= {t["name"] for t in tables["dataset-types"]}
    assert {r.data_format for r in rows} <= {t["name"] for t in tables["data-formats"]}
    assert {r.revision for r in rows} - {""} == {t["name"] for t in tables["revisions"]}
    repositories = {t["name"]: t for t in tables["data-repository"]}
    for row in rows:
        server, rig = (repositories[record.repository] for record in row.file_records)
        assert (server["globus_is_personal"], rig["globus_is_personal"]) == (False, True)
        assert server["data_url"].startswith("{data}/public/")
        assert rig["data_url"] is None
    known = {row.id for row in rows}
    assert all(set(insertion["datasets"]) <= known for insertion in tables["insertions"])
    users = {t["username"] for t in tables["users"]}
    assert {user for s in laboratory.sessions() for user in s.users} <= users
