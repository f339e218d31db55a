"""Tests of the revisions of a day, compared with ONE-api's own function."""

from __future__ import annotations

import uuid
import warnings
from collections.abc import Iterable
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from onefs import alf
from onefs.model import Dataset
from onefs.tree.as_of import is_as_of_day, latest_revision_as_of, layout_as_of
from onefs.tree.layout import datasets_by_path, flat_layout, session_layout

EID = "18619a05-41c1-4ec1-9aee-e01fc22ca10b"
DAY = "2021-07-05"

REVISIONS = st.sampled_from(
    ["", "2020-08-31", "2021-07-05", "2021-07-05a", "2021-07-05b", "2021-07-06", "2021", "2021-07",
     "20210705", "1", "A", "v1", "test", "nan", "2021-07-05-redo"]
)  # fmt: skip
DAYS = st.sampled_from(
    ["1990-01-01", "2020-08-30", "2020-08-31", "2020-12-31", "2021-07-04", "2021-07-05",
     "2021-07-05a", "2021-07-05c", "2021-07-06", "2999-12-31"]
)  # fmt: skip
ODD = st.text(max_size=12) | st.sampled_from(
    ["", "/", "..", "alf", "a/b", "alf/probe00", "#r#", ".session.json", "%2Esession.json",
     "nul\0", "\udcff", "long" * 90]
)  # fmt: skip
VERSIONS = st.tuples(
    st.sampled_from(["", "alf", "alf/probe00"]),
    st.sampled_from(["spikes.times.npy", "spikes.clusters.npy"]),
    REVISIONS,
    st.booleans(),
)


def dataset(
    name: str = "spikes.times.npy",
    collection: str = "alf",
    revision: str = "",
    default: bool = False,
    key: object = "",
) -> Dataset:
    found = uuid.uuid5(uuid.NAMESPACE_URL, ascii((collection, revision, name, key)))
    return Dataset(str(found), EID, name, collection, revision, default=default)


def shown(datasets: Iterable[Dataset], day: str) -> dict[str, str]:
    """Return the paths of the files that a day shows, with the revision of each file."""
    shape = layout_as_of(datasets, day)
    return {"/".join(place): found.revision for place, found in datasets_by_path(shape)}


@settings(deadline=None, max_examples=300)
@given(
    st.lists(VERSIONS, max_size=14, unique_by=lambda version: version[:3]),
    DAYS,
)
def test_the_revision_is_the_one_that_one_api_chooses(
    versions: list[tuple[str, str, str, bool]], day: str
) -> None:
    pandas = pytest.importorskip("pandas")
    util = pytest.importorskip("one.util")
    datasets = [
        dataset(name, collection, revision, default)
        for collection, name, revision, default in versions
    ]
    paths = {
        "/".join(
            part for part in (d.collection, d.revision and f"#{d.revision}#", d.name) if part
        ): d
        for d in datasets
    }
    table = pandas.DataFrame(
        {
            "rel_path": list(paths),
            "default_revision": pandas.array([d.default for d in datasets], dtype=bool),
        }
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # about several revisions in one answer
        chosen = util.filter_revision_last_before(table, day) if versions else table
    expected = {paths[path] for path in chosen["rel_path"]}
    assert {found for _, found in datasets_by_path(layout_as_of(datasets, day))} == expected


@pytest.mark.parametrize(
    ("day", "revision"),
    [
        ("2019-01-01", ""),
        ("2020-08-30", ""),
        ("2020-08-31", "2020-08-31"),
        ("2021-07-04", "2020-08-31"),
        ("2021-07-05", "2021-07-05"),
        ("2021-07-05a", "2021-07-05a"),
        ("2021-07-05c", "2021-07-05b"),
        ("2021-07-06", "2021-07-05b"),
        ("2999-12-31", "2021-07-05b"),
    ],
)
def test_the_last_revision_up_to_the_day_is_shown(day: str, revision: str) -> None:
    versions = [
        dataset(revision=name)
        for name in ("2021-07-05b", "", "2020-08-31", "test", "2021-07-05", "2021-07-05a")
    ]
    assert shown(versions, day) == {"alf/spikes.times.npy": revision}


@pytest.mark.parametrize("flags", [(), ("",), ("2020-08-31",), ("", "2020-08-31", "2021-07-05")])
def test_default_flags_are_ignored(flags: tuple[str, ...]) -> None:
    versions = [
        dataset(revision=name, default=name in flags) for name in ("", "2020-08-31", "2021-07-05")
    ]
    for day in ("2020-01-01", "2021-01-01", "2022-01-01"):
        last = latest_revision_as_of(versions, day)
        assert last is not None
        assert shown(versions, day) == {"alf/spikes.times.npy": last.revision}
    assert shown(versions, "2022-01-01") == {"alf/spikes.times.npy": "2021-07-05"}


def test_quality_is_ignored() -> None:
    versions = [dataset(), replace(dataset(revision="2020-08-31"), qc="CRITICAL")]
    assert shown(versions, DAY) == {"alf/spikes.times.npy": "2020-08-31"}


def test_revisions_after_the_day_are_not_shown() -> None:
    versions = [
        dataset(revision="2021-07-05"),
        dataset("trials.table.pqt"),
        dataset("a.b.npy", "x", "v1"),
    ]
    assert shown(versions, "2021-07-04") == {"alf/trials.table.pqt": ""}
    # nor is a folder that would be empty
    assert set(layout_as_of(versions, "2021-07-04").folders) == {(), ("alf",)}


def test_each_name_is_shown_once_and_bytes_stay_in_ones_layout() -> None:
    twin = dataset(revision="2020-08-31", key="twin")
    named = dataset(revision="2020-08-31", default=True)
    versions = [dataset(), twin, named, dataset("notes.md", "")]
    shape = layout_as_of(versions, DAY)
    assert shape.folders[("alf",)] == {"spikes.times.npy": named}
    assert shape.canonical_paths[named.id] == ("alf", "#2020-08-31#", "spikes.times.npy")
    # for programs that still have it open after another one has taken its name
    assert shape.canonical_paths[twin.id] == (
        "alf",
        "#2020-08-31#",
        f"spikes.times~{twin.id[:8]}.npy",
    )
    assert shape.canonical_paths[versions[3].id] == ("notes.md",)


@settings(deadline=None, max_examples=300)
@given(st.lists(st.tuples(ODD, ODD, ODD | REVISIONS, st.integers(0, 3)), max_size=12, unique=True))
def test_with_any_names_each_file_is_shown_once_at_a_safe_path(
    versions: list[tuple[str, str, str, int]],
) -> None:
    datasets = [
        dataset(name, collection, revision, default=key == 0, key=key)
        for collection, name, revision, key in versions
    ]
    shape = layout_as_of(datasets, DAY)
    placed = datasets_by_path(shape)
    files = {(d.collection, d.name) for d in datasets if d.revision <= DAY}
    assert len(placed) == len(files)
    assert {(found.collection, found.name) for _, found in placed} == files
    for place, _ in placed:
        assert all(part == alf.path_component(part) and part not in ("", "..") for part in place)
        assert place[0] not in alf.SESSION_FILES
    places = {found.id: place for place, found in datasets_by_path(session_layout(datasets))}
    assert shape.canonical_paths == places


def test_a_file_yields_its_name_to_a_folder_and_to_virtual_entries() -> None:
    file = dataset("probe00", "alf", "2020-08-31")
    ours = dataset(".session.json", "", "2020-08-31")
    shape = layout_as_of([file, dataset(collection="alf/probe00"), ours], DAY)
    assert shape.folders[("alf",)] == {"probe00": None, f"probe00~{file.id[:8]}": file}
    assert shape.folders[()] == {"%2Esession.json": ours, "alf": None}


def test_the_flat_tree_of_a_day_has_the_files_of_that_day() -> None:
    versions = [
        dataset(revision="2020-08-31", default=True),
        dataset(revision="2021-07-05", default=True),
        dataset(collection="alf/probe01", revision="2021-07-05"),
    ]
    before = flat_layout(layout_as_of(versions, "2021-07-04"))
    assert before.folders == {(): {"spikes.times.npy": versions[0]}}
    assert before.canonical_paths[versions[0].id] == ("alf", "#2020-08-31#", "spikes.times.npy")
    assert flat_layout(layout_as_of(versions, DAY)).folders == {(): {}}


@pytest.mark.parametrize(
    "text",
    ["", ".", "..", "2021", "2021-7-5", "2021-13-01", "2021-02-29", "0000-01-01", "20210705",
     "2021-W27-1", "2021-07-05 ", " 2021-07-05", "2021-07-05\n", "2021-07-05ab", "2021-07-05A",
     "2021-07-05-", "2021-07-051", "2021/07/05", "tomorrow", "２０２１-07-05", "2021-07-05\udcff",
     "2021-07-05\0", "-2021-07-05", "2021-07-05é"],
)  # fmt: skip
def test_invalid_days_are_refused(text: str) -> None:
    assert not is_as_of_day(text)


@pytest.mark.parametrize(
    "text", ["2021-07-05", "2021-07-05a", "2020-02-29", "0001-01-01", "9999-12-31z"]
)
def test_days_and_days_with_a_letter_are_valid(text: str) -> None:
    assert is_as_of_day(text)
