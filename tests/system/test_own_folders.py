"""Folders in the mount that users' code writes to: ``histology``, ``cache``, a tag of ONE's."""

from __future__ import annotations

import os
import shutil
import stat
import sys
from pathlib import Path

import numpy as np
import pytest

from onefs.demo.servers import Servers
from onefs.demo.synthetic import SyntheticLaboratory
from tests.laboratories import account
from tests.running import Home, Mounted, clean_environment, run, within

TAG = "2022_Q2_IBL_et_al_RepeatedSite"
NAMES = (
    "histology",
    "cache",
    "bwm_res",
    "bwm_tables",
    "granger",
    "manifold",
    "dmn",
    "fr_performance",
    "Brainwidemap",
    TAG,
)


@pytest.fixture(scope="module")
def mounted(shared_home: Home, folder: Path) -> Mounted:
    return shared_home.mount("--demo", "--demo-data", folder)


def _mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


@pytest.mark.parametrize("name", NAMES)
def test_each_name_leads_to_a_folder_that_can_be_written(mounted: Mounted, name: str) -> None:
    listed = sorted(os.listdir(mounted.path))
    place = mounted.path / name
    assert place.exists()  # before anything has made it
    place.mkdir(exist_ok=True)
    os.makedirs(place / "made", exist_ok=True)
    run(["mkdir", "-p", place / "made" / "deeper"])
    (place / "made" / "text.txt").write_text("written")
    np.save(place / "array.npy", np.arange(3))
    assert np.load(place / "array.npy").tolist() == [0, 1, 2]
    own = Path(os.readlink(place))
    assert _mode(own) == 0o700
    assert own.is_relative_to(mounted.home.folder / "data" / "onefs")
    assert (own / "made" / "text.txt").read_text() == "written"
    assert sorted(os.listdir(mounted.path)) == listed  # it is not listed


def test_other_names_cannot_be_made(mounted: Mounted) -> None:
    for name in ("results", "histology2", "2022_Q5_No_such_quarter", ".histology"):
        with pytest.raises(OSError, match="Read-only file system"):
            (mounted.path / name).mkdir()
        assert not (mounted.path / name).exists()
    for folder in ("labone", "labone/mouse.1"):  # only the root has them
        assert not (mounted.path / folder / "histology").exists()


def test_a_removed_folder_is_created_again(mounted: Mounted) -> None:
    place = mounted.path / "granger"
    shutil.rmtree(os.readlink(place))
    (place / "again").mkdir()
    assert os.listdir(place) == ["again"]


@pytest.mark.long
def test_what_is_written_outlives_the_mount_and_the_cache(home: Home, folder: Path) -> None:
    mounted = home.mount("--demo", "--demo-data", folder)
    (mounted.path / "bwm_res" / "result.npy").write_bytes(b"months of work")
    read = mounted.path / "labone/mouse.1/2021-03-04/001/notes.md"
    read.read_bytes()
    home.run("cache", "clear", "--cache-dir", _cache_dir(home, mounted))
    assert (mounted.path / "bwm_res" / "result.npy").read_bytes() == b"months of work"
    mounted.umount()
    for where in (home.cache, home.state):
        shutil.rmtree(where)
    again = home.mount("--demo", "--demo-data", folder)
    assert (again.path / "bwm_res" / "result.npy").read_bytes() == b"months of work"


def _cache_dir(home: Home, mounted: Mounted) -> str:
    status = home.status_of(mounted.path)
    assert status is not None
    return str(status["cache_dir"])


def test_two_mounts_of_one_database_have_the_same_folders(home: Home, folder: Path) -> None:
    first, other = home.mount("--demo", "--demo-data", folder), home.mount("--demo", at="other")
    second = home.mount("--demo", "--demo-data", folder, at="second")
    assert os.readlink(first.path / "cache") == os.readlink(second.path / "cache")
    assert os.readlink(first.path / "cache") != os.readlink(other.path / "cache")


def test_names_of_the_users_own(home: Home, folder: Path) -> None:
    mounted = home.mount("--demo", "--demo-data", folder, ONEFS_WRITABLE="my_results, run 2")
    for name in ("my_results", "run 2", "histology"):
        (mounted.path / name / "x").mkdir()
    assert not (mounted.path / "x").exists()


@pytest.mark.parametrize(
    "names", ["a/b", ".", "..", ".hidden", "a.npy", "a,,b", ",", "-rf", "x" * 300, "a\nb"]
)
def test_names_that_no_folder_has_are_refused(home: Home, folder: Path, names: str) -> None:
    said = home.error_of(
        2, "mount", home.root / "mnt", "--demo", "--demo-data", str(folder), ONEFS_WRITABLE=names
    )
    assert said.startswith("ONEFS_WRITABLE: ")
    assert "cannot be the name of a folder to write to" in said


def test_a_lab_of_that_name_wins(home: Home, folder: Path, tmp_path: Path) -> None:
    data = tmp_path / "labs"
    shutil.copytree(folder, data)
    for name in ("histology", TAG):
        shutil.copytree(folder / "labone", data / name)
    mounted = home.mount("--demo", "--demo-data", data)
    for name in ("histology", TAG):
        assert not (mounted.path / name).is_symlink()
        assert (mounted.path / name / "mouse.1").is_dir()
    assert (mounted.path / "cache").is_symlink()


def test_no_server_is_needed(home: Home, servers: Servers) -> None:
    home.mount(**account(servers)).umount()
    servers.stop()
    mounted = home.mount("--offline", **account(servers))
    with within():
        (mounted.path / "histology" / "x").mkdir()
        assert os.listdir(mounted.path / "histology") == ["x"]


def test_a_disk_without_room_does_not_break_the_mount(home: Home, folder: Path) -> None:
    blocked = home.root / "blocked"
    blocked.write_text("a file where the folder should be")
    mounted = home.mount("--demo", "--demo-data", folder, XDG_DATA_HOME=str(blocked))
    with within():
        assert not (mounted.path / "histology").exists()
    assert mounted.log_lines("WARNING", "cannot be made")
    assert (mounted.path / "labone").is_dir()


def test_the_mount_point_may_not_lie_in_them(home: Home, folder: Path) -> None:
    said = home.error_of(
        2,
        "mount",
        home.root / "mnt",
        "--demo",
        "--demo-data",
        folder,
        XDG_DATA_HOME=str(home.root / "mnt"),
    )
    assert "is inside the mount point" in said


_ONE = """
import sys
from pathlib import Path
from one.api import ONE
url, user, password, mount, tag = sys.argv[1:]
ONE.setup(base_url=url, cache_dir=mount, silent=True, make_default=True)
one = ONE(base_url=url, username=user, password=password, cache_dir=mount)
assert str(one.cache_dir) == mount
place = one.cache_dir / "histology" / "ATLAS" / "Needles"
place.mkdir(parents=True, exist_ok=True)
(place / "file.csv").write_text("1,2")
one.load_cache(tag=tag)
print(sorted(each.name for each in (one.cache_dir / tag).iterdir()))
"""


def test_a_folder_that_others_may_have_made_is_refused(home: Home, folder: Path) -> None:
    shared = home.root / "shared"
    shared.mkdir()
    shared.chmod(0o777)  # and not sticky
    said = home.error_of(
        2, "mount", home.root / "mnt", "--demo", "--demo-data", folder, XDG_DATA_HOME=str(shared)
    )
    assert said.startswith("every user may replace the data folder")


def test_one_writes_below_its_cache_folder(home: Home, tmp_path: Path) -> None:
    """What IBL's code does with ``one.cache_dir``, and ONE with the tables of a tag."""
    pytest.importorskip("one.api")
    with Servers(SyntheticLaboratory()) as servers:
        login = servers.login
        mounted = home.mount(**account(servers))
        given = (servers.alyx_url, login.username, login.password, mounted.path, TAG)
        done = run(
            [sys.executable, "-c", _ONE, *given],
            environment=clean_environment(tmp_path),
            cwd=tmp_path,
        )
    assert "sessions.pqt" in done.stdout
    own = Path(os.readlink(mounted.path / "histology"))
    assert (own / "ATLAS" / "Needles" / "file.csv").read_text() == "1,2"
