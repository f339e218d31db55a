"""``one.alyx.download_file`` and ``one.alyx._par``, compared with ONE-api's client."""

from __future__ import annotations

import hashlib
import re
from pathlib import Path
from typing import Any

import pytest

from onefs.demo.servers import Servers
from onefs.errors import NotFound, UsageError
from onefs.mount.mount_registry import MountInfo
from onefs.one import ONE
from onefs.one.data_server import common_address
from tests.laboratories import downloads
from tests.one.conftest import EID, Open
from tests.one.reference import open_reference
from tests.running import Home

FILE = "spikes.times.npy"
#: a session with revisions, one of whose folders has a '#' in its name
REVISED = "e0e972cd-cd41-424d-90b8-c08e5dbe06b5"


@pytest.fixture(scope="module")
def reference(servers: Servers, tmp_path_factory: pytest.TempPathFactory) -> Any:
    client = open_reference(servers, tmp_path_factory.mktemp("reference")).alyx
    for name in ("LOGIN", "PWD"):
        value = servers.login.data_username if name == "LOGIN" else servers.login.data_password
        client._par = client._par.set(f"HTTP_DATA_SERVER_{name}", value)
    return client


@pytest.mark.parametrize("chunks", [None, (0, 100), (3, 1), (100_000, 70_000), (100, 10**9)])
def test_a_part_of_a_file_is_that_of_one_api(
    shared: ONE, reference: Any, tmp_path: Path, chunks: tuple[int, int] | None
) -> None:
    url = shared.path2url(shared.path(EID) / FILE)
    ours, theirs = (
        alyx.download_file(url, chunks=chunks, target_dir=tmp_path / name, return_md5=True)
        for name, alyx in (("ours", shared.alyx), ("theirs", reference))
    )
    assert ours[0].read_bytes() == theirs[0].read_bytes()
    assert (ours[0].name, ours[1]) == (theirs[0].name, theirs[1])
    assert [each.name for each in (tmp_path / "ours").iterdir()] == [ours[0].name]


def test_files_in_a_list_are_those_of_one_api(shared: ONE, reference: Any, tmp_path: Path) -> None:
    session = shared.path(REVISED)
    paths = [session / name for name in shared.list_datasets(REVISED, "*.npy")]
    urls = [shared.path2url(path) for path in paths]
    # ONE-api quotes the name of a revision's folder itself
    unquoted = [url.replace("%23", "#") for url in urls]
    ours = shared.alyx.download_file(urls, target_dir=tmp_path / "ours")
    theirs = reference.download_file(unquoted, target_dir=tmp_path / "theirs")
    assert len(ours) > 2
    assert [each.read_bytes() for each in ours] == [each.read_bytes() for each in theirs]
    assert shared.alyx.download_file(unquoted) == paths == shared.alyx.download_file(urls)
    folders = [str(tmp_path / str(number)) for number in range(len(urls))]
    ours, sums = shared.alyx.download_file(urls, target_dir=folders, return_md5=True)
    assert [str(each.parent) for each in ours] == folders
    assert list(sums) == [hashlib.md5(each.read_bytes()).hexdigest() for each in ours]


def test_of_a_large_file_only_the_blocks_of_the_part_are_downloaded(
    opened: Open, servers: Servers, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ONEFS_SMALL_FILE", "64K")
    one = opened()
    url = one.path2url(one.path(EID) / FILE)
    servers.clear_requests()
    part = one.alyx.download_file(url, chunks=(5, 1000), target_dir=tmp_path)
    size = one.list_datasets(EID, FILE, details=True)["file_size"].iloc[0]
    first = sum(each.bytes for each in downloads(servers))
    assert 1000 <= first < size / 2
    again = one.alyx.download_file(url, chunks=(5, 1000), target_dir=tmp_path / "again")
    assert sum(each.bytes for each in downloads(servers)) == first
    whole = one.load_dataset(EID, FILE, download_only=True).read_bytes()
    assert part.read_bytes() == again.read_bytes() == whole[5:1005]


def test_a_file_is_replaced_only_on_request(shared: ONE, tmp_path: Path) -> None:
    url = shared.path2url(shared.path(EID) / FILE)
    path = shared.alyx.download_file(url, chunks=(0, 10), target_dir=tmp_path)
    shared.alyx.download_file(url, chunks=(0, 20), target_dir=tmp_path)
    assert path.stat().st_size == 10
    shared.alyx.download_file(url, chunks=(0, 20), target_dir=tmp_path, clobber=True)
    assert path.stat().st_size == 20


def test_nothing_is_requested_for_a_file_that_is_kept(shared: ONE, tmp_path: Path) -> None:
    """ONE-api: an existing file in the folder is returned at once, whatever the server has."""
    kept = tmp_path / "unknown.npy"
    kept.write_bytes(b"kept")
    url = shared.path2url(shared.path(EID) / FILE)
    unknown = f"{url.rpartition('/')[0]}/unknown.npy"
    assert shared.alyx.download_file(unknown, target_dir=tmp_path) == kept
    assert kept.read_bytes() == b"kept"


def test_a_copy_into_the_own_folder_keeps_the_file(shared: ONE) -> None:
    file = shared.load_dataset(EID, FILE.rpartition("/")[2], download_only=True)
    inode = file.stat().st_ino
    url = re.sub(r"\.[0-9a-f-]{36}\.", ".", shared.path2url(file))
    again = shared.alyx.download_file(url, target_dir=file.parent, clobber=True)
    assert (again, again.stat().st_ino) == (file, inode)


def test_what_cannot_be_downloaded_is_an_error(
    shared: ONE, servers: Servers, tmp_path: Path
) -> None:
    alyx = shared.alyx
    url = shared.path2url(shared.path(EID) / FILE)
    (tmp_path / "file").touch()
    for wrong in ((-1, 5), (0, 0), (1,), "ab", 3):
        with pytest.raises(UsageError, match="chunks is"):
            alyx.download_file(url, chunks=wrong, target_dir=tmp_path)  # type: ignore[arg-type]
    for expected, arguments in (
        ("ends before the byte", {"chunks": (10**9, 5), "target_dir": tmp_path}),
        ("cannot be written", {"target_dir": tmp_path / "file"}),
        ("has 2 folders for 1 files", {"target_dir": [tmp_path, tmp_path]}),
    ):
        with pytest.raises(UsageError, match=expected):
            alyx.download_file(url, **arguments)
    with pytest.raises(UsageError, match="is not on the file server"):
        alyx.download_file(url.replace(servers.data_url, "http://elsewhere.example"))
    with pytest.raises(NotFound, match="no file server has a dataset"):
        alyx.download_file("")
    with pytest.raises(NotFound, match="no file server has a dataset"):
        alyx.download_file(f"{servers.data_url}/public/mainenlab/Subjects/x/2020-01-01/001/a.b.npy")
    assert [each.name for each in tmp_path.iterdir()] == ["file"]


def test_settings_are_those_of_one_api(shared: ONE, reference: Any) -> None:
    ours, theirs = shared.alyx._par, reference._par
    assert (ours.ALYX_URL, ours.ALYX_LOGIN) == (theirs.ALYX_URL, theirs.ALYX_LOGIN)
    assert theirs.HTTP_DATA_SERVER == ours.HTTP_DATA_SERVER
    assert str(shared.cache_dir) == ours.CACHE_DIR
    assert not hasattr(ours, "ALYX_PWD")


@pytest.mark.parametrize(
    ("urls", "address"),
    [
        (["http://a/public/x/Subjects/", "http://a/public/y", ""], "http://a/public"),
        (["https://a/x/Subjects", "https://a/public/y", "http://b/z"], "https://a"),
        (["https://a"], "https://a"),
        (["s3://bucket/x"], ""),
    ],
)
def test_the_address_is_what_most_urls_begin_with(urls: list[str], address: str) -> None:
    assert common_address(iter(urls)) == address


def test_a_part_of_a_file_in_another_users_mount(tmp_path: Path) -> None:
    with Home(tmp_path) as home:
        mounted = home.mount("--demo")
        with ONE.in_mount(MountInfo(str(mounted.path), mounted.pid, url="http://host")) as one:
            path = one.eid2path(EID) / FILE
            part = one.alyx.download_file(
                one.path2url(path), chunks=(5, 1000), target_dir=tmp_path / "parts"
            )
            assert part.read_bytes() == path.read_bytes()[5:1005]
            with pytest.raises(UsageError, match="cannot be written"):
                one.alyx.download_file(one.path2url(path), chunks=(5, 1000))
