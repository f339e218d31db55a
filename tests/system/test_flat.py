"""Default datasets without their collections, in real mounts: ``.flat`` and ``mount --flat``."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from onefs.demo.servers import Servers
from onefs.demo.synthetic import SyntheticLaboratory
from tests.laboratories import TwinSessions, account, downloads
from tests.running import Home, Mounted, files_below, run

#: two probes, of which the first was sorted three times; the default is the second sorting
SESSION = "cortexlab/KS023/2019-12-20/001"
EID = "c1d29b25-ac68-45ea-86a8-4ae7ad4352fa"
#: one probe, sorted three times; the default is the last sorting
SINGLE = "cortexlab/KS014/2019-08-29/001"
DEFAULT = f"{SINGLE}/alf/probe00/#2021-07-05#/spikes.times.npy"
TUTORIAL = "mainenlab/clns0730/2018-08-24/001"


@pytest.fixture(scope="module")
def servers() -> Iterator[Servers]:
    with Servers(TwinSessions(SyntheticLaboratory())) as running:
        yield running


@pytest.fixture(scope="module")
def mounted(shared_home: Home, servers: Servers) -> Mounted:
    return shared_home.mount(**account(servers))


@pytest.fixture(scope="module")
def flat(shared_home: Home, servers: Servers, mounted: Mounted) -> Mounted:
    """The same database beside it, flat and nothing else."""
    return shared_home.mount("--flat", at="flat", **account(servers))


def test_it_holds_the_default_datasets_by_their_names(mounted: Mounted, servers: Servers) -> None:
    listed = files_below(mounted.path / SINGLE)
    names = {path.rpartition("/")[2] for path in listed}
    found = mounted.path / ".flat" / SINGLE
    assert set(os.listdir(found)) == names
    assert mounted.xattr("revision", f".flat/{SINGLE}/spikes.times.npy") == "2021-07-05"
    content = (found / "spikes.times.npy").read_bytes()
    servers.clear_requests()
    assert (mounted.path / DEFAULT).read_bytes() == content
    assert downloads(servers) == []  # one file in the cache for both
    assert not (found / "spikes.times.npy").is_symlink()


def test_a_name_that_stands_twice_in_a_session_is_left_out(mounted: Mounted) -> None:
    names = os.listdir(mounted.path / ".flat" / SESSION)
    assert "eye.xyPos.npy" in names
    assert "spikes.times.npy" not in names
    assert not (mounted.path / ".flat" / SESSION / "spikes.times.npy").exists()


def test_what_is_in_it_is_listed_in_it(mounted: Mounted) -> None:
    root = mounted.path / ".flat"
    assert ".flat" not in os.listdir(mounted.path)
    labs = {name for name in os.listdir(mounted.path) if not name.endswith(".pqt")}
    assert set(os.listdir(root)) == labs
    plain = files_below(root / "cortexlab")
    assert plain
    assert {path.count("/") for path in plain} == {3}
    followed = run(["find", "-L", ".", "-type", "f"], cwd=root / "cortexlab").stdout.split()
    assert sorted(followed) == sorted(f"./{path}" for path in plain)
    for name in (".as-of", ".flat", ".rest", "sessions.pqt"):
        assert not os.path.lexists(root / name)


def test_its_files_and_folders_have_inodes_of_their_own(mounted: Mounted, flat: Mounted) -> None:
    for path in ("cortexlab", SINGLE, f"{TUTORIAL}/spikes.times.npy"):
        here, there = (mounted.path / path).stat(), (mounted.path / ".flat" / path).stat()
        assert here.st_ino != there.st_ino
        assert there.st_ino == (flat.path / path).stat().st_ino
        assert (here.st_size, here.st_mtime) == (there.st_size, there.st_mtime)


def test_links_stay_in_it(mounted: Mounted) -> None:
    root = mounted.path / ".flat"
    for alias in (
        f".by-eid/{EID}/eye.xyPos.npy",
        ".by-ref/2019-12-20_1_KS023/eye.xyPos.npy",
        "cortexlab/Subjects/KS023/2019-12-20/1/eye.xyPos.npy",
        ".search/subject=KS023/2019-12-20_1_KS023/eye.xyPos.npy",
    ):
        assert os.path.realpath(root / alias) == str(root / SESSION / "eye.xyPos.npy")


def test_a_mount_of_the_flat_tree_alone(mounted: Mounted, flat: Mounted) -> None:
    assert files_below(flat.path / SESSION) == files_below(mounted.path / ".flat" / SESSION)
    assert sorted(os.listdir(flat.path)) == sorted(os.listdir(mounted.path / ".flat"))
    for name in (".as-of", ".flat", ".rest"):
        assert not os.path.lexists(flat.path / name)
    assert (flat.xattr("flat"), mounted.xattr("flat")) == ("1", "")
    content = (flat.path / SINGLE / "spikes.times.npy").read_bytes()
    assert content == (mounted.path / DEFAULT).read_bytes()
    status = {each["mountpoint"]: each for each in flat.home.status()["mounts"]}
    assert status[str(flat.path)]["flat"] is True
    assert "flat" not in status[str(mounted.path)]


def test_the_variable_and_a_day_make_a_mount_of_both(
    mounted: Mounted, servers: Servers, home: Home
) -> None:
    both = home.mount("--as-of", "2021-01-01", ONEFS_FLAT="1", **account(servers))
    day = mounted.path / ".as-of" / "2021-01-01" / ".flat"
    assert files_below(both.path / SINGLE) == files_below(day / SINGLE)
    for place in (both, mounted):
        inner = f"{SINGLE}/spikes.times.npy"
        path = inner if place is both else f".as-of/2021-01-01/.flat/{inner}"
        assert place.xattr("revision", path) == "2020-08-31"
    one, other = (each / SINGLE / "spikes.times.npy" for each in (both.path, day))
    assert one.read_bytes() == other.read_bytes()
    assert one.stat().st_ino == other.stat().st_ino
    assert one.stat().st_ino != (mounted.path / ".flat" / SINGLE / "spikes.times.npy").stat().st_ino
    assert (both.xattr("as_of"), both.xattr("flat")) == ("2021-01-01", "1")
    both.umount()


def test_commands_take_its_paths(mounted: Mounted, flat: Mounted, servers: Servers) -> None:
    user, home = account(servers), mounted.home
    real = DEFAULT.replace("cortexlab/", "cortexlab/Subjects/")
    for place in (mounted.path / ".flat", flat.path):
        path = place / SINGLE / "spikes.times.npy"
        assert home.run("get", path, variables=user).stdout.strip().endswith(real)
        shown = json.loads(home.run("show", path, "--format", "json", variables=user).stdout)
        assert shown["path"].endswith(real)
        assert shown["state"] == "cached"
        assert "spikes.times" in home.run("list", path, variables=user).stdout.split()
        assert home.run("path", path, variables=user).stdout == f"{mounted.path / SINGLE}\n"
        assert home.run("cache", "list", path, variables=user).stdout.strip().endswith(real)
        home.run("refresh", path, variables=user)
    home.run("cache", "evict", flat.path / SINGLE / "spikes.times.npy", variables=user)
    assert mounted.xattr("state", DEFAULT) == "remote"


@pytest.mark.long
def test_an_old_short_path_names_the_real_one(
    mounted: Mounted, servers: Servers, tmp_path: Path
) -> None:
    user, home = account(servers), mounted.home
    cache = {"ONEFS_CACHE_DIR": str(tmp_path / "cache")}
    single = f"{SINGLE.removesuffix('001')}1/spikes.times.npy"
    for command in ("show", "get", "list", "path"):
        for path in (single, mounted.path / single, mounted.path / SINGLE / "spikes.times.npy"):
            said = home.error_of(1, command, path, **user)
            assert "spikes.times.npy is at alf/probe00/#2021-07-05#/spikes.times.npy" in said
        said = home.error_of(1, command, f"{SESSION}/spikes.times.npy", **user, **cache)
        for probe in ("probe00/#2020-08-31#", "probe01"):
            assert f"alf/{probe}/spikes.times.npy" in said


def test_where_datasets_have_no_collection_that_path_is_the_file(
    mounted: Mounted, servers: Servers
) -> None:
    """The README's ``lab/subject/date/number/dataset.npy``, which the mount lists."""
    user, home = account(servers), mounted.home
    path = f"{TUTORIAL}/spikes.times.npy"
    assert "spikes.times.npy" in os.listdir(mounted.path / TUTORIAL)
    assert "float64" in home.run("show", path, variables=user).stdout
    assert (
        home.run("get", mounted.path / path, variables=user)
        .stdout.strip()
        .endswith("spikes.times.npy")
    )
    assert home.run("path", path, variables=user).stdout == f"{mounted.path / TUTORIAL}\n"


def test_a_name_with_the_datasets_uuid_is_a_link_to_it(mounted: Mounted, servers: Servers) -> None:
    number = mounted.xattr("dataset_id", DEFAULT)
    other = mounted.xattr("dataset_id", f"{SINGLE}/alf/probe00/clusters.depths.npy")
    elsewhere = mounted.xattr("dataset_id", f"{TUTORIAL}/spikes.times.npy")
    real = mounted.path / DEFAULT
    session = mounted.path / SINGLE
    for _ in range(2):  # the kernel has looked each of them up before
        for folder in (session, session / "alf/probe00", real.parent):
            for written in (number, number.upper()):
                name = folder / f"spikes.times.{written}.npy"
                assert os.path.realpath(name) == str(real)
                assert not os.readlink(name).startswith("/")
                assert name.samefile(real)
                assert name.name not in os.listdir(folder)
        for wrong in (
            f"alf/spikes.times.{number}.npy",
            f"spikes.times.{other}.npy",
            f"spikes.times.{elsewhere}.npy",
            f"spikes.times.{number[:-1]}.npy",
            "spikes.times.00000000-0000-4000-8000-000000000000.npy",
        ):
            assert not os.path.lexists(session / wrong)
    tutorial = mounted.path / TUTORIAL
    assert os.readlink(tutorial / f"spikes.times.{elsewhere}.npy") == "spikes.times.npy"
    user = account(servers)
    named = f"{SINGLE}/spikes.times.{number}.npy"
    for path in (named, mounted.path / named):
        shown = json.loads(
            mounted.home.run("show", path, "--format", "json", variables=user).stdout
        )
        assert shown["dataset_id"] == number
        assert (
            mounted.home.run("get", path, variables=user)
            .stdout.strip()
            .endswith("#2021-07-05#/spikes.times.npy")
        )


def test_of_two_sessions_on_one_number_each_has_one_path(
    mounted: Mounted, servers: Servers
) -> None:
    user, home = account(servers), mounted.home
    terms = ("search", "--subject", "flowers")
    eids = home.run(*terms, "--format", "eids", variables=user).stdout.split()
    assert sorted(eids) == list(TwinSessions.eids)
    expected = [home.run("path", eid, variables=user).stdout.strip() for eid in eids]
    assert len(set(expected)) == 2
    assert [os.getxattr(path, "user.onefs.eid").decode() for path in expected] == eids
    assert home.run(*terms, "--format", "paths", variables=user).stdout.split() == expected
    found = json.loads(home.run(*terms, "--format", "json", variables=user).stdout)
    assert [each["path"] for each in found] == expected
    paths = mounted.path / ".search" / "subject=flowers" / ".paths"
    for _ in range(2):
        assert [str(mounted.path / line) for line in paths.read_text().split()] == expected
        assert paths.stat().st_size == len(paths.read_bytes())
    # the search finds only one of them, which has its mark all the same
    alone = ("search", "--subject", "flowers", "--project", "ibl_tutorial", "--limit", "1")
    (eid,) = home.run(*alone, "--format", "eids", variables=user).stdout.split()
    (path,) = home.run(*alone, "--format", "paths", variables=user).stdout.split()
    assert os.getxattr(path, "user.onefs.eid").decode() == eid
