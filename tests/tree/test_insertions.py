"""``.by-pid``, ``.insertions.tsv`` and ``.sessions.tsv`` with the embedded laboratory."""

from __future__ import annotations

import os
import posixpath
from collections.abc import Iterator
from pathlib import Path

import pytest

from onefs.access import Access
from onefs.demo.servers import Servers
from onefs.errors import NotFound, Unreachable
from onefs.tree.by_pid import sorting_collection
from onefs.tree.nodes import NodeKind
from onefs.tree.tsv import tsv_text
from tests.laboratories import alyx_requests, open_laboratory

SESSION = "cortexlab/KS023/2019-12-20/001"
UNKNOWN = "aaaaaaaa-bbbb-4ccc-8ddd-eeeeeeeeeeee"
COLUMNS = [
    "pid", "eid", "name", "model", "serial", "qc", "ref", "lab", "subject", "date", "number",
    "path",
]  # fmt: skip


def table(access: Access, path: str) -> list[dict[str, str]]:
    """Return the rows of a table in the tree, by column."""
    _, handle = access.tree.open(path)
    try:
        assert access.tree.node(path).size == handle.size
        text = os.pread(handle.wait_fd(0, handle.size), handle.size, 0).decode()
    finally:
        handle.close()
    header, *lines = (line.split("\t") for line in text.splitlines())
    return [dict(zip(header, line, strict=True)) for line in lines]


def names(access: Access, path: str) -> list[str]:
    return [name for name, _ in access.tree.children(path)]


@pytest.fixture(scope="module")
def known(servers: Servers, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Access]:
    """Return a laboratory that the tests of this module share."""
    found = open_laboratory(servers, tmp_path_factory.mktemp("known"))
    yield found
    found.close()


def test_the_insertions_of_a_session_are_a_table(known: Access) -> None:
    rows = table(known, f"/{SESSION}/.insertions.tsv")
    assert list(rows[0]) == COLUMNS
    assert [row["name"] for row in rows] == ["probe00", "probe01"]
    for row in rows:
        assert (row["model"], row["qc"], row["path"]) == ("3B2", "PASS", SESSION)
        assert row["ref"] == "2019-12-20_1_KS023"
    assert ".insertions.tsv" not in names(known, f"/{SESSION}")
    assert table(known, "/mainenlab/clns0730/2018-08-24/001/.insertions.tsv") == []


def test_a_pid_is_a_folder_of_links(known: Access) -> None:
    for row in table(known, f"/{SESSION}/.insertions.tsv"):
        folder, probe = f"/.by-pid/{row['pid']}", row["name"]
        expected = {
            "session": SESSION,
            "alf": f"{SESSION}/alf/{probe}",
            **({"raw": f"{SESSION}/raw_ephys_data/{probe}"} if probe == "probe00" else {}),
            "sorting": f"{SESSION}/alf/{probe}",
        }
        assert names(known, folder) == list(expected)
        for name, path in expected.items():
            link = f"{folder}/{name}"
            assert known.tree.node(link).kind is NodeKind.LINK
            assert posixpath.normpath(f"{folder}/{known.tree.target(link)}") == f"/{path}"
            assert known.tree.node(f"/{path}").kind is NodeKind.DIRECTORY
        with pytest.raises(NotFound):
            known.tree.node(f"{folder}/lfp")
        assert known.tree.xattrs(folder)["user.onefs.probe"] == probe


def test_links_lead_to_the_same_variant_of_the_tree(known: Access) -> None:
    pid = table(known, f"/{SESSION}/.insertions.tsv")[0]["pid"]
    assert names(known, f"/.flat/.by-pid/{pid}") == ["session"]
    link = f"/.as-of/2021-07-05/.by-pid/{pid}/sorting"
    target = posixpath.normpath(posixpath.dirname(link) + "/" + known.tree.target(link))
    assert target == f"/.as-of/2021-07-05/{SESSION}/alf/probe00"
    assert "spikes.times.npy" in names(known, target)


def test_a_pid_that_does_not_exist_is_absent(access: Access, servers: Servers) -> None:
    for name in ("probe00", UNKNOWN[:-1], UNKNOWN.replace("-", ""), ".git"):
        with pytest.raises(NotFound):
            access.tree.node(f"/.by-pid/{name}")
    assert names(access, "/.by-pid") == []
    assert ".by-pid" not in names(access, "/")
    assert [each.path for each in alyx_requests(servers) if "insertion" in each.path] == []
    with pytest.raises(NotFound):
        access.tree.node(f"/.by-pid/{UNKNOWN}")


def test_the_insertions_of_a_search_are_a_table(known: Access, servers: Servers) -> None:
    folder = "/.search/lab=cortexlab&atlas_acronym=CA1"
    refs = set(names(known, folder)) - {".eids", ".paths"}
    rows = table(known, f"{folder}/.insertions.tsv")
    assert list(rows[0]) == COLUMNS
    assert {row["ref"] for row in rows} == refs
    assert all(known.tree.node("/" + row["path"]).kind is NodeKind.DIRECTORY for row in rows)
    of_one = table(known, "/.search/lab=CORTEXLAB&atlas_acronym=ca1&probe=probe01/.insertions.tsv")
    assert of_one == [row for row in rows if row["name"] == "probe01"] != []
    servers.clear_requests()
    assert table(known, f"{folder}/.insertions.tsv") == rows
    assert alyx_requests(servers) == []


def test_the_insertions_of_many_sessions_need_few_requests(
    access: Access, servers: Servers
) -> None:
    folder = "/.search/date_range=2019-01-01,"
    count = len(names(access, folder)) - 2
    servers.clear_requests()
    rows = table(access, f"{folder}/.insertions.tsv")
    assert count > 40
    assert len({row["eid"] for row in rows}) > 15
    insertions = [each.path for each in alyx_requests(servers) if "/insertions" in each.path]
    assert len(insertions) == 1
    servers.clear_requests()
    for row in rows:
        assert access.tree.node(f"/.by-pid/{row['pid']}/session").kind is NodeKind.LINK
        assert table(access, f"/{row['path']}/.insertions.tsv")
    assert [each.path for each in alyx_requests(servers) if "/insertions" in each.path] == []


def test_the_sessions_of_a_search_are_a_table(known: Access) -> None:
    folder = "/.search/subject=KS023,clns0730"
    rows = table(known, f"{folder}/.sessions.tsv")
    assert list(rows[0]) == [
        "eid", "ref", "lab", "subject", "date", "number", "task_protocol", "projects", "path",
    ]  # fmt: skip
    assert [row["ref"] for row in rows] == names(known, folder)[2:]
    for row in rows:
        assert known.tree.target(f"/.by-eid/{row['eid']}") == f"../{row['path']}"
    assert {".sessions.tsv", ".insertions.tsv"}.isdisjoint(names(known, folder))


def test_tables_need_no_alyx_once_they_were_read(
    access: Access, servers: Servers, tmp_path: Path
) -> None:
    folder = "/.search/lab=cortexlab&atlas_acronym=CA1"
    paths = (f"{folder}/.insertions.tsv", f"/{SESSION}/.insertions.tsv", f"{folder}/.sessions.tsv")
    expected = [table(access, path) for path in paths]
    pid = expected[1][0]["pid"]
    links = names(access, f"/.by-pid/{pid}")
    servers.alyx.stop()
    try:
        offline = open_laboratory(servers, tmp_path, offline=True)
        try:
            assert [table(offline, path) for path in paths] == expected
            assert names(offline, f"/.by-pid/{pid}") == links
            with pytest.raises(Unreachable):
                offline.tree.node(f"/.by-pid/{UNKNOWN}")
            with pytest.raises(Unreachable):
                table(offline, "/mainenlab/clns0730/2018-08-24/001/.insertions.tsv")
        finally:
            offline.close()
    finally:
        servers.stop()
        servers.start()


@pytest.mark.parametrize(
    ("collections", "expected"),
    [
        (["alf/probe00", "alf/probe00/pykilosort"], "alf/probe00/pykilosort"),
        (["alf/probe00/iblsorter", "alf/probe00/pykilosort"], "alf/probe00/iblsorter"),
        (["alf/probe00/ks2_matlab", "alf/probe00"], "alf/probe00"),
        (["alf/probe00/ks2_matlab"], "alf/probe00/ks2_matlab"),
        (["alf/probe01", "alf"], ""),
        ([], ""),
    ],
)
def test_the_sorting_is_the_one_that_brainbox_chooses(
    collections: list[str], expected: str
) -> None:
    assert sorting_collection("probe00", collections) == expected


def test_a_cell_ends_neither_its_line_nor_itself() -> None:
    text = tsv_text(("a", "b"), [{"a": 'x\ty"\nz', "b": "c/d"}, {}])
    assert text == "a\tb\nx y' z\tc/d\n\t\n"
