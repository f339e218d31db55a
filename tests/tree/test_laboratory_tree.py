"""Tests of paths and the entries at these paths, with a real catalogue, cache and server."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from onefs.access import Access
from onefs.demo.servers import Servers
from onefs.errors import NotFound, Unreachable, UsageError
from onefs.tree.nodes import NodeKind, Tree, inode_of_path, inode_of_uuid
from tests.laboratories import open_laboratory

TUTORIAL = "cf264653-2deb-44cb-aa84-89b82507028a"
#: the tutorial's, whose datasets have no collection
SESSION = "/mainenlab/clns0730/2018-08-24/001"
#: one of two probes, of which the first was sorted three times
COLLECTIONS = "/cortexlab/KS023/2019-12-20/001"


def names(tree: Tree, path: str) -> list[str]:
    return [name for name, _ in tree.children(path)]


def walk(tree: Tree, path: str = "/") -> list[str]:
    found = []
    for name, node in tree.children(path):
        below = f"{path.rstrip('/')}/{name}"
        found.append(below)
        if node.kind is NodeKind.DIRECTORY:
            found += walk(tree, below)
    return found


def test_the_tree_has_the_documented_layout(access: Access) -> None:
    tree: Tree = access.tree
    assert {"mainenlab", "zadorlab"} <= set(names(tree, "/"))
    assert "clns0730" in names(tree, "/mainenlab")
    assert names(tree, "/mainenlab/clns0730") == ["2018-08-24"]
    assert names(tree, "/mainenlab/clns0730/2018-08-24") == ["001"]
    assert "spikes.times.npy" in names(tree, SESSION)
    assert names(tree, COLLECTIONS) == ["alf", "raw_behavior_data", "raw_ephys_data"]
    assert "spikes.times.npy" in names(tree, COLLECTIONS + "/alf/probe00")


def test_every_listed_child_is_the_same_as_its_node(access: Access) -> None:
    tree = access.tree
    for path in ("/", "/mainenlab", "/mainenlab/clns0730", SESSION, COLLECTIONS + "/alf"):
        children = list(tree.children(path))
        assert children
        for name, node in children:
            assert tree.node(f"{path.rstrip('/')}/{name}") == node


def test_no_virtual_entry_is_listed_and_each_file_is_shown_once(access: Access) -> None:
    found = walk(access.tree)
    assert len(found) == len(set(found))
    assert not [path for path in found if "Subjects" in path or "/." in path]
    assert all(access.tree.node(path).kind is not NodeKind.LINK for path in found[:200])


def test_aliases_are_relative_links(access: Access) -> None:
    tree = access.tree
    aliases = {
        "/mainenlab/Subjects": ".",
        "/mainenlab/clns0730/2018-08-24/1": "001",
        "/mainenlab/clns0730/2018-08-24/01": "001",
        f"/.by-eid/{TUTORIAL}": "../mainenlab/clns0730/2018-08-24/001",
        f"/.by-eid/{TUTORIAL.upper()}": "../mainenlab/clns0730/2018-08-24/001",
        "/.by-ref/2018-08-24_1_clns0730": "../mainenlab/clns0730/2018-08-24/001",
        "/.by-ref/2018-08-24_001_clns0730": "../mainenlab/clns0730/2018-08-24/001",
    }
    for path, target in aliases.items():
        assert tree.node(path).kind is NodeKind.LINK
        assert tree.target(path) == target
    assert names(tree, "/.by-eid") == names(tree, "/.by-ref") == []


def test_short_paths_of_two_probes_do_not_exist(access: Access, servers: Servers) -> None:
    session = next(
        path.removesuffix("/alf/probe01")
        for path in walk(access.tree)
        if path.endswith("/alf/probe01")
    )
    assert "spikes.times.npy" in names(access.tree, session + "/alf/probe00")
    with pytest.raises(NotFound):
        access.tree.node(session + "/spikes.times.npy")


@pytest.mark.parametrize(
    "path",
    [
        "/nolab",
        "/.git",
        "/mainenlab/nobody",
        "/mainenlab/clns0730/2018-08-25",
        "/mainenlab/clns0730/readme",
        "/mainenlab/clns0730/2018-08-24/002",
        "/mainenlab/clns0730/2018-08-24/2",
        SESSION + "/nothing.npy",
        SESSION + "/nothing/more",
        SESSION + "/spikes.times.npy/below",
        "/.by-eid/not-a-uuid",
        "/.by-ref/not-a-ref",
    ],
)
def test_missing_paths_are_not_found(access: Access, path: str) -> None:
    with pytest.raises(NotFound):
        access.tree.node(path)


def test_a_path_leads_to_the_session_whose_folder_it_is(access: Access) -> None:
    for path in (SESSION, f"/.as-of/2021-01-01{SESSION}", f"/.flat{SESSION}"):
        session = access.tree.session_at(path)
        assert session.eid == access.tree.xattrs(SESSION)["user.onefs.eid"]
        assert session == access.catalogue.session(session.eid)
    for path in ("/", "/mainenlab", f"{SESSION}/alf", f"{SESSION}/.session.json", f"{SESSION}9"):
        with pytest.raises(NotFound):
            access.tree.session_at(path)


def test_a_name_that_cannot_exist_costs_no_request(access: Access, servers: Servers) -> None:
    for path in ("/.git", "/.Trash", "/.by-eid/x", "/.by-ref/x"):
        with pytest.raises(NotFound):
            access.tree.node(path)
    assert servers.requests == []


def test_a_well_formed_eid_is_a_link_without_a_request(access: Access, servers: Servers) -> None:
    unknown = "/.by-eid/aaaaaaaa-bbbb-4ccc-8ddd-eeeeeeeeeeee"
    assert access.tree.node(unknown).kind is NodeKind.LINK
    assert servers.requests == []
    with pytest.raises(NotFound):
        access.tree.target(unknown)


def test_opening_a_folder_and_following_a_file_are_refused(access: Access) -> None:
    with pytest.raises(UsageError):
        access.tree.open(SESSION)
    with pytest.raises(UsageError):
        access.tree.target(SESSION)
    with pytest.raises(UsageError):
        access.tree.children(SESSION + "/spikes.times.npy")


def test_attributes_come_from_the_database(access: Access, servers: Servers) -> None:
    node = access.tree.node(SESSION + "/spikes.times.npy")
    _, handle = access.tree.open(SESSION + "/spikes.times.npy")
    assert node.size == handle.size
    assert node.mtime > 1_500_000_000
    assert not [request for request in servers.requests if request.server == "data"]
    assert len(os.pread(handle.wait_fd(0, handle.size), handle.size, 0)) == node.size
    handle.close()


def test_inodes_are_the_same_in_another_process(
    access: Access, servers: Servers, tmp_path: Path
) -> None:
    other = open_laboratory(servers, tmp_path / "other")
    try:
        for path in ("/", "/mainenlab", SESSION, COLLECTIONS + "/alf", SESSION + "/notes.md"):
            assert access.tree.node(path).ino == other.tree.node(path).ino
    finally:
        other.close()


def test_inodes_are_never_0_and_differ() -> None:
    assert inode_of_uuid("00000000-0000-0000-0000-000000000000") > 1
    assert inode_of_uuid("00000000-0000-0000-0000-000000000001") > 1
    assert inode_of_path("lab", "a") != inode_of_path("lab", "b")
    assert inode_of_path("a", "b") != inode_of_path("ab")


def test_files_and_folders_have_the_documented_xattrs(access: Access, servers: Servers) -> None:
    found = access.tree.xattrs(SESSION + "/spikes.times.npy")
    assert found["user.onefs.eid"] == TUTORIAL
    assert found["user.onefs.dataset_type"] == "spikes.times"
    assert found["user.onefs.url"].startswith(servers.data_url)
    assert found["user.onefs.state"] == "remote"
    assert "user.onefs.error" not in found
    assert set(found) == {
        "user.onefs." + name
        for name in (
            "eid",
            "dataset_id",
            "dataset_type",
            "md5",
            "url",
            "revision",
            "default",
            "qc",
            "state",
        )
    }
    assert found["user.onefs.default"] == "1"
    assert access.tree.xattrs(SESSION) == {
        "user.onefs.eid": TUTORIAL,
        "user.onefs.ref": "2018-08-24_1_clns0730",
    }
    assert access.tree.xattrs("/") == {
        "user.onefs.url": servers.alyx_url,
        "user.onefs.offline": "0",
    }
    assert access.tree.xattrs("/mainenlab") == {}


def test_session_json_is_the_whole_record(access: Access, servers: Servers) -> None:
    path = SESSION + "/.session.json"
    node = access.tree.node(path)
    _, handle = access.tree.open(path)
    text = os.pread(handle.wait_fd(0, handle.size), handle.size, 0)
    handle.close()
    assert node.size == len(text) == handle.size
    record = json.loads(text)
    assert record["subject"] == "clns0730"
    assert text.decode() == json.dumps(record, sort_keys=True, indent=2, ensure_ascii=False) + "\n"
    details = [request for request in servers.requests if TUTORIAL in request.path]
    assert len([request for request in details if request.path.startswith("/sessions/")]) == 1


def test_a_listing_is_one_request_per_folder(access: Access, servers: Servers) -> None:
    found = walk(access.tree)
    folders = 1 + sum(1 for path in found if access.tree.node(path).kind is NodeKind.DIRECTORY)
    assert len(servers.requests) <= folders
    assert all(request.server == "alyx" for request in servers.requests)
    servers.clear_requests()
    walk(access.tree)
    assert servers.requests == []


def test_an_unreachable_server_is_not_reported_as_a_missing_file(tmp_path: Path) -> None:
    from onefs.demo.synthetic import SyntheticLaboratory

    with Servers(SyntheticLaboratory()) as servers:
        found = open_laboratory(servers, tmp_path)
        try:
            listed = names(found.tree, "/mainenlab")
            servers.stop()
            assert names(found.tree, "/mainenlab") == listed
            with pytest.raises(Unreachable):
                found.tree.children("/mainenlab/clns0730")
            assert found.tree.xattrs("/")["user.onefs.offline"] == "1"
        finally:
            found.close()
