"""brainbox's own loaders over ``mount --demo --sync``, unmodified (ibllib from PyPI)."""

from __future__ import annotations

import io
import json
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from onefs.demo.records import Login
from onefs.demo.synthetic import SyntheticLaboratory
from tests.required_programs import skip_or_fail
from tests.running import Home, Mounted, clean_environment, run

pytest.importorskip("one.api")

_ROOT = Path(__file__).parents[2]
#: where ``scripts/test --all`` installs what ``tests/data/brainbox.txt`` lists
_BRAINBOX = _ROOT / "build" / "brainbox"
_WORKER = Path(__file__).with_name("brainbox_worker.py")
#: a sorting in a folder of its own with a re-sorting, and one in the probe's folder itself
SORTED, BARE = "alf/probe00/pykilosort", "alf/probe01"
_REVISION = "2024-05-06"


@pytest.fixture(scope="module")
def laboratory() -> SyntheticLaboratory:
    return SyntheticLaboratory()


@pytest.fixture(scope="module")
def mounted(shared_home: Home) -> Mounted:
    return shared_home.mount("--demo", "--sync")


@pytest.fixture(scope="module")
def brainbox() -> Path:
    if not (_BRAINBOX / "brainbox").is_dir():
        skip_or_fail(
            "brainbox is not installed: .venv/bin/python -m pip install --no-deps "
            "--target build/brainbox -r tests/data/brainbox.txt"
        )
    return _BRAINBOX


def _probes(laboratory: SyntheticLaboratory) -> Iterator[str]:
    """A probe of each kind, as ``eid:name``, of two sessions."""
    for wanted in (SORTED, BARE):
        name = wanted.split("/")[1]
        yield next(
            f"{session.eid}:{name}"
            for session in laboratory.sessions()
            if any(row.collection == wanted for row in laboratory.datasets(session.eid))
        )


def _array(
    laboratory: SyntheticLaboratory, eid: str, collection: str, revision: str, name: str
) -> Any:
    """The array that the laboratory made."""
    [row] = [
        row
        for row in laboratory.datasets(eid)
        if (row.collection, row.revision, row.name) == (collection, revision, name)
    ]
    [session] = [each for each in laboratory.sessions() if each.eid == eid]
    stem, extension = os.path.splitext(row.file_records[0].relative_path)
    content = laboratory.file(f"/public/{session.lab}/Subjects/{stem}.{row.id}{extension}")
    assert isinstance(content, bytes)
    return np.load(io.BytesIO(content))


@pytest.mark.long
@pytest.mark.timeout(900)
@pytest.mark.parametrize("way", ["local", "remote"])
def test_brainbox_loads_sessions_and_sortings(
    way: str, laboratory: SyntheticLaboratory, mounted: Mounted, brainbox: Path, tmp_path: Path
) -> None:
    probes = list(_probes(laboratory))
    status = mounted.home.status_of(mounted.path)
    assert status is not None
    login = Login()
    done = run(
        [
            *(sys.executable, _WORKER, way, mounted.path, str(status["url"])),
            *(login.username, login.password, *probes),
        ],
        environment={
            **clean_environment(tmp_path),
            "PYTHONPATH": str(brainbox),
            "MPLBACKEND": "Agg",
        },
        cwd=tmp_path,
        timeout=800,
    )
    found = json.loads(done.stdout.splitlines()[-1])
    for probe, collection, revision in zip(probes, (SORTED, BARE), (_REVISION, ""), strict=True):
        eid = probe.partition(":")[0]
        times = _array(laboratory, eid, collection, revision, "spikes.times.npy")
        cues = _array(laboratory, eid, "alf", "", "_ibl_trials.goCue_times.npy")
        session, sorting = found[probe]["session"], found[probe]["sorting"]
        assert session["loaded"] == ["licks", "trials", "wheel"]
        assert (session["trials"], session["goCue"]) == (len(cues), pytest.approx(cues.sum()))
        assert session["wheel"] > 100
        assert (sorting["collection"], sorting["revisions"]) == (collection, [revision])
        assert (sorting["spikes"], sorting["last"]) == (len(times), times[-1])
        assert sorting["histology"] == "alf"
        assert "PO" in sorting["acronyms"]
        if way == "remote":
            assert found[probe]["by pid"] == {
                "spikes": len(times), "version": "2.12.1", "channels": 384, "source": "resolved",
            }  # fmt: skip
