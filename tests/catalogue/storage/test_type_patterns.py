"""Dataset types of file names, by Alyx's patterns."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from onefs.catalogue.storage import type_patterns
from onefs.catalogue.storage.catalogue_file import DATASET_TYPES_KEY
from onefs.catalogue.storage.database import CatalogueDatabase
from onefs.catalogue.storage.overlay import OverlayDatabase
from onefs.catalogue.storage.type_patterns import TypePatterns
from onefs.demo.synthetic import SyntheticLaboratory
from tests.recordings import results

ROWS = results("other/dataset_types.json")


@pytest.fixture
def database(tmp_path: Path) -> Iterator[OverlayDatabase]:
    made = OverlayDatabase(tmp_path / "catalogue.sqlite")
    yield made
    made.close()


@pytest.mark.parametrize(
    ("name", "dataset_type"),
    [
        ("_spikeglx_ephysData_g0_t0.imec0.ap.cbin", "ephysData.raw.ap"),
        ("_spikeglx_ephysData_g0_t0.imec1.lf.cbin", "ephysData.raw.lf"),
        ("_spikeglx_ephysData_g0_t0.imec0.ap.meta", "ephysData.raw.meta"),
        ("_iblrig_leftCamera.raw.mp4", "_iblrig_Camera.raw"),
        ("_IBLRIG_LEFTCAMERA.RAW.MP4", "_iblrig_Camera.raw"),
        ("_ibl_bodyCamera.times.npy", "camera.times"),
        ("_ibl_trials.table.pqt", "trials.table"),
        ("_ibl_subjectTrials.table.pqt", "subjectTrials.table"),
        ("_ibl_trials.probabilityLeft.npy", "_ibl_trials.probabilityLeft"),
        ("spikes.times_ephysClock.npy", "spikes.times"),
        ("mpci.times_scanImage.npy", "mpci.times"),
        ("channels.labels.npy", "channels.labels"),
        ("notes.md", ""),
        ("", ""),
        ("\udcff.\x00.npy", ""),
    ],
)
def test_types_of_names_by_a_real_alyx(name: str, dataset_type: str) -> None:
    assert TypePatterns(ROWS).type_of(name) == dataset_type


@pytest.mark.parametrize(
    ("name", "dataset_type"),
    [
        ("foo.bar.npy", "foo.bar"),
        ("foo.bir.npy", "foo.bar"),
        ("_ns_obj.attr_clock.extra.npy", "obj.attr"),
        ("bar.baz.ext", "bar.baz"),
        ("some_file.ext", "some_file"),
        ("other_file.ext", "other_file"),
    ],
)
def test_the_rules_by_which_alyx_registers(name: str, dataset_type: str) -> None:
    """The cases are those of Alyx's own test for this rule."""
    told = {"obj.attr": None, "foo.bar": "*FOO.b?r*", "bar.baz": "", "some_file": "some_file.*"}
    told |= {"other_file": " "}
    rows = [{"name": key, "filename_pattern": value} for key, value in told.items()]
    assert TypePatterns(rows).type_of(name) == dataset_type


def test_of_several_matching_types_the_most_literal_pattern_is_used() -> None:
    patterns = {"all": "*", "letters": "*.[a-z]*.*", "camera": "*camera.raw*", "two": "??*.raw.*"}
    rows = [{"name": key, "filename_pattern": value} for key, value in patterns.items()]
    for some in (rows, rows[::-1]):
        types = TypePatterns(some)
        assert types.type_of("leftCamera.raw.mp4") == "camera"
        assert types.type_of("a.raw.mp4") == "letters"
        assert types.type_of("notes") == "all"


@pytest.mark.timeout(30)
def test_invalid_rows_are_left_out() -> None:
    rows = [
        None,
        3,
        {},
        {"name": 3, "filename_pattern": "*"},
        {"name": "a.b", "filename_pattern": ["*"]},
        {"name": "", "filename_pattern": "*"},
        {"name": "range", "filename_pattern": "[z-a]*"},
        {"name": "open", "filename_pattern": "["},
        {"name": "slow", "filename_pattern": "*a" * 120 + "b"},
        {"name": "long", "filename_pattern": "*" * 10_000},
    ]
    assert TypePatterns(rows).type_of("a" * 255) == ""
    for body in ("", "[", "3", "{}", "[" * 100_000):
        assert type_patterns.parse_type_patterns(body).type_of("a.b.npy") == ""


def test_the_embedded_laboratory_has_patterns_for_its_types() -> None:
    made = SyntheticLaboratory()
    types = TypePatterns(made.tables()["dataset-types"])
    known = [
        each
        for session in made.sessions()
        for each in made.datasets(session.eid)
        if each.dataset_type != "unknown"
    ]
    assert len({each.dataset_type for each in known}) > 20
    for each in known:
        assert types.type_of(each.name) == each.dataset_type


def test_a_type_from_alyx_overrides_its_patterns(database: OverlayDatabase) -> None:
    names = ["_iblrig_leftCamera.raw.mp4", "_spikeglx_ephysData_g0_t0.imec0.ap.cbin", "a.b.npy"]
    before = database.guess_types(names)
    assert before[names[0]] == "_iblrig_leftCamera.raw"
    database.store_answer(DATASET_TYPES_KEY, json.dumps(ROWS), 1.0)
    assert database.guess_types(names) == {
        names[0]: "_iblrig_Camera.raw",
        names[1]: "ephysData.raw.ap",
        names[2]: "a.b",
    }


def test_patterns_outlast_a_thousand_searches(tmp_path: Path) -> None:
    database = CatalogueDatabase(tmp_path / "catalogue.sqlite")
    database.store_answer(DATASET_TYPES_KEY, "[]", 1.0)
    for number in range(5):
        database.store_answer(f"search/{number}", "[]", 2.0 + number, keep=2)
    assert database.stored_answer(DATASET_TYPES_KEY) == ("[]", 1.0)
    assert database.stored_answer("search/2") is None
    assert database.stored_answer("search/3") is not None
    database.close()
