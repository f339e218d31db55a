"""ONE-api on a mount as its cache folder, with its default arguments (issue 5, criterion 3)."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from onefs.demo.http_server import AccessRecord
from onefs.demo.records import DatasetRecord
from onefs.demo.servers import Servers
from onefs.demo.synthetic import SyntheticLaboratory
from tests.laboratories import AlteredLaboratory, account, data_requests
from tests.running import Home, Mounted, clean_environment, run

pytest.importorskip("one.api")

TUTORIAL = "cf264653-2deb-44cb-aa84-89b82507028a"
#: two probes, and a re-sorting of the first one
PROBES = "5030accd-f990-4ed5-9527-6efce51fdc4c"
#: two revisions
REVISIONS = "e0e972cd-cd41-424d-90b8-c08e5dbe06b5"
#: a session whose datasets are in no collection, as those of 2018
BARE = "16260574-edb7-490d-8792-3cc52fb9b3d6"
_BARE_PLACE = "NYU-11/2019-12-27/002/"
TEN = (
    TUTORIAL,
    PROBES,
    REVISIONS,
    BARE,
    "15f7c2cb-e2ff-4391-9391-951f99b6c252",
    "9e7661e5-1d37-4ada-9274-747596a365a3",
    "96e3a6fe-9f94-4b92-8eca-d89afd3027e1",
    "0368a69d-ec87-43a5-bb0d-1c839b1ca8f3",
    "759569b5-d31b-4baf-a00d-9678d382ecb9",
    "e1ce107c-9a6e-44ee-adcb-4ef987a5a8d1",
)
_WORKER = Path(__file__).with_name("one_worker.py")
_SET_UP = """
import sys
from one.api import ONE
url, user, password, mount = sys.argv[1:]
ONE.setup(base_url=url, cache_dir=mount, silent=True, make_default=True)
ONE(base_url=url, username=user, password=password)  # ONE keeps the token
"""


class Bare(AlteredLaboratory):
    """A laboratory with one session whose datasets are in no collection."""

    def datasets(self, eid: str) -> list[DatasetRecord]:
        """See :class:`onefs.demo.records.Source`."""
        found = self._source.datasets(eid)
        return [_without_collection(each) for each in found] if eid == BARE else list(found)

    def file(self, path: str) -> Path | bytes | None:
        """See :class:`onefs.demo.records.Source`."""
        return self._source.file(path.replace(_BARE_PLACE, _BARE_PLACE + "alf/"))


def _without_collection(dataset: DatasetRecord) -> DatasetRecord:
    moved = tuple(
        replace(each, relative_path=each.relative_path.replace("/alf/", "/"))
        for each in dataset.file_records
    )
    return replace(dataset, collection="", file_records=moved)


@pytest.fixture(scope="module")
def servers() -> Iterator[Servers]:
    with Servers(Bare(SyntheticLaboratory())) as running:
        yield running


@pytest.fixture(scope="module")
def mounted(shared_home: Home, servers: Servers) -> Mounted:
    shared_home.run("sync", variables=account(servers))
    return shared_home.mount(**account(servers))


@pytest.fixture(scope="module")
def one_home(servers: Servers, mounted: Mounted, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The home folder of a user who has set up ONE-api for the mount."""
    folder = tmp_path_factory.mktemp("one")
    login = servers.login
    who = (servers.alyx_url, login.username, login.password, mounted.path)
    run([sys.executable, "-c", _SET_UP, *who], environment=clean_environment(folder), cwd=folder)
    return folder


@pytest.mark.long
@pytest.mark.parametrize("way", ["local", "remote"])
def test_every_dataset_of_some_sessions(
    servers: Servers, mounted: Mounted, one_home: Path, way: str, tmp_path: Path
) -> None:
    """``One(cache_dir=MNT, mode='local')`` and ``ONE(cache_dir=MNT)``, two processes at once."""
    eids = (PROBES, REVISIONS, BARE)
    [first, second] = _at_once(way, 2, servers, mounted.path, one_home, eids, tmp_path)
    assert first == second
    _check(servers, first, way, eids)


@pytest.mark.long
@pytest.mark.parametrize("way", ["local", "remote"])
def test_every_dataset_of_ten_sessions_in_eight_processes(
    servers: Servers, mounted: Mounted, one_home: Path, way: str, tmp_path: Path
) -> None:
    found = _at_once(way, 8, servers, mounted.path, one_home, TEN, tmp_path)
    assert all(each == found[0] for each in found)
    _check(servers, found[0], way, TEN)
    agents = sorted({each.agent.partition("/")[0] for each in data_requests(servers)})
    print(f"{way}: {found[0]['sessions']}\nthe data server was asked by {agents}")


def test_the_cache_folder_by_itself(servers: Servers, mounted: Mounted, tmp_path: Path) -> None:
    """Without a mount: what was read through the mount, ONE finds in the folder, byte for byte."""
    for path in mounted.path.joinpath("cortexlab/KS014/2019-08-29/001").rglob("*.*"):
        path.read_bytes()
    servers.clear_requests()
    given = {"cache": _cache(mounted), "eids": [REVISIONS]}
    [alone] = _workers("local", 1, given, tmp_path / "home")
    [over_mount] = _workers("local", 1, {**given, "cache": str(mounted.path)}, tmp_path / "home")
    assert alone == over_mount
    assert alone["sessions"][REVISIONS]["datasets"] == 49
    assert data_requests(servers) == []


def test_the_answers_that_one_keeps_are_each_processs_own(mounted: Mounted) -> None:
    link = mounted.path / ".rest"
    mine = Path(os.readlink(link))
    assert mine.name.partition("-")[0] == str(os.getpid())
    assert mine.stat().st_mode & 0o777 == mine.parent.stat().st_mode & 0o777 == 0o700
    (link / "answer").write_text("kept")
    assert (mine / "answer").read_text() == "kept"
    done = run([sys.executable, "-c", f"import os; print(os.readlink({str(link)!r}))"])
    other = Path(done.stdout.strip())
    assert other.parent == mine.parent
    assert other != mine
    assert other.is_dir()
    shutil.rmtree(mine)
    assert link.is_dir()  # made anew: ONE makes no folder where a link is
    assert not other.exists()  # its process has ended
    assert ".rest" not in os.listdir(mounted.path)


def _check(servers: Servers, found: Mapping[str, Any], way: str, eids: tuple[str, ...]) -> None:
    """What ONE found is what the database says; it downloaded nothing by itself."""
    assert found["mode"] == way
    assert found["search"] == [TUTORIAL]
    assert sorted(found["sessions"]) == sorted(eids)
    for eid, session in found["sessions"].items():
        records = [each for each in Bare(SyntheticLaboratory()).datasets(eid) if _is_alf(each)]
        assert session["datasets"] == len(records)
        assert session["bytes"] == sum(each.file_size or 0 for each in records)
        assert session["collections"] == sorted({each.collection for each in records})
    # ONE warns of revisions only: no file differs from its tables
    assert [line for line in found["told"] if not line.startswith("Multiple revisions")] == []
    assert {_agent(each) for each in data_requests(servers)} <= {"onefs"}
    if way == "local":
        assert {_agent(each) for each in servers.requests} <= {"onefs"}


def _is_alf(dataset: DatasetRecord) -> bool:
    return not dataset.name.endswith(".md")


def _agent(access: AccessRecord) -> str:
    return access.agent.partition("/")[0]


def _at_once(
    way: str,
    count: int,
    servers: Servers,
    mount: Path,
    home: Path,
    eids: tuple[str, ...],
    traces: Path,
) -> list[dict[str, Any]]:
    """What several processes found; none of them was told that the mount is read-only."""
    servers.clear_requests()
    found = _workers(way, count, {"cache": str(mount), "eids": eids}, home, traces)
    refused = [line for line in _traced(traces) if "EROFS" in line]
    assert refused == []
    if shutil.which("strace"):
        assert any(f'"{mount}/' in line for line in _traced(traces))
    return found


def _workers(
    way: str, count: int, given: dict[str, Any], home: Path, traces: Path | None = None
) -> list[dict[str, Any]]:
    command: list[str | Path] = [sys.executable, _WORKER, way]
    if traces is not None and shutil.which("strace"):
        options = ["-f", "--seccomp-bpf", "-e", "trace=%file", "-o"]
        commands = [["strace", *options, traces / f"{n}.trace", *command] for n in range(count)]
    else:
        commands = [command] * count
    home.mkdir(exist_ok=True)
    running = [
        subprocess.Popen(
            each,
            env=clean_environment(home),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for each in commands
    ]
    try:
        for each in running:
            assert each.stdin is not None
            each.stdin.write(json.dumps(given))
            each.stdin.close()
            each.stdin = None
        said = [each.communicate(timeout=500) for each in running]
    finally:
        for each in running:
            each.kill()
    assert [each.returncode for each in running] == [0] * count, said
    return [json.loads(out.splitlines()[-1]) for out, _ in said]


def _traced(folder: Path) -> Iterator[str]:
    for path in folder.glob("*.trace"):
        yield from path.read_text(errors="replace").splitlines()


def _cache(mounted: Mounted) -> str:
    status = mounted.home.status_of(mounted.path)
    assert status is not None
    return str(status["cache_dir"])
