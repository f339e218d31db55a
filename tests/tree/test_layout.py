"""Tests of layouts, which decide the names in each folder."""

from __future__ import annotations

import uuid

from onefs.model import Dataset, Session
from onefs.tree.layout import (
    default_revision_of,
    flat_layout,
    lab_folder_names,
    missing_name_message,
    path_by_uuid,
    session_layout,
    subject_folder_names,
    subject_layout,
)

EID = "18619a05-41c1-4ec1-9aee-e01fc22ca10b"


def dataset(
    name: str, collection: str = "alf", revision: str = "", default: bool = True
) -> Dataset:
    key = uuid.uuid5(uuid.NAMESPACE_URL, f"{collection}/{revision}/{name}/{default}")
    return Dataset(str(key), EID, name, collection, revision, default=default)


def test_folders_of_a_session() -> None:
    shape = session_layout(
        [
            dataset("spikes.times.npy", "alf/probe00"),
            dataset("spikes.times.npy", "alf/probe00", "2020-08-31", default=False),
            dataset("trials.table.pqt"),
            dataset("notes.md", ""),
        ]
    )
    assert {path: list(children) for path, children in shape.folders.items()} == {
        (): ["alf", "notes.md"],
        ("alf",): ["probe00", "trials.table.pqt"],
        ("alf", "probe00"): ["#2020-08-31#", "spikes.times.npy"],
        ("alf", "probe00", "#2020-08-31#"): ["spikes.times.npy"],
    }


def test_an_empty_session_is_an_empty_folder() -> None:
    assert session_layout([]).folders == {(): {}}


def test_the_flat_layout_has_the_default_of_each_name() -> None:
    shape = session_layout(
        [
            dataset("a.b.npy", "alf", "2020-08-31"),
            dataset("a.b.npy", "alf", default=False),
            dataset("spikes.times.npy", "alf/probe00"),
            dataset("spikes.times.npy", "alf/probe01"),
            dataset("root.file.npy", ""),
            dataset("twice.here.npy", ""),
            dataset("twice.here.npy", "alf"),
            dataset(".session.json", "alf"),
        ]
    )
    flat = flat_layout(shape)
    # in two collections, one of them the session's own folder: omitted
    assert list(flat.folders) == [()]
    assert list(flat.folders[()]) == ["%2Esession.json", "a.b.npy", "root.file.npy"]
    default = flat.folders[()]["a.b.npy"]
    assert default is not None
    assert default.revision == "2020-08-31"
    assert flat.canonical_paths[default.id] == ("alf", "#2020-08-31#", "a.b.npy")


def test_a_name_with_two_defaults_is_left_out_of_the_flat_layout() -> None:
    shape = session_layout(
        [
            dataset("clusters.metrics.pqt", "alf/probe00"),
            dataset("clusters.metrics.pqt", "alf/probe01", "2020-08-31"),
            dataset("clusters.metrics.pqt", "alf/probe01", "2021-07-05"),
        ]
    )
    assert flat_layout(shape).folders == {(): {}}


def test_a_missing_name_is_reported_with_the_paths_that_exist() -> None:
    shape = session_layout(
        [
            dataset("a.b.npy", "alf", "2020-08-31"),
            dataset("a.b.npy", "alf", default=False),
            *(dataset("x.y.npy", f"alf/probe{n:02d}") for n in range(5)),
        ]
    )
    assert missing_name_message(shape, "it", (), "a.b.npy") == (
        "it has no a.b.npy: a.b.npy is at alf/#2020-08-31#/a.b.npy"
    )
    assert missing_name_message(shape, "it", ("alf",), "x.y.npy") == (
        "it has no alf/x.y.npy: x.y.npy is at alf/probe00/x.y.npy, alf/probe01/x.y.npy, "
        "alf/probe02/x.y.npy and 2 other places"
    )
    assert missing_name_message(shape, "it", (), "none.npy") == "it has no none.npy"


def test_a_name_with_the_datasets_uuid_is_found_in_its_folders_alone() -> None:
    file = dataset("x.y.npy", "alf/probe00", "2021")
    other = dataset("x.z", "alf/probe00")
    shape = session_layout([file, other])
    place = ("alf", "probe00", "#2021#", "x.y.npy")
    name = f"x.y.{file.id}.npy"
    for folders in ((), place[:2], place[:3]):
        assert path_by_uuid(shape, folders, name) == place
        assert path_by_uuid(shape, folders, name.replace(file.id, file.id.upper())) == place
    assert path_by_uuid(shape, (), f"x.z.{other.id}") == ("alf", "probe00", "x.z")
    assert path_by_uuid(shape, ("alf",), name) is None
    for wrong in (f"x.z.{file.id}.npy", f"x.y.{other.id}.npy", f"x.y.{EID}.npy", "x.y.npy"):
        assert path_by_uuid(shape, (), wrong) is None


def test_the_default_revision_is_the_one_that_one_api_chooses() -> None:
    old, new = dataset("x.y.npy", revision="2020"), dataset("x.y.npy", revision="2021")
    unflagged = dataset("x.y.npy", revision="2022", default=False)
    assert default_revision_of([old, unflagged]) == old
    assert default_revision_of([old, new]) is None
    later = dataset("x.y.npy", revision="2023", default=False)
    assert default_revision_of([later, unflagged]) == later
    assert default_revision_of([]) is None


def test_two_datasets_on_one_path_have_distinct_names() -> None:
    kept = Dataset("aaaaaaaa-0000-4000-8000-000000000000", EID, "x.y.npy", "alf")
    other = Dataset("bbbbbbbb-0000-4000-8000-000000000000", EID, "x.y.npy", "alf", default=False)
    shape = session_layout([other, kept])
    assert shape.folders[("alf",)] == {"x.y.npy": kept, "x.y~bbbbbbbb.npy": other}


def test_a_folder_keeps_its_name_before_a_file() -> None:
    file = Dataset("bbbbbbbb-0000-4000-8000-000000000000", EID, "alf", "")
    shape = session_layout([file, dataset("x.y.npy")])
    assert shape.folders[()] == {"alf": None, "alf~bbbbbbbb": file}


def test_sessions_by_date_and_number() -> None:
    def session(eid: str, date: str, number: int) -> Session:
        return Session(eid, "lab", "subject", date, number)

    one = session("11111111-0000-4000-8000-000000000000", "2020-01-01", 1)
    twin = session("22222222-0000-4000-8000-000000000000", "2020-01-01", 1)
    ten = session("33333333-0000-4000-8000-000000000000", "2020-01-02", 10)
    shape = subject_layout([one, twin, ten])
    assert shape == {
        "2020-01-01": {"001": one, "001~22222222": twin},
        "2020-01-02": {"010": ten},
    }


def test_names_of_labs_and_subjects() -> None:
    assert lab_folder_names(["b/c", "a", ".rest"]) == {"%2Erest": ".rest", "a": "a", "b%2Fc": "b/c"}
    subjects = subject_folder_names(["KS023", "ks023", "Subjects", "a b.c"])
    assert subjects == {
        "KS023": "KS023",
        "%53ubjects": "Subjects",
        "a b.c": "a b.c",
        "ks023": "ks023",
    }
    clash = subject_folder_names(["a%2Fb", "a/b"])
    assert set(clash.values()) == {"a%2Fb", "a/b"}
    assert len(clash) == 2
