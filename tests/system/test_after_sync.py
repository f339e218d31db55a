"""After a sync: what is registered later is found, whatever its date, and costs one request."""

from __future__ import annotations

import errno
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from onefs.demo.folder_laboratory import RESCAN_SECONDS
from onefs.demo.servers import Servers
from tests.laboratories import account, alyx_requests
from tests.registering_laboratory import RegisteringLaboratory
from tests.running import Home, Mounted

PLACES = [("labone", f"mouse{number:04d}", "2022-01-05", 1) for number in range(1000)]
FIRST = "labone/mouse0000"
#: a session of the embedded laboratory
TUTORIAL = "mainenlab/clns0730/2018-08-24/001"


@pytest.fixture
def source() -> RegisteringLaboratory:
    return RegisteringLaboratory(*PLACES, ("labtwo", "rat", "2022-01-05", 1))


@pytest.fixture
def servers(source: RegisteringLaboratory) -> Iterator[Servers]:
    with Servers(source) as running:
        yield running


@pytest.fixture
def mounted(home: Home, servers: Servers) -> Mounted:
    """A mount over cache tables, from which nothing was asked yet."""
    found = home.mount("--sync", **account(servers))
    servers.clear_requests()
    return found


def asked(servers: Servers) -> list[str]:
    """The requests for sessions; those for datasets, once for each session, do not count."""
    return [each.path for each in alyx_requests(servers) if not each.path.startswith("/datasets")]


def names(path: Path) -> list[str]:
    return sorted(each.name for each in path.iterdir())


def errno_of(path: Path) -> int:
    try:
        path.stat()
    except OSError as error:
        return error.errno or -1
    return 0


def test_a_session_of_an_old_date_is_found(
    mounted: Mounted, servers: Servers, source: RegisteringLaboratory
) -> None:
    source.register("labone", "mouse0000", "2019-03-04", 2)
    found = mounted.path / FIRST / "2019-03-04"
    assert names(found) == ["002"]
    assert names(found / "002") == ["a.values.npy"]
    assert (mounted.path / FIRST / "2019-03-04" / "2").is_dir(), "its alias"
    assert names(mounted.path / FIRST) == ["2019-03-04", "2022-01-05"]
    assert len(asked(servers)) == 1


def test_a_number_of_a_date_that_the_kernel_knows_is_found(
    mounted: Mounted, servers: Servers, source: RegisteringLaboratory
) -> None:
    assert names(mounted.path / FIRST / "2022-01-05") == ["001"]
    source.register("labone", "mouse0001", "2022-01-05", 2)
    assert (mounted.path / "labone/mouse0001/2022-01-05/002").is_dir()


def test_a_session_that_was_changed_is_where_it_is_now(
    mounted: Mounted, source: RegisteringLaboratory
) -> None:
    eid = source.register(*PLACES[0])
    source.change(eid, number=7)
    assert (mounted.path / FIRST / "2022-01-05" / "007").is_dir()
    assert names(mounted.path / FIRST / "2022-01-05") == ["007"]


def test_a_new_subject_and_a_new_lab_are_found(
    mounted: Mounted, source: RegisteringLaboratory
) -> None:
    source.register("labone", "newmouse", "2019-03-04", 1)
    source.register("labnew", "cat", "2019-03-04", 1)
    assert (mounted.path / "labone/newmouse/2019-03-04/001/a.values.npy").is_file()
    assert (mounted.path / "labnew/cat/2019-03-04/001/a.values.npy").is_file()


def test_a_date_of_a_thousand_subjects_costs_one_request(
    mounted: Mounted, servers: Servers, source: RegisteringLaboratory
) -> None:
    source.register("labone", "mouse0500", "2022-01-06", 1)
    command = f"ls -d {mounted.path}/labone/*/2022-01-06"
    for _ in range(2):
        done = subprocess.run(
            ["sh", "-c", command], capture_output=True, text=True, timeout=90, check=True
        )
        assert done.stdout.splitlines() == [f"{mounted.path}/labone/mouse0500/2022-01-06"]
    assert len(asked(servers)) == 1


def test_a_session_that_comes_into_a_folder_is_found(home: Home, tmp_path: Path) -> None:
    data = tmp_path / "data"
    lab = data / "labone/Subjects/mouse"
    for session in ("2022-01-05/001", "2019-03-04/002"):
        if session.startswith("2019"):
            mounted = home.mount("--demo", "--demo-data", data, "--sync")
        (lab / session).mkdir(parents=True)
        (lab / session / "a.values.bin").write_bytes(session.encode())
    time.sleep(2 * RESCAN_SECONDS)  # seconds for which the server's last look at its folder counts
    found = mounted.path / "labone/mouse/2019-03-04/002/a.values.bin"
    assert found.read_bytes() == b"2019-03-04/002"


def test_names_that_cannot_be_ask_nothing(mounted: Mounted, servers: Servers) -> None:
    for name in ("2022-13-45", "2022-02-30", "20220106", ".git", "notes.txt"):
        assert errno_of(mounted.path / FIRST / name) == errno.ENOENT
    for name in ("one", "1.5", ".git", "99999999999"):
        assert errno_of(mounted.path / FIRST / "2022-01-05" / name) == errno.ENOENT
    assert not asked(servers)


def test_offline_known_listings_stay(home: Home, mounted: Mounted, servers: Servers) -> None:
    mounted.umount()
    servers.stop()
    again = home.mount("--offline", **account(servers))
    assert errno_of(again.path / FIRST / "2019-03-04") == errno.ENOENT
    assert names(again.path / FIRST) == ["2022-01-05"]


def test_a_server_that_is_away_is_not_absence(mounted: Mounted, servers: Servers) -> None:
    servers.alyx.stop()
    for path in (f"{FIRST}/2019-03-04", f"{FIRST}/2022-01-05/003", "labone/newmouse"):
        assert errno_of(mounted.path / path) == errno.EHOSTUNREACH, path
    assert names(mounted.path / FIRST) == ["2022-01-05"]


def test_listings_from_alyx_stay_while_the_server_is_away(
    mounted: Mounted, servers: Servers
) -> None:
    assert errno_of(mounted.path / FIRST / "2019-03-04") == errno.ENOENT
    servers.alyx.stop()
    assert errno_of(mounted.path / FIRST / "2019-03-05") == errno.ENOENT


def test_what_another_process_has_had_listed_is_read(home: Home) -> None:
    """The mount's own listing of it is still the tables'."""
    path = home.mount("--demo", "--sync").path / TUTORIAL / "spikes.times.npy"
    assert path.name in names(path.parent)
    home.run("show", path)
    assert len(path.read_bytes()) == path.stat().st_size


def test_a_text_that_has_grown_is_read_whole(home: Home) -> None:
    """Though the kernel still has the size that it had before."""
    folder = home.mount("--demo", "--sync").path / TUTORIAL
    text = folder / ".datasets.tsv"
    before = text.read_text()
    (folder / "spikes.times.npy").read_bytes()  # has Alyx asked for what the tables lack
    after = text.read_text()
    assert len(after) > len(before)
    assert after.endswith("\n")
    rows = [line.split("\t") for line in after.splitlines()]
    assert all(len(row) == 7 and row[1] for row in rows)
