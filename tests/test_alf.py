"""The grammar: one test for each rule of the table in ``onefs.alf``."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from onefs import alf
from onefs.model import Dataset, Session

EID = "18619a05-41c1-4ec1-9aee-e01fc22ca10b"


def dataset(name: str = "spikes.times.npy", **fields: object) -> Dataset:
    return Dataset(id="5aa874bb-694f-481d-8420-b3d554d25694", eid=EID, name=name, **fields)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("name", "becomes"),
    [
        ("spikes.times.npy", "spikes.times.npy"),
        ("#2020-08-31#", "#2020-08-31#"),
        ("CSHL-015.b", "CSHL-015.b"),
        ("with space", "with space"),
        ("a/b", "a%2Fb"),
        ("a\0b", "a%00b"),
        ("a\nb\x7f", "a%0Ab%7F"),
        (".", "%2E"),
        ("..", "%2E%2E"),
        ("...", "..."),
        ("caf\u00e9", "caf\u00e9"),
        ("\udcff", "%FF"),
        ("\ud800", "%ED%A0%80"),
    ],
)
def test_a_component_has_no_characters_that_a_file_system_cannot_store(
    name: str, becomes: str
) -> None:
    assert alf.path_component(name) == becomes


def test_long_names_are_shortened_and_keep_their_extension() -> None:
    one, other = alf.path_component("é" * 300 + "1.npy"), alf.path_component("é" * 300 + "2.npy")
    assert len(one.encode()) <= 255
    assert one.endswith(".npy")
    assert one != other


@given(st.text(min_size=1, max_size=400))
def test_any_name_becomes_one_component(name: str) -> None:
    safe = alf.path_component(name)
    raw = safe.encode()  # this would raise for a surrogate
    assert 0 < len(raw) <= alf.NAME_MAX
    assert safe not in (".", "..")
    assert not {"/", "\0", "\n"} & set(safe)


@given(st.text(min_size=1, max_size=300), st.text(max_size=300))
def test_a_dataset_never_leaves_its_session(name: str, collection: str) -> None:
    found = dataset(name, collection=collection)
    for part in (*alf.dataset_folder(found), alf.dataset_file(found)):
        assert part not in ("", ".", "..")
        assert "/" not in part
        assert part not in alf.SESSION_FILES or alf.dataset_folder(found)


def test_names_of_a_server_do_not_replace_those_of_onefs() -> None:
    assert alf.lab_folder(".by-eid") == "%2Eby-eid"
    assert alf.subject_folder("Subjects") == "%53ubjects"
    assert alf.dataset_file(dataset(".session.json")) == "%2Esession.json"
    assert alf.dataset_file(dataset(".session.json", collection="alf")) == ".session.json"
    assert alf.dataset_folder(dataset(collection=".session.json/x"))[0] == "%2Esession.json"


def test_collections_and_revisions_are_folders() -> None:
    found = dataset(collection="alf//probe00/../x", revision="2020-08-31")
    assert alf.dataset_folder(found) == ("alf", "probe00", "%2E%2E", "x", "#2020-08-31#")
    assert alf.dataset_folder(dataset()) == ()


def test_session_folder_pads_the_number() -> None:
    session = Session(EID, "cortexlab", "KS023", "2019-12-10", 1)
    assert alf.session_folder(session) == ("cortexlab", "KS023", "2019-12-10", "001")
    assert alf.number_folder(1234) == "1234"


@pytest.mark.parametrize(
    ("name", "folder"),
    [("1", "001"), ("01", "001"), ("0001", "001"), ("001", None), ("12a", None), ("\u0661", None)],
)
def test_an_unpadded_number_leads_to_the_padded_folder(name: str, folder: str | None) -> None:
    assert alf.padded_number_folder(name) == folder


def test_a_ref_is_parsed() -> None:
    assert alf.parse_ref("2019-12-10_1_KS023") == alf.Ref("2019-12-10", 1, "KS023")
    assert alf.parse_ref("2019-12-10_001_a_b") == alf.Ref("2019-12-10", 1, "a_b")
    for wrong in ("2019-12-10_KS023", "KS023", "", "2019-12-10_x_KS023"):
        assert alf.parse_ref(wrong) is None
    session = Session(EID, "cortexlab", "KS023", "2019-12-10", 1)
    assert alf.parse_ref(session.ref) == alf.Ref("2019-12-10", 1, "KS023")


@pytest.mark.parametrize(
    ("name", "type_"),
    [
        ("spikes.times.npy", "spikes.times"),
        ("_ibl_wheel.position.npy", "_ibl_wheel.position"),
        ("_iblrig_taskData.raw.jsonable", "_iblrig_taskData.raw"),
        ("clusters._phy_annotation.tsv", "clusters._phy_annotation"),
        ("notes.md", "unknown"),
        ("README", "unknown"),
        (".hidden.file.npy", "unknown"),
    ],
)
def test_a_file_name_implies_a_dataset_type(name: str, type_: str) -> None:
    assert alf.dataset_type(name) == type_


def test_is_uuid_and_is_date() -> None:
    assert alf.is_uuid(EID)
    assert not alf.is_uuid(EID.upper())
    assert not alf.is_uuid(EID.replace("-", ""))
    assert alf.is_date("2019-12-10")
    assert not alf.is_date("2019-12-1")
    assert not alf.is_date("2019-12-10\n")


def test_unique_names_gives_each_name_once() -> None:
    first, second = "11111111-0000-0000-0000-000000000000", "22222222-0000-0000-0000-000000000000"
    named = [("a.npy", first, 1), ("a.npy", second, 2), ("alf", second, 3), ("a.npy", second, 4)]
    assert list(alf.unique_names(named, taken=["alf"])) == [
        ("a.npy", 1),
        ("a~22222222.npy", 2),
        ("alf~22222222", 3),
        (f"a~{second}.npy", 4),
    ]


@given(st.lists(st.sampled_from(["a", "b.npy", "x" * 255]), max_size=6))
def test_unique_names_drops_no_entry(names: list[str]) -> None:
    named = [(name, f"{i:08x}-{i:027x}", i) for i, name in enumerate(names)]
    found = list(alf.unique_names(named))
    assert [thing for _, thing in found] == list(range(len(names)))
    assert len({name for name, _ in found}) == len(names)
    assert all(len(name.encode()) <= 255 for name, _ in found)
