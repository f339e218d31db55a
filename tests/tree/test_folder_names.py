"""Tests of file and folder names on a lab's own disk, which ``--data`` serves, in the tree."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from onefs.access import Access
from onefs.demo.folder_laboratory import FolderLaboratory
from onefs.demo.servers import Servers
from onefs.tree.nodes import NodeKind

#: below the data folder, and where it stands in the tree
NAMES = {
    b"lab\xff/Subjects/s1/2020-01-01/001/alf/a.b.npy": "lab%FF/s1/2020-01-01/001/alf/a.b.npy",
    b"lab/Subjects/s\xe9/2020-01-01/001/alf/a.b.npy": "lab/s%E9/2020-01-01/001/alf/a.b.npy",
    b"lab/Subjects/s2/2020-01-01/7/a\xe9/a.b\xff.npy": "lab/s2/2020-01-01/007/a%E9/a.b%FF.npy",
    b"lab/Subjects/s2/2020-01-01/001/#r\xff#/a.b.npy": "lab/s2/2020-01-01/001/#r%FF#/a.b.npy",
    b" lab /Subjects/ sp /2020-01-01/001/ok.a.npy": " lab / sp /2020-01-01/001/ok.a.npy",
    b"lab/Subjects/a,b&c=d/2020-01-01/001/ok.a.npy": "lab/a,b&c=d/2020-01-01/001/ok.a.npy",
    b"lab/Subjects/S2/2020-01-01/001/OK.a.npy": "lab/S2/2020-01-01/001/OK.a.npy",
    b"lab/Subjects/s2/2020-01-01/001/OK.A.npy": "lab/s2/2020-01-01/001/OK.A.npy",
    b"Lab/Subjects/s2/2020-01-01/001/ok.a.npy": "Lab/s2/2020-01-01/001/ok.a.npy",
    b"lab/Subjects/s2/2020-01-01/1000/ok.a.npy": "lab/s2/2020-01-01/1000/ok.a.npy",
    b"lab/Subjects/s2/2020-01-01/002/.hidden/.x.npy": "lab/s2/2020-01-01/002/.hidden/.x.npy",
    b"lab/Subjects/s2/2020-01-01/003/a\nb/n.\n.npy": "lab/s2/2020-01-01/003/a%0Ab/n.%0A.npy",
    b"lab/Subjects/s2/2020-01-01/004/" + b"x" * 255: "lab/s2/2020-01-01/004/" + "x" * 255,
    b"lab/Subjects/s2/2020-01-01/005/%41/%2F.a.npy": "lab/s2/2020-01-01/005/%41/%2F.a.npy",
    b"lab/Subjects/s2/2020-01-01/006/#nan#/q.a.npy": "lab/s2/2020-01-01/006/#nan#/q.a.npy",
    b"lab/Subjects/s2/2020-01-01/006/alf/##/q.a.npy": "lab/s2/2020-01-01/006/alf/##/q.a.npy",
}


@pytest.fixture(scope="module")
def servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Servers]:
    folder = tmp_path_factory.mktemp("data")
    for name in NAMES:
        path = Path(os.fsdecode(os.fsencode(folder) + b"/" + name))
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(name)
    with Servers(FolderLaboratory(folder)) as running:
        yield running


def files(access: Access, folder: str = "") -> Iterator[str]:
    for name, node in access.tree.children(folder or "/"):
        path = f"{folder}/{name}"
        if node.kind is NodeKind.DIRECTORY:
            yield from files(access, path)
        else:
            yield path


def test_every_file_of_a_disk_is_shown_once_with_its_bytes(access: Access) -> None:
    """Names are not UTF-8, end with blanks, differ only in upper and lower case, and more."""
    assert sorted(files(access)) == sorted(f"/{path}" for path in NAMES.values())
    for name, path in NAMES.items():
        _, handle = access.tree.open(f"/{path}")
        try:
            assert os.pread(handle.wait_fd(0, handle.size), handle.size, 0) == name
        finally:
            handle.close()
