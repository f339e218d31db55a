"""``onefs sync`` and ``onefs mount --sync``, run as users run them."""

from __future__ import annotations

import datetime
import hashlib
import importlib
import os
import subprocess
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from onefs.alyx.client import AlyxClient
from onefs.alyx.tokens import FixedToken
from onefs.catalogue.storage.catalogue_file import DATASET_TYPES_KEY
from onefs.catalogue.storage.overlay import OverlayDatabase
from onefs.catalogue.sync import fetch_dataset_types
from onefs.demo.folder_laboratory import FolderLaboratory
from onefs.demo.rest import cache_tables
from onefs.demo.rest.database import DemoDatabase
from onefs.demo.rest.errors import ApiError
from onefs.demo.servers import Servers
from onefs.demo.synthetic import SyntheticLaboratory
from onefs.errors import OnefsError
from onefs.http.transport import Transport
from tests.cache_tables.table_files import (
    OLD,
    dataset,
    session,
    write,
)
from tests.changing_laboratory import ChangingLaboratory
from tests.demo.laboratory_folder import path_in_session
from tests.laboratories import AlteredLaboratory, FailingDatasets, account, alyx_requests, downloads
from tests.recordings import results
from tests.running import ONEFS, Home, files_below, run
from tests.scripted_server import ScriptedServer, answer_json, refusing_url

TUTORIAL = "cf264653-2deb-44cb-aa84-89b82507028a"
HERE = "mainenlab/clns0730/2018-08-24/001"
THERE = "mainenlab/clns0730/2018-08-24/002"
TABLES = {"datasets.pqt", "sessions.pqt"}


@pytest.fixture(scope="module")
def laboratory() -> SyntheticLaboratory:
    return SyntheticLaboratory()


@pytest.fixture
def servers(laboratory: SyntheticLaboratory) -> Iterator[Servers]:
    with Servers(laboratory) as running:
        yield running


@pytest.fixture
def home(tmp_path: Path) -> Iterator[Home]:
    with Home(tmp_path) as made:
        yield made


def test_from_the_server(home: Home, servers: Servers, laboratory: SyntheticLaboratory) -> None:
    who = account(servers)
    done = home.run("sync", variables=who)
    sessions = laboratory.sessions()
    datasets = sum(len(laboratory.datasets(each.eid)) for each in sessions)
    assert f"{len(sessions)} sessions and {datasets:,} datasets" in done.stdout
    assert "loaded in" in done.stdout
    assert done.stderr == ""
    asked = [each.path.partition("?")[0] for each in alyx_requests(servers)]
    lists = ["/labs", "/data-repository", "/subjects", "/dataset-types"]
    assert asked == ["/cache/info/", "/cache.zip", *lists]
    assert home.run("sync", variables=who).stdout == ("The server has no newer tables.\n")
    assert [each.path for each in alyx_requests(servers)].count("/cache.zip") == 1


def test_a_walk_after_mount_sync_costs_no_request(home: Home, servers: Servers, fuse: None) -> None:
    mounted = home.mount("--sync", **account(servers))
    servers.clear_requests()
    found = files_below(mounted.path)
    assert len(found) > 1000
    run(["ls", "-lR", "."], cwd=mounted.path)
    assert servers.requests == []
    path = next(path for path in sorted(found) if path.endswith(".npy"))
    assert (mounted.path / path).read_bytes()[:6] == b"\x93NUMPY"
    assert [each.path.partition("?")[0] for each in alyx_requests(servers)] == ["/datasets"]


@pytest.mark.long  # the test above also walks through a mount after a sync
def test_mount_sync_of_the_embedded_laboratory(home: Home, fuse: None) -> None:
    mounted = home.mount("--demo", "--sync")
    assert mounted.log_lines("sessions and", "datasets loaded")
    spikes = mounted.path / "mainenlab/clns0730/2018-08-24/001/spikes.times.npy"
    content = spikes.read_bytes()
    assert spikes.stat().st_size == len(content)
    assert hashlib.md5(content).hexdigest() == mounted.xattr(
        "md5", str(spikes.relative_to(mounted.path))
    )


def test_a_mount_continues_where_the_server_has_no_tables(
    home: Home, servers: Servers, fuse: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cache_tables, "importlib", SimpleNamespace(import_module=_no_pyarrow))
    mounted = home.mount("--sync", **account(servers))
    assert "mainenlab" in os.listdir(mounted.path)
    [line] = mounted.log_lines("has no cache tables")
    assert "the mount starts without" in line


@pytest.fixture
def damaged(monkeypatch: pytest.MonkeyPatch) -> None:
    """Flip a byte in the middle of the archive that the server sends."""
    whole = cache_tables.CacheTables.zip

    def flipped(tables: cache_tables.CacheTables, db: DemoDatabase) -> bytes:
        content = whole(tables, db)
        at = len(content) // 2
        return content[:at] + bytes([content[at] ^ 0xFF]) + content[at + 1 :]

    monkeypatch.setattr(cache_tables.CacheTables, "zip", flipped)


def test_a_damaged_archive_is_one_sentence_and_leaves_nothing(
    home: Home, servers: Servers, damaged: None
) -> None:
    said = home.error_of(1, "sync", **account(servers))
    assert f"{servers.alyx_url}/cache.zip" in said
    assert [path.name for path in home.folder.rglob("tables*")] == ["tables.lock"]


def test_a_mount_continues_where_the_archive_is_damaged(
    home: Home, servers: Servers, fuse: None, damaged: None
) -> None:
    mounted = home.mount("--sync", **account(servers))
    assert "mainenlab" in os.listdir(mounted.path)
    [line] = mounted.log_lines("cache.zip")
    assert "the mount starts without new cache tables" in line
    assert "Traceback" not in home.log()


def test_a_server_without_tables_is_one_sentence(home: Home) -> None:
    nothing = answer_json({"detail": "Not found.", "status_code": 404}, 404)
    labs = answer_json({"count": 0, "next": None, "previous": None, "results": []})
    with ScriptedServer({"/cache/info/": nothing, "/labs": labs}) as server:
        who = {"ONEFS_URL": server.url, "ONEFS_TOKEN": "t" * 40, "ONEFS_USERNAME": "u"}
        assert home.error_of(1, "sync", **who) == f"{server.url} has no cache tables"


def test_the_tables_of_2021_offline(home: Home, fuse: None) -> None:
    """All 693 datasets, without a server or an account."""
    with refusing_url() as url:
        done = home.run("sync", "--tables", OLD, "--url", url)
        assert "26 sessions and 693 datasets as of 2021-05-13 20:38" in done.stdout
        assert len(done.stderr.splitlines()) == 33
        mounted = home.mount("--offline", "--url", url)
        found = files_below(mounted.path)
        assert {path for path in found if "/" not in path} == TABLES
        assert len(found - TABLES) == 693
        assert not any(".." in path for path in found)
        link = mounted.path / ".by-eid" / TUTORIAL
        assert os.readlink(link) == f"../{THERE}"
        assert len(files_below(link.resolve())) == 28
        listed = run(["ls", "-lR", "."], cwd=mounted.path / "cortexlab", code=1)
        assert "Traceback" not in home.log()
        assert "No route to host" in listed.stderr  # unknown sizes are not shown as 0


@pytest.mark.parametrize("name", ["garbage.pqt", "sessions.pqt", "cache.zip", "nothing"])
def test_a_file_that_is_not_a_table_is_named(home: Home, tmp_path: Path, name: str) -> None:
    given = tmp_path / name
    if name != "nothing":
        given.write_bytes(b"PK\3\4 garbage" * 100)
    (tmp_path / "datasets.pqt").write_bytes(b"garbage")
    said = home.error_of(2, "sync", "--tables", given, "--url", "http://localhost:9")
    assert str(given) in said


def test_tables_of_another_database_are_refused(home: Home, tmp_path: Path) -> None:
    url = ("--url", "http://localhost:9")
    home.run("sync", "--tables", OLD, *url)
    other = write(tmp_path / "other", [session(1)], [dataset(1, 1)], origin="another")
    said = home.error_of(2, "sync", "--tables", other, *url)
    assert f"{other}/sessions.pqt is of another database ('another')" in said


def test_without_pyarrow_one_sentence_says_what_to_do(home: Home, tmp_path: Path) -> None:
    (tmp_path / "shadow" / "pyarrow").mkdir(parents=True)
    (tmp_path / "shadow" / "pyarrow" / "__init__.py").write_text("raise ImportError('none')")
    path = f"{tmp_path / 'shadow'}:{os.environ.get('PYTHONPATH', '')}"
    for command in (
        ["sync"],
        ["sync", "--tables", str(OLD)],
        ["mount", "--sync", str(tmp_path / "mnt")],
    ):
        said = home.error_of(2, *command, "--url", "http://localhost:9", PYTHONPATH=path)
        assert "pip install 'onefs[tables]'" in said


def test_a_mount_is_not_disturbed_by_a_sync_and_sees_its_end(
    home: Home, servers: Servers, fuse: None
) -> None:
    who = account(servers)
    mounted = home.mount(**who)
    before = files_below(mounted.path / "mainenlab")
    sync = subprocess.Popen([ONEFS, "sync"], env=home.environment | who, stdout=subprocess.PIPE)
    try:
        while sync.poll() is None:
            assert files_below(mounted.path / "mainenlab") == before
    finally:
        sync.kill()
        assert sync.wait(60) == 0
    assert files_below(mounted.path / "mainenlab") == before


@pytest.fixture
def sizeless(laboratory: SyntheticLaboratory) -> Iterator[Servers]:
    """Servers whose Alyx does not know the sizes of one session's datasets."""
    source = ChangingLaboratory(laboratory)
    source.change = lambda row: replace(row, file_size=None) if row.eid == TUTORIAL else row
    with Servers(source) as running:
        yield running


def test_sizes_are_asked_for_in_bulk(
    home: Home, sizeless: Servers, laboratory: SyntheticLaboratory, fuse: None
) -> None:
    """Each size is asked for once, below a path or everywhere.

    Sizes of datasets that are known only from tables are asked for too.
    """
    who = account(sizeless)
    home.run("sync", variables=who)
    before = len(alyx_requests(sizeless))
    path = "mainenlab/Subjects/clns0730/2018-08-24/1/spikes.times.npy"
    done = home.run("sync", "--sizes", path, variables=who)
    assert done.stdout.splitlines()[-1] == "1 size was fetched from the file servers."
    assert len(downloads(sizeless)) == 1
    done = home.run("sync", "--sizes", variables=who)
    assert done.stdout.splitlines()[-1] == "28 sizes were fetched from the file servers."
    assert sum(each.bytes for each in downloads(sizeless)) == 29  # one byte for each size
    assert [each.path for each in alyx_requests(sizeless)[before:]].count("/cache.zip") == 0
    mounted = home.mount(**who)
    session = mounted.path / "mainenlab/clns0730/2018-08-24/001"
    known = {path_in_session(each): each.file_size for each in laboratory.datasets(TUTORIAL)}
    assert {path: (session / path).stat().st_size for path in files_below(session)} == known
    assert len(downloads(sizeless)) == 29


def test_one_tables_get_the_sizes_that_were_asked_for(
    home: Home, sizeless: Servers, laboratory: SyntheticLaboratory
) -> None:
    """The sizes are in the tables in the cache folder."""
    pd = pytest.importorskip("pandas")
    who = account(sizeless)
    said = home.run("sync", variables=who).stdout.splitlines()[-1]
    table = (
        Path(said.removeprefix("ONE-api finds the tables in ").partition(",")[0]) / "datasets.pqt"
    )
    assert pd.read_parquet(table).loc[TUTORIAL]["file_size"].isna().all()
    home.run("sync", "--sizes", "mainenlab/clns0730", variables=who)
    found = pd.read_parquet(table)["file_size"]
    assert str(found.dtype) == "UInt64"  # no size is unknown any more
    known = {each.id: each.file_size for each in laboratory.datasets(TUTORIAL)}
    assert len(found.loc[TUTORIAL]) == 29
    assert found.loc[TUTORIAL].to_dict().items() <= known.items()
    before = table.stat()
    home.run("sync", "--sizes", "mainenlab/clns0730", variables=who)
    assert table.stat().st_ino == before.st_ino  # no new sizes: nothing is written


def test_sizes_that_cannot_be_fetched_are_an_error(home: Home, sizeless: Servers) -> None:
    who = account(sizeless)
    home.run("sync", variables=who)
    sizeless.data.stop()
    done = home.run("sync", "--sizes", code=1, variables=who)
    assert done.stdout.splitlines()[-1] == "0 sizes were fetched from the file servers."
    assert "29 sizes could not be fetched, the first error: " in done.stderr
    done = home.run("sync", "--sizes", "nolab", code=1, variables=who)
    assert done.stderr.startswith("onefs: there is no folder nolab: ")


class OtherRepositoryPaths(AlteredLaboratory):
    """A laboratory whose repository paths do not end in ``<lab>/Subjects``, as ONE expects."""

    def tables(self) -> dict[str, Any]:
        """See :class:`onefs.demo.records.Source`."""
        found = dict(self._source.tables())
        found["data-repository"] = [
            {**row, "data_url": row["data_url"] and row["data_url"].replace("/Subjects/", "/mice/")}
            for row in found["data-repository"]
        ]
        return found

    def file(self, path: str) -> Path | bytes | None:
        """See :class:`onefs.demo.records.Source`."""
        return self._source.file(path.replace("/mice/", "/Subjects/"))


def test_after_a_sync_files_are_fetched_by_type_and_from_wherever_they_are(
    home: Home, laboratory: SyntheticLaboratory
) -> None:
    """Alyx returns types and replicas, with one request per session known only from tables."""
    with Servers(OtherRepositoryPaths(laboratory)) as servers:
        who = account(servers)
        home.run("sync", variables=who)
        servers.clear_requests()
        [path] = home.run("get", TUTORIAL, "--type", "clusters.d*", variables=who).stdout.split()
        assert path.endswith("/001/clusters.depths.npy")
        fetched = home.run("get", HERE, "mainenlab/clns0730", variables=who)
        assert len(fetched.stdout.split()) == 29
        asked = [each.path for each in alyx_requests(servers)]
        assert len([each for each in asked if each.startswith("/datasets")]) == 1


def dataset_requests(servers: Servers) -> list[str]:
    """Return the requests for datasets."""
    asked = [each.path for each in alyx_requests(servers)]
    return [path for path in asked if path.startswith("/datasets")]


def test_many_sessions_are_asked_for_together_and_only_where_it_matters(
    home: Home, servers: Servers
) -> None:
    """A dry run uses only the tables, and asks Alyx only for types."""
    who = account(servers)
    home.run("sync", variables=who)
    servers.clear_requests()
    [said] = home.run("get", "*", "--dry-run", variables=who).stderr.splitlines()
    assert "files to fetch" in said
    assert dataset_requests(servers) == []
    done = home.run("get", "*", "--dry-run", "--type", "clusters.depths", variables=who)
    asking, said = done.stderr.splitlines()
    count = int(asking.removeprefix("asking Alyx for ").removesuffix(" sessions ..."))
    assert count >= 40
    assert f"{len(done.stdout.split())} files to fetch" in said
    assert len(dataset_requests(servers)) <= 10
    servers.clear_requests()
    again = home.run("get", "*", "--dry-run", "--type", "clusters.depths", variables=who)
    assert (again.stdout, again.stderr.splitlines()) == (done.stdout, [said])
    assert dataset_requests(servers) == []


@pytest.mark.parametrize(
    "trouble", [ApiError(500, {"detail": "no"}), ApiError(403, {"detail": "Invalid token."})]
)
def test_sessions_that_alyx_cannot_answer_for_are_fetched_by_the_tables(
    home: Home, laboratory: SyntheticLaboratory, trouble: ApiError
) -> None:
    """There are a few requests, not one for each session. The last line counts the sessions."""
    source = FailingDatasets(laboratory)
    with Servers(source) as servers:
        who = account(servers)
        home.run("sync", variables=who)
        source.error = trouble
        servers.clear_requests()
        done = home.run("get", "*", "--type", "clusters.depths", variables=who)
        asked = dataset_requests(servers)
    assert len(done.stdout.split()) > 1
    lines = done.stderr.splitlines()
    assert [each for each in lines if f"{len(done.stdout.split())} files fetched" in each]
    (line,) = [each for each in lines if " sessions could not be requested from Alyx (" in each]
    count, reason = line.split(" sessions could not be requested from Alyx (")
    assert int(count.removeprefix("onefs: ")) >= 40
    assert reason.endswith("): the dataset types and folders in the cache tables are used")
    assert len(asked) < 16


def test_a_session_deleted_from_alyx_does_not_stop_the_others(
    home: Home, servers: Servers, tmp_path: Path
) -> None:
    """The tables still have the session: its files fail, files of other sessions are fetched."""
    at = {"lab": "mainenlab", "subject": "clns0730"}
    rows = [session(1, id=TUTORIAL, date=datetime.date(2018, 8, 24), **at), session(2, **at)]
    told = [dataset(1, 1, "alf/licks.times.npy", eid=TUTORIAL), dataset(2, 2, "alf/gone.times.npy")]
    who = account(servers)
    home.run(
        "sync",
        "--tables",
        write(tmp_path / "told", rows, told, created="2999-01-01"),
        variables=who,
    )
    done = home.run("get", "mainenlab/clns0730", variables=who, code=1)
    assert len(done.stdout.split()) == 29
    assert "1 failed" in done.stderr
    [line] = [line for line in done.stderr.splitlines() if "gone.times.npy: " in line]
    assert line.startswith("onefs: mainenlab/clns0730/2020-01-02/001/")


def test_offline_commands_use_the_tables(
    home: Home, laboratory: SyntheticLaboratory, tmp_path: Path
) -> None:
    """The repositories are unknown: there is no traceback, and no type is lost."""
    rows = [session(1, id=TUTORIAL, lab="mainenlab", subject="clns0730")]
    told = [dataset(1, 1, "alf/spikes.times.npy", eid=TUTORIAL)]
    url = ("--url", "http://127.0.0.1:1")
    home.run("sync", "--tables", write(tmp_path / "told", rows, told), *url)
    file = "mainenlab/clns0730/2020-01-01/001/alf/spikes.times.npy"
    assert home.run("list", TUTORIAL, "--offline", *url).stdout == "spikes.times\n"
    details = home.run("list", TUTORIAL, "--details", "--offline", *url)
    assert details.stdout.splitlines()[1].split()[0] == "spikes.times"
    assert "the types were guessed from file names" in details.stderr
    assert "remote" in home.run("show", file, "--offline", *url).stdout
    assert home.run("list", "--labs", "--offline", *url).stdout == "mainenlab\n"
    assert home.run("list", "--subjects", "--offline", *url).stdout == "clns0730\n"
    assert home.run("list", "--dataset-types", "--offline", *url).stdout == "spikes.times\n"
    for type_ in ([], ["--type", "spikes.times"]):
        done = home.run("get", TUTORIAL, *type_, "--offline", *url, code=4)
        assert f"{file}: " in done.stderr
    assert "no dataset of type" in home.run(
        "get", TUTORIAL, "--type", "licks.times", "--offline", *url, code=1
    ).stderr  # fmt: skip


def _no_pyarrow(name: str) -> object:
    if name.startswith("pyarrow"):
        raise ModuleNotFoundError(name)
    return importlib.import_module(name)


class LaboratoryWithTypePatterns(AlteredLaboratory):
    """A laboratory from a folder. Its dataset types have the file name patterns of a real Alyx."""

    def tables(self) -> dict[str, Any]:
        """See :class:`onefs.demo.records.Source`."""
        found = results("other/dataset_types.json")
        return {**self._source.tables(), "dataset-types": found}


def test_types_offline_are_by_the_patterns_of_alyx(home: Home, tmp_path: Path) -> None:
    """A sync loads the patterns. Without them these types cannot be derived from file names."""
    folder = tmp_path / "data" / "labone" / "Subjects" / "mouse" / "2021-03-04" / "001"
    for name in ("_spikeglx_ephysData_g0_t0.imec0.ap.cbin", "_iblrig_leftCamera.raw.mp4"):
        (folder / "raw").mkdir(parents=True, exist_ok=True)
        (folder / "raw" / name).write_bytes(b"data")
    with Servers(
        LaboratoryWithTypePatterns(FolderLaboratory(tmp_path / "data", tmp_path / "digests"))
    ) as servers:
        who = account(servers)
        home.run("sync", variables=who)
        [row] = home.run("search", "--subject", "mouse", variables=who).stdout.splitlines()[1:]
    eid = "2021-03-04_1_mouse"
    assert eid in row
    types = {"_iblrig_Camera.raw", "ephysData.raw.ap"}
    assert set(home.run("list", eid, "--offline", variables=who).stdout.split()) == types
    details = home.run("list", eid, "--details", "--offline", variables=who).stdout
    assert {line.split()[0] for line in details.splitlines()[1:]} == types
    for name in types:
        found = home.run("search", "--dataset-type", name, "--offline", variables=who).stdout
        assert eid in found.splitlines()[1]
    known = home.run("list", "--dataset-types", "--offline", variables=who).stdout.splitlines()
    assert known == sorted(row["name"] for row in results("other/dataset_types.json"))


def test_type_patterns_stay_where_alyx_sends_none(tmp_path: Path) -> None:
    database = OverlayDatabase(tmp_path / "catalogue.sqlite")
    database.store_answer(DATASET_TYPES_KEY, '[{"name": "c.d", "filename_pattern": "a*"}]', 1.0)
    with ScriptedServer({"/dataset-types": answer_json({"detail": "Not found."}, 404)}) as server:
        alyx = AlyxClient(Transport(), server.url, FixedToken("t"), 10.0)
        assert isinstance(fetch_dataset_types(alyx, database), OnefsError)
    assert database.guess_types(["a.b.npy"]) == {"a.b.npy": "c.d"}
    database.close()
