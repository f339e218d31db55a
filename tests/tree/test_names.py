"""Tests that all names that a server may send become safe paths in the tree."""

from __future__ import annotations

import uuid
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from onefs import alf
from onefs.access import Access
from onefs.demo import alyx_rows
from onefs.demo.records import DatasetRecord, SessionRecord
from onefs.demo.servers import Servers
from onefs.errors import Ambiguous
from onefs.tree.nodes import NodeKind
from tests.laboratories import open_laboratory
from tests.recordings import bodies

SERVER = "flatiron_lab"
#: what names are made of, by people and by mistake
HOSTILE = (
    "slash/inside",
    "nul\0inside",
    "..",
    ".",
    "new\nline",
    "tab\tand\x7f",
    "long" * 70,
    "ü" * 200,
    "percent%2Fsign",
    " blanks at both ends ",
    "-rf",
    "*?[x]",
    "$(reboot);`x`",
    "semi;colon,comma'quote\"",
    "back\\slash",
    "trailing.",
    ".hidden",
    "#hash#",
    "?query&x=1",
    "Case",
    "case",
    "name with spaces.v1.2",
    "naïve",  # composed, and decomposed: two names for Linux
    "nai\u0308ve",
    "emoji 🧠",
    "\u202egnp.exe",
    "CON",
    "a:b",
    "~tilde",
    "no\udcffutf8",
)
#: Alyx has no lab without a name, and no NUL in any
HOSTILE_LABS = tuple(name for name in HOSTILE if "\0" not in name)


def make_id(*what: object) -> str:
    text = "/".join(map(str, what)).encode("utf-8", "backslashreplace").decode()
    return str(uuid.uuid5(uuid.NAMESPACE_URL, text))


def session(subject: str, number: int | None, date: str = "2021-03-04", lab: str = "lab") -> Any:
    eid = make_id(lab, subject, date, number, "session")
    return SessionRecord(
        eid=eid, lab=lab, subject=subject, start_time=f"{date}T10:00:00", number=number
    )


def dataset(eid: str, name: str, collection: str = "alf", revision: str = "", n: int = 0) -> Any:
    identity = make_id(eid, name, collection, revision, n)
    records = alyx_rows.file_records_of(identity, "lab", "s/2021-03-04/001/alf/a.b.npy")
    return DatasetRecord(
        id=identity,
        eid=eid,
        name=name,
        dataset_type="unknown",
        collection=collection,
        revision=revision,
        file_size=3,
        file_records=records,
    )


class HostileLaboratory:
    """A laboratory with unusual names (see ``onefs.demo.records.Source``)."""

    def __init__(self) -> None:
        self.main = session("mouse", 1)
        twin = session("mouse", 2)
        self.twins = (twin, SessionRecord(**{**_fields(twin), "eid": make_id("twin")}))
        self._sessions = [
            self.main,
            *self.twins,
            session("mouse", None),
            session("mouse", 1, lab="other"),
            session("Subjects", 1),
            *(session(name, 1) for name in HOSTILE if "\0" not in name),
            *(session("mouse of it", 1, lab=lab) for lab in HOSTILE_LABS),
        ]
        eid = self.main.eid
        self._datasets = {
            eid: [
                *(dataset(eid, name) for name in HOSTILE),
                *(dataset(eid, "a.b.npy", name) for name in HOSTILE),
                *(dataset(eid, "a.b.npy", "alf/rev", name) for name in HOSTILE),
                dataset(eid, "two.at_one_path.npy"),
                dataset(eid, "two.at_one_path.npy", n=1),
                dataset(eid, ".session.json", ""),
                dataset(eid, ".datasets.tsv", ""),
                dataset(eid, "x.y.npy", "alf", "nan"),
                dataset(eid, "file", "", n=2),
                dataset(eid, "a.b.npy", "file"),  # a folder of a file's name
            ]
        }

    def tables(self) -> Mapping[str, Sequence[Mapping[str, Any]]]:
        names = sorted({(found.subject, found.lab) for found in self._sessions})
        return {
            "labs": [
                alyx_rows.lab_row(name) for name in ("lab", "other", ".dotted", *HOSTILE_LABS)
            ],
            "subjects": [alyx_rows.subject_row(name, lab, "u", []) for name, lab in names],
            "data-repository": alyx_rows.repository_rows(["lab"], {}),
        }

    def sessions(self) -> Sequence[SessionRecord]:
        return self._sessions

    def datasets(self, eid: str) -> Sequence[DatasetRecord]:
        return self._datasets.get(eid, ())

    def dataset(self, dataset_id: str) -> DatasetRecord | None:
        return None

    def aggregates(self) -> Sequence[DatasetRecord]:
        return ()

    def file(self, path: str) -> Path | bytes | None:
        return None


def _fields(record: SessionRecord) -> dict[str, Any]:
    return {name: getattr(record, name) for name in SessionRecord.__dataclass_fields__}


@pytest.fixture(scope="module")
def source() -> HostileLaboratory:
    return HostileLaboratory()


@pytest.fixture(scope="module")
def servers(source: HostileLaboratory) -> Iterator[Servers]:
    with Servers(source) as running:
        yield running


def walked(access: Access, path: str = "") -> Iterator[tuple[str, NodeKind]]:
    """Return all paths below a folder. Check that names are unique, and valid for Linux."""
    children = access.tree.children(path or "/")
    names = [name for name, _ in children]
    assert len(set(names)) == len(names), path
    for name, node in children:
        assert 0 < len(name.encode()) <= alf.NAME_MAX
        assert name not in (".", "..")
        assert not any(char in name for char in "/\0\n\t\x7f")
        here = f"{path}/{name}"
        assert access.tree.node(here).kind is node.kind
        yield here, node.kind
        if node.kind is NodeKind.DIRECTORY:
            yield from walked(access, here)


def test_every_dataset_and_session_is_shown_once(access: Access, source: HostileLaboratory) -> None:
    found = list(walked(access))
    files = [path for path, kind in found if kind is NodeKind.FILE]
    ids = [access.tree.xattrs(path)["user.onefs.dataset_id"] for path in files]
    assert sorted(ids) == sorted(record.id for record in source.datasets(source.main.eid))
    folders = [path for path, kind in found if kind is NodeKind.DIRECTORY and path.count("/") == 4]
    eids = [access.tree.xattrs(path)["user.onefs.eid"] for path in folders]
    numbered = [record.eid for record in source.sessions() if record.number is not None]
    assert sorted(eids) == sorted(numbered)


def test_a_walk_in_batches_finds_the_same(servers: Servers, tmp_path: Path) -> None:
    one, other = open_laboratory(servers, tmp_path / "a"), open_laboratory(servers, tmp_path / "b")
    forwards = list(walked(one))
    for path, kind in reversed(forwards):
        assert other.tree.node(path).kind is kind
    assert list(walked(other)) == forwards
    one.close()
    other.close()


def test_two_sessions_on_one_date_and_number_have_distinct_folders(
    access: Access, source: HostileLaboratory
) -> None:
    names = [name for name, _ in access.tree.children("/lab/mouse/2021-03-04")]
    assert names[:2] == ["001", "002"]
    assert names[2].startswith("002~")
    for twin in source.twins:
        target = access.tree.target(f"/.by-eid/{twin.eid}").removeprefix("..")
        assert access.tree.xattrs(target)["user.onefs.eid"] == twin.eid


def test_a_search_marks_the_session_that_its_folder_marks(
    access: Access, source: HostileLaboratory
) -> None:
    """Two sessions began at the same time, so a server may send the two in any order."""
    folder = "/.search/subject=mouse&number=2"
    names = [name for name, _ in access.tree.children(folder) if not name.startswith(".")]
    leads = {name: access.tree.target(f"{folder}/{name}").rpartition("/")[2] for name in names}
    assert len(leads) == 2
    assert leads["2021-03-04_2_mouse"] == "002"
    for name, number in leads.items():
        assert number == name.replace("2021-03-04_2_mouse", "002")


def test_one_nickname_in_two_labs_is_two_subjects_and_an_ambiguous_ref(access: Access) -> None:
    assert {"lab", "other", "%2Edotted"} <= {name for name, _ in access.tree.children("/")}
    for lab in ("lab", "other"):
        assert access.tree.children(f"/{lab}/mouse/2021-03-04")
    with pytest.raises(Ambiguous):
        access.tree.target("/.by-ref/2021-03-04_1_mouse")


def test_a_subject_named_like_an_alias_has_its_own_folder(access: Access) -> None:
    assert access.tree.target("/lab/Subjects") == "."
    assert access.tree.children("/lab/%53ubjects/2021-03-04")


def test_a_nan_revision_is_a_revision_as_alyx_names_it(access: Access) -> None:
    """In Alyx's REST responses, nan is a real name. In cache tables, it is a missing name."""
    folder = "/lab/mouse/2021-03-04/001/alf/#nan#"
    assert [name for name, _ in access.tree.children(folder)] == ["x.y.npy"]


def test_recorded_names_are_paths_as_they_are() -> None:
    """No recorded name from the real Alyx must be escaped, except the names recorded as traps."""
    seen = 0
    for _, body in bodies("datasets"):
        for row in body.get("results", ()) if isinstance(body.get("results"), list) else ():
            if isinstance(row, dict) and isinstance(row.get("name"), str):
                seen += 1
                assert alf.path_component(row["name"]) == row["name"]
                for part in filter(None, (row.get("collection") or "").split("/")):
                    assert alf.path_component(part) == part
    assert seen > 100
