"""A day's revisions in real mounts: ``.as-of/DATE`` and ``mount --as-of DATE``."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from onefs.demo.folder_laboratory import FolderLaboratory
from onefs.demo.servers import Servers
from onefs.demo.synthetic import SyntheticLaboratory
from tests.changing_laboratory import ChangingLaboratory
from tests.laboratories import account, downloads
from tests.running import Home, Mounted, files_below, read_errno, run, wait_until

#: an original, a default of 2020-08-31, and a later revision that is not the default
SESSION = "cortexlab/KS023/2019-12-20/001"
EID = "c1d29b25-ac68-45ea-86a8-4ae7ad4352fa"
PROBE = f"{SESSION}/alf/probe00"
NAME = "spikes.times.npy"
FIRST, SECOND = "2020-08-31", "2021-07-05"
DAYS = {"2020-08-30": "", "2021-07-04": FIRST, "2021-07-05": SECOND, "2999-12-31": SECOND}


@pytest.fixture(scope="module")
def mounted(shared_home: Home, servers: Servers) -> Mounted:
    return shared_home.mount(**account(servers))


@pytest.fixture(scope="module")
def servers() -> Iterator[Servers]:
    with Servers(SyntheticLaboratory()) as running:
        yield running


@pytest.fixture(scope="module")
def as_of(shared_home: Home, servers: Servers, mounted: Mounted) -> Mounted:
    """The same database beside it, as of a day between the revisions."""
    return shared_home.mount("--as-of", "2021-01-01", at="day", **account(servers))


def in_ones_layout(revision: str) -> str:
    return f"{PROBE}/{f'#{revision}#/' if revision else ''}{NAME}"


def test_each_day_has_its_bytes(mounted: Mounted) -> None:
    found = {}
    for day, revision in DAYS.items():
        path = mounted.path / ".as-of" / day / PROBE / NAME
        assert path.read_bytes() == (mounted.path / in_ones_layout(revision)).read_bytes()
        assert path.stat().st_size == len(path.read_bytes())
        assert mounted.xattr("revision", f".as-of/{day}/{PROBE}/{NAME}") == revision
        found[revision] = np.load(path).sum()
    assert len(set(found.values())) == 3


def test_the_root_does_not_list_it(mounted: Mounted) -> None:
    assert ".as-of" not in os.listdir(mounted.path)
    assert os.listdir(mounted.path / ".as-of") == []
    assert sorted(os.listdir(mounted.path / ".as-of" / "2021-01-01")) == sorted(
        os.listdir(mounted.path)
    )
    for name in ("2021-02-30", "yesterday", "2021-07-05.npy"):
        assert not (mounted.path / ".as-of" / name).exists()


def test_walkers_see_each_file_of_a_day_once(mounted: Mounted) -> None:
    day = mounted.path / ".as-of" / "2021-01-01" / SESSION
    here = {path for path in files_below(mounted.path / SESSION) if "#" not in path}
    assert files_below(day) == here
    followed = run(["find", "-L", ".", "-type", "f"], cwd=day).stdout.split()
    assert sorted(followed) == sorted(f"./{path}" for path in here)


def test_diff_finds_what_two_days_differ_in(mounted: Mounted) -> None:
    """It would pass over folders that it takes for one and the same."""
    days = mounted.path / ".as-of"
    one, other, same = (
        days / day / SESSION / "alf" for day in ("2020-08-30", "2021-01-01", "2021-01-02")
    )
    differing = run(["diff", "-rq", one, other], code=1).stdout.splitlines()
    revised = os.listdir(mounted.path / PROBE / f"#{FIRST}#")
    assert len(differing) == len(revised) > 4
    assert run(["diff", "-r", other, same]).stdout == ""


def test_links_stay_in_the_day(mounted: Mounted) -> None:
    day = mounted.path / ".as-of" / "2021-01-01"
    for alias in (
        f".by-eid/{EID}/alf/probe00/{NAME}",
        f"cortexlab/Subjects/KS023/2019-12-20/1/alf/probe00/{NAME}",
        f".search/subject=KS023/2019-12-20_1_KS023/alf/probe00/{NAME}",
        f"{PROBE}/#{FIRST}#/{NAME}",
    ):
        assert os.path.realpath(day / alias) == str(day / PROBE / NAME)
        assert (day / alias).samefile(day / PROBE / NAME)
    assert not (day / PROBE / f"#{SECOND}#").exists()


def test_a_whole_mount_as_of_a_day(mounted: Mounted, as_of: Mounted, servers: Servers) -> None:
    expected = (mounted.path / PROBE / f"#{FIRST}#" / NAME).read_bytes()
    servers.clear_requests()
    assert (as_of.path / PROBE / NAME).read_bytes() == expected
    assert downloads(servers) == []  # one cache for both
    assert as_of.xattr("as_of") == "2021-01-01"
    assert mounted.xattr("as_of") == ""
    assert not (as_of.path / ".as-of").exists()
    assert files_below(as_of.path / SESSION) == files_below(
        mounted.path / ".as-of" / "2021-01-01" / SESSION
    )
    number = (as_of.path / PROBE / NAME).stat().st_ino
    assert number == (mounted.path / ".as-of" / "2021-01-01" / PROBE / NAME).stat().st_ino
    assert number != (mounted.path / in_ones_layout(FIRST)).stat().st_ino


def test_status_says_so(mounted: Mounted, as_of: Mounted) -> None:
    status = as_of.home.status_of(as_of.path)
    assert status is not None
    assert status["as_of"] == "2021-01-01"
    plain = as_of.home.status_of(mounted.path)
    assert plain is not None
    assert "as_of" not in plain
    lines = as_of.home.run("status").stdout.splitlines()
    assert [
        line for line in lines if line.startswith(f"{as_of.path} ") and "as of 2021-01-01" in line
    ]


@pytest.mark.parametrize("day", ["2021-02-30", "yesterday", "", "2021-7-5", "2021-07-05ab"])
def test_what_is_no_day_is_a_usage_error(home: Home, servers: Servers, day: str) -> None:
    said = home.error_of(2, "mount", home.root / "mnt", "--as-of", day, **account(servers))
    assert "--as-of" in said
    assert repr(day) in said
    assert not (home.root / "mnt").exists()


def test_commands_take_a_days_paths(mounted: Mounted, as_of: Mounted, servers: Servers) -> None:
    user, home = account(servers), mounted.home
    for place in (mounted.path / ".as-of" / "2021-01-01", as_of.path):
        path = place / PROBE / "clusters.metrics.pqt"
        if not path.exists():
            path = place / PROBE / "clusters.depths.npy"
        printed = home.run("get", path, variables=user).stdout.strip()
        assert f"/#{FIRST}#/" in printed
        assert Path(printed).read_bytes() == path.read_bytes()
        shown = json.loads(
            home.run("show", place / PROBE / NAME, "--format", "json", variables=user).stdout
        )
        assert f"/#{FIRST}#/" in shown["path"]
        listed = home.run("cache", "list", place / PROBE / NAME, variables=user).stdout
        assert f"#{FIRST}#/{NAME}" in listed
        assert SECOND not in listed
        assert home.run("path", EID, variables=user).stdout.strip() == str(mounted.path / SESSION)
    home.run("cache", "evict", as_of.path / PROBE / NAME, variables=user)
    assert mounted.xattr("state", in_ones_layout(FIRST)) == "remote"
    assert mounted.xattr("state", in_ones_layout(SECOND)) in ("cached", "remote")


def test_offline_a_day_is_what_is_cached(
    shared_home: Home, mounted: Mounted, as_of: Mounted
) -> None:
    name = "clusters.channels.npy"
    first = (mounted.path / PROBE / f"#{FIRST}#" / name).read_bytes()
    run(["find", "."], cwd=as_of.path)
    account_of = {"ONEFS_URL": mounted.xattr("url")}
    away = shared_home.mount("--offline", "--as-of", "2021-01-01", at="away", **account_of)
    assert (away.path / PROBE / name).read_bytes() == first
    assert files_below(away.path / SESSION) == files_below(as_of.path / SESSION)
    away.umount()


@pytest.mark.long
def test_replaced_bytes_are_noticed_at_each_path(home: Home, tmp_path: Path) -> None:
    """The kernel has pages for each path; none may outlive what they were read from."""
    folder = tmp_path / "data" / "lab" / "Subjects" / "m1" / "2021-03-04" / "001" / "alf"
    for revision in ("", "#2021-07-05#"):
        (folder / revision).mkdir(parents=True, exist_ok=True)
        np.save(folder / revision / "a.times.npy", np.arange(500.0) + len(revision))
    source = ChangingLaboratory(FolderLaboratory(tmp_path / "data"))
    with Servers(source) as servers:
        mounted = home.mount(**account(servers))
        session = "lab/m1/2021-03-04/001/alf"
        paths = [
            mounted.path / session / "#2021-07-05#" / "a.times.npy",
            mounted.path / ".as-of" / "2021-07-05" / session / "a.times.npy",
            mounted.path / ".as-of" / "2022-01-01" / session / "a.times.npy",
        ]
        old = {path.read_bytes() for path in paths}
        assert len(old) == 1
        number = mounted.xattr("dataset_id", f".as-of/2021-07-05/{session}/a.times.npy")
        source.replace(number, b"new bytes" * 777)
        home.run("refresh", paths[1])
        for path in paths:
            wait_until(lambda: path.read_bytes() not in old, 5)  # noqa: B023
            assert path.read_bytes() == b"new bytes" * 777
            assert path.stat().st_size == 9 * 777
        original = mounted.path / ".as-of" / "2021-07-04" / session / "a.times.npy"
        assert original.read_bytes() == (folder / "a.times.npy").read_bytes()
        mounted.umount()


def test_refresh_of_a_days_path_clears_a_rejection(home: Home, tmp_path: Path) -> None:
    folder = tmp_path / "data" / "lab" / "Subjects" / "m1" / "2021-03-04" / "001" / "alf" / "#r#"
    folder.mkdir(parents=True)
    folder = folder.rename(folder.with_name("#2021-07-05#"))
    np.save(folder / "a.times.npy", np.arange(500.0))
    right = (folder / "a.times.npy").read_bytes()
    source = ChangingLaboratory(FolderLaboratory(tmp_path / "data"))
    with Servers(source) as servers:
        mounted = home.mount("--as-of", "2021-07-05", **account(servers))
        path = mounted.path / "lab/m1/2021-03-04/001/alf/a.times.npy"
        number = mounted.xattr("dataset_id", "lab/m1/2021-03-04/001/alf/a.times.npy")
        source.replace(number, bytes(len(right)), announce=False)
        assert read_errno(path) == 5
        source.replace(number, right, announce=False)
        assert read_errno(path) == 5
        home.run("refresh", path, variables=account(servers))
        wait_until(lambda: read_errno(path) == 0, 8)
        assert path.read_bytes() == right
        mounted.umount()
