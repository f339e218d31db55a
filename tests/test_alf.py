"""The grammar: one test for each rule of the table in ``onefs.alf``."""

from __future__ import annotations

import json

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
        ("\udc7f\udc80", "%ED%B1%BF%80"),
        ("\udcff\udd00", "%FF%ED%B4%80"),
        ("\x1f \x7f\x80", "%1F %7F\x80"),
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


@pytest.mark.parametrize(
    ("name", "becomes"),
    [
        ("x" * 255, "x" * 255),
        ("x" * 256, "x" * 246 + "~{}"),
        ("x" * 252 + ".npy", "x" * 242 + "~{}.npy"),
        ("é" * 126 + ".npy", "é" * 121 + "~{}.npy"),  # one byte is left over
        ("a.b" + "🧠" * 64, "a.b" + "🧠" * 60 + "~{}"),  # too long to be an extension
        ("x" * 250 + "." + "e" * 32, "x" * 213 + "~{}." + "e" * 32),
        ("x" * 250 + "." + "e" * 33, "x" * 246 + "~{}"),
        ("." + "x" * 255, "." + "x" * 245 + "~{}"),
        ("x" * 256 + "/y.", "x" * 245 + "~{}."),
    ],
)
def test_a_long_name_keeps_all_characters_that_fit(name: str, becomes: str) -> None:
    mark = alf.name_digest(name.replace("/", "%2F"))[:8]
    assert alf.path_component(name) == becomes.format(mark)


def test_the_mark_of_a_long_name_stays_the_same() -> None:
    """Paths that users have written down depend on it."""
    assert alf.path_component("x" * 256).endswith("x~53dab551")
    assert alf.name_digest("\udcff") != alf.name_digest("%FF")


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
    assert alf.lab_folder("sessions.pqt") == "%73essions.pqt"
    assert alf.lab_folder("Subjects") == "Subjects"
    assert alf.subject_folder("sessions.pqt") == "sessions.pqt"
    assert alf.escape_reserved("\tx") == "%09x"
    assert alf.subject_folder(json.loads('"Subjects"')) == "%53ubjects"  # as a server sends it
    assert alf.dataset_file(dataset(".session.json")) == "%2Esession.json"
    assert alf.dataset_file(dataset(".session.json", collection="alf")) == ".session.json"
    assert alf.dataset_folder(dataset(collection=".session.json/x"))[0] == "%2Esession.json"


def test_collections_and_revisions_are_folders() -> None:
    found = dataset(collection="alf//probe00/../x", revision="2020-08-31")
    assert alf.dataset_folder(found) == ("alf", "probe00", "%2E%2E", "x", "#2020-08-31#")
    assert alf.dataset_folder(dataset()) == ()
    assert alf.dataset_folder(dataset(revision="a/b")) == ("#a%2Fb#",)
    assert alf.collection_folder(found) == ("alf", "probe00", "%2E%2E", "x")
    deep = dataset(collection="alf/.session.json")  # not in the session's own folder
    assert alf.dataset_folder(deep) == ("alf", ".session.json")


def test_the_name_of_a_dataset_depends_on_its_folder() -> None:
    """A view may show a dataset in another folder than its own."""
    found = dataset(".session.json", collection="alf")
    assert alf.dataset_file(found, ()) == "%2Esession.json"
    assert alf.dataset_file(dataset(".session.json"), ("x",)) == ".session.json"
    assert alf.dataset_file(dataset(".session.json", revision="r")) == ".session.json"
    assert alf.dataset_file(dataset("")) == "%"


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


@pytest.mark.parametrize(
    ("name", "number"),
    [
        ("001", 1),
        ("1", 1),
        ("001~0123abcd", 1),
        ("123456789", 123456789),
        ("123456789~0123abcd~x", 123456789),
        ("1234567890", None),
        ("", None),
        ("~001", None),
        ("x~001", None),
        ("-1", None),
    ],
)
def test_the_number_of_a_folder_is_before_its_mark(name: str, number: int | None) -> None:
    assert alf.parse_number_folder(name) == number


def test_the_longest_number_of_a_session_has_nine_digits() -> None:
    assert alf.padded_number_folder("000000001") == "001"
    assert alf.padded_number_folder("0000000001") is None
    assert alf.padded_number_folder("") is None


def test_a_ref_is_parsed() -> None:
    assert alf.parse_ref("2019-12-10_1_KS023") == alf.Ref("2019-12-10", 1, "KS023")
    assert alf.parse_ref("2019-12-10_001_a_b") == alf.Ref("2019-12-10", 1, "a_b")
    assert alf.parse_ref("2019-12-10_1_a\nb") == alf.Ref("2019-12-10", 1, "a\nb")
    assert alf.parse_ref("2019-12-10_123456789_a") == alf.Ref("2019-12-10", 123456789, "a")
    for wrong in (
        *("2019-12-10_KS023", "KS023", "", "2019-12-10_x_KS023", "2019-12-10_1_"),
        *("2019-12-1\u0660_1_a", "2019-12-10_\u0661_a", "2019-12-10_1234567890_a"),
    ):
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
        ("spikes.times.extra.npy", "spikes.times"),
        ("spikes.times.", "spikes.times"),
        ("spikes.ti-mes.npy", "unknown"),
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


@pytest.mark.parametrize(
    ("text", "valid"),
    [
        ("2020-02-29", True),
        ("2021-02-29", False),
        ("2021-13-01", False),
        ("0000-01-01", False),
        ("20210101", False),
        ("2021-1-01", False),
    ],
)
def test_a_calendar_day_exists(text: str, valid: bool) -> None:
    assert alf.is_calendar_day(text) is valid


@pytest.mark.parametrize(
    ("text", "valid"),
    [
        ("2021-07-05", True),
        ("2021-07-05a", True),
        ("2021-07-05z", True),
        ("2021-07-05A", False),
        ("2021-07-05ab", False),
        ("2021-07-051", False),
        ("2021-02-30a", False),
        ("a", False),
    ],
)
def test_a_revision_day_may_have_a_letter(text: str, valid: bool) -> None:
    assert alf.is_revision_day(text) is valid


def test_each_uuid_in_a_file_name_is_found() -> None:
    other = EID.replace("1", "a")
    assert alf.names_with_uuid(f"a.b.{EID}.npy") == [(EID, "a.b.npy")]
    assert alf.names_with_uuid(f"a.b.{EID.upper()}") == [(EID, "a.b")]
    assert alf.names_with_uuid(f"a.{EID}.{other}.npy") == [
        (EID, f"a.{other}.npy"),
        (other, f"a.{EID}.npy"),
    ]
    for name in ("a.b.npy", f"{EID}.npy", f"a.{EID}x.npy", f"a.x{EID}.npy", f"a.{EID}\n"):
        assert alf.names_with_uuid(name) == []


@pytest.mark.parametrize("text", ["\udc80", "a\udcffb", "\udcc3\udca9", "%41\udc80"])
def test_valid_text_is_undone(text: str) -> None:
    encoded = alf.valid_text(text)
    encoded.encode()  # this would raise for a surrogate
    assert alf.undo_valid_text(encoded) == text


def test_percent_codes_of_ascii_stay() -> None:
    assert alf.undo_valid_text("%2F%7F%80%FF%ff%8") == "%2F%7F\udc80\udcff%ff%8"


def test_unique_names_gives_each_name_once() -> None:
    first, second = "11111111-0000-0000-0000-000000000000", "22222222-0000-0000-0000-000000000000"
    named = [("a.npy", first, 1), ("a.npy", second, 2), ("alf", second, 3), ("a.npy", second, 4)]
    assert list(alf.unique_names(named, taken=["alf"])) == [
        ("a.npy", 1),
        ("a~22222222.npy", 2),
        ("alf~22222222", 3),
        (f"a~{second}.npy", 4),
    ]


def test_unique_names_are_unique_even_if_a_server_sends_the_names_with_marks() -> None:
    first, second = "11111111-0000-0000-0000-000000000000", "22222222-0000-0000-0000-000000000000"
    sent = ["a.npy", "a~22222222.npy", f"a~{second}.npy", f"a~{second}-3.npy"]
    named = [(name, first, name) for name in sent] + [("a.npy", second, "last")] * 2
    found = [name for name, _ in alf.unique_names(named)]
    assert found == [*sent, f"a~{second}-2.npy", f"a~{second}-4.npy"]


@given(st.lists(st.sampled_from(["a", "b.npy", "x" * 255]), max_size=6))
def test_unique_names_drops_no_entry(names: list[str]) -> None:
    named = [(name, f"{i:08x}-{i:027x}", i) for i, name in enumerate(names)]
    found = list(alf.unique_names(named))
    assert [thing for _, thing in found] == list(range(len(names)))
    assert len({name for name, _ in found}) == len(names)
    assert all(len(name.encode()) <= 255 for name, _ in found)


def test_a_path_of_the_cache_folder_has_one_folder_more_than_the_tree() -> None:
    assert alf.parts_in_tree(["lab", "Subjects", "s", "x.npy"]) == ("lab", "s", "x.npy")
    assert alf.parts_in_tree(["lab", "s", "Subjects"]) == ("lab", "s", "Subjects")
    aggregate = ("aggregates", "Subjects", "lab", "s", "x.pqt")
    assert alf.parts_in_tree(aggregate) == aggregate
