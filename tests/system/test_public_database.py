"""The public database without an account: ``--public`` over a bucket, and no Alyx anywhere."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import sys
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from onefs.access import Access
from onefs.cache.verify import ContentVerdict
from onefs.cli.cached_datasets import clear_rejections
from onefs.config.settings import Settings
from onefs.demo.bucket import PublicBucket
from onefs.demo.folder_laboratory import FolderLaboratory
from onefs.demo.public_servers import PublicServers
from onefs.demo.records import SessionRecord, Source
from onefs.demo.servers import Servers
from onefs.errors import UsageError
from onefs.lowlevel.forking import hold_lock_file
from onefs.lowlevel.locks import lock_file
from onefs.public_tables import TablesInBackground, load_tables
from tests.laboratories import SMALL, AlteredLaboratory, account, small_file
from tests.public_database import serve_public, variables_of
from tests.running import BUSY_SECONDS, Home, read_errno, run, wait_until

pytest.importorskip("pyarrow")

FIRST = SMALL[0]


@pytest.fixture(scope="module")
def laboratory(folder: Path) -> FolderLaboratory:
    return FolderLaboratory(folder)


@pytest.fixture
def public(laboratory: FolderLaboratory) -> Iterator[PublicServers]:
    with serve_public(laboratory) as servers:
        yield servers


@pytest.fixture
def user(tmp_path: Path, public: PublicServers) -> Iterator[Home]:
    """A home folder whose ``--public`` means these servers."""
    with Home(tmp_path, **variables_of(public)) as made:
        yield made


def settings_in(folder: Path, public: PublicServers) -> Settings:
    return Settings(
        url=public.bucket_url,
        username="",
        profile="",
        cache_dir=folder / "cache",
        state_dir=folder / "state",
        public=True,
    )


def key_of(laboratory: FolderLaboratory, path: str) -> str:
    """Return the key of a dataset in the bucket, by its path in the mount."""
    lab, rest = path.split("/", 1)
    prefix = f"data/{lab}/Subjects/{rest.removesuffix('npy')}"
    (found,) = PublicBucket(laboratory).objects(prefix)
    return found.key


def test_a_mount_lists_and_reads_without_alyx(
    user: Home, public: PublicServers, folder: Path
) -> None:
    mount = user.mount("--public")
    assert {"labone", "labtwo"} <= set(os.listdir(mount.path))
    original = small_file(folder, FIRST).read_bytes()
    assert (mount.path / FIRST).read_bytes() == original
    assert mount.xattr("state", FIRST) == "cached"
    assert mount.xattr("md5", FIRST) == hashlib.md5(original).hexdigest()
    assert mount.xattr("offline") == "0"
    # two requests for the tables, one for the file; nothing is written that could be a secret
    assert [each.path.rpartition("/")[2] for each in public.requests_to("bucket")][:2] == [
        "cache_info.json",
        "cache.zip",
    ]
    assert len(public.requests_to("bucket")) == 3
    assert public.requests_to("data") == public.requests_to("alyx") == []
    assert not (user.folder / "config" / "onefs").exists()
    assert "public database, no account" in user.run("status").stdout
    shown = user.status_of(mount.path)
    assert shown is not None
    assert shown["state"] == "ready"
    assert shown["public"] is True


@pytest.mark.long
def test_commands_use_the_tables(user: Home, public: PublicServers) -> None:
    mount = user.mount("--public")
    lines = user.run("search", "--lab", "labone", "--format", "paths").stdout.splitlines()
    assert str(mount.path / FIRST.rsplit("/", 3)[0]) in lines
    nothing = user.run("search", "--subject", "nobody")
    assert nothing.stdout == ""
    ref = "2021-03-04_2_mouse.1"
    assert user.run("list", ref).stdout.splitlines() == ["licks.times"]
    shown = user.run("show", mount.path / FIRST).stdout
    assert "float64" in shown
    got = user.run("get", "--type", "licks.times", mount.path / "labone")
    assert "2 files fetched" in got.stdout + got.stderr
    assert "Alyx" not in got.stderr
    assert public.requests_to("alyx") == []


def test_what_only_alyx_knows_is_an_error_that_says_so(user: Home, public: PublicServers) -> None:
    mount = user.mount("--public")
    sentence = user.error_of(4, "search", "--user", "somebody")
    assert "the public database has no Alyx" in sentence
    assert "cannot search by users" in sentence
    # the tables have no types: a guess may find too few sessions, so that nothing is no answer
    assert "matches the search" in user.error_of(
        4, "search", "--dataset-type", "_iblrig_Camera.raw"
    )
    guessed = user.run("search", "--dataset-type", "licks.times", "--format", "eids")
    assert guessed.stdout
    assert "guessed from file names" in guessed.stderr
    session = FIRST.rsplit("/", 3)[0]
    assert read_errno(mount.path / session / ".session.json") == errno.EHOSTUNREACH
    assert "only Alyx knows" in mount.xattr("error", session)
    assert "has no logins" in user.error_of(2, "login", "--public")
    assert public.requests_to("alyx") == []


@pytest.mark.parametrize("refusing", ["bucket", "file server"])
def test_a_file_that_one_server_refuses_comes_from_the_other(
    tmp_path: Path, laboratory: FolderLaboratory, folder: Path, refusing: str
) -> None:
    key = key_of(laboratory, FIRST)
    denied = {key} if refusing == "bucket" else set()
    with (
        serve_public(laboratory, denied=denied) as public,
        Home(tmp_path, **variables_of(public)) as user,
    ):
        if refusing == "file server":
            public.data.stop()
        mount = user.mount("--public")
        assert (mount.path / FIRST).read_bytes() == small_file(folder, FIRST).read_bytes()
        named = key.rpartition("/")[2]
        asked = [each for each in public.requests if named in each.path]
        assert [(each.server, each.status) for each in asked] == (
            [("bucket", 403), ("data", 200)] if refusing == "bucket" else [("bucket", 200)]
        )


def test_setup_saves_it_without_a_login(user: Home, public: PublicServers) -> None:
    said = user.run("setup", "--public").stdout
    assert "needs no account" in said
    saved = json.loads((user.folder / "config" / "onefs" / "settings.json").read_text())
    assert saved["profiles"]["public"] == {"url": public.bucket_url, "public": "yes"}
    done = user.run("search", "--lab", "labtwo", "--format", "eids")
    assert len(done.stdout.splitlines()) == 1
    assert "loaded now, once" in done.stderr
    assert "loaded now" not in user.run("search", "--lab", "labtwo").stderr
    assert "no newer tables" in user.run("sync").stdout
    assert public.requests_to("alyx") == []


def test_the_state_folder_of_an_alyx_is_refused(
    tmp_path: Path, laboratory: FolderLaboratory, public: PublicServers
) -> None:
    with Servers(laboratory) as servers, Home(tmp_path, **account(servers)) as user:
        both = str(tmp_path / "state of both")
        variables = {**variables_of(public), "ONEFS_STATE_DIR": both}
        user.run("sync", variables=variables)
        tables = (tmp_path / "state of both" / "tables.sqlite").read_bytes()
        for command in (["search", "--public", "--lab", "labone"], ["sync", "--public"]):
            assert "belongs to another database" in user.error_of(2, *command, **variables)
        assert (tmp_path / "state of both" / "tables.sqlite").read_bytes() == tables
        variables["ONEFS_STATE_DIR"] = str(tmp_path / "public state")
        for _ in range(2):
            user.run("search", "--public", "--lab", "labone", variables=variables)
        refused = user.error_of(2, "search", "--lab", "labone", **variables)
        assert "belongs to another database" in refused


def test_public_excludes_other_databases(user: Home) -> None:
    assert "leave out --url" in user.error_of(2, "search", "--public", "--url", "a.org", "--lab=x")
    assert "leave out --public" in user.error_of(2, "mount", "mnt", "--demo", "--public")


class OneMore(AlteredLaboratory):
    """A laboratory that gets one more session."""

    more = False

    def sessions(self) -> tuple[SessionRecord, ...]:
        """See :class:`onefs.demo.records.Source`."""
        known = tuple(self._source.sessions())
        if not self.more:
            return self._kept(known[1:])
        return self._kept(known)

    def _kept(self, sessions: tuple[SessionRecord, ...]) -> tuple[SessionRecord, ...]:
        """Return the same object for the same sessions, as a source does."""
        if getattr(self, "_last", None) != sessions:
            self._last = sessions
        return self._last


def test_newer_tables_are_loaded_by_the_next_mount(
    tmp_path: Path, laboratory: FolderLaboratory
) -> None:
    source = OneMore(laboratory)
    new = laboratory.sessions()[0]
    with serve_public(source) as public, Home(tmp_path, **variables_of(public)) as user:
        mount = user.mount("--public")
        place = mount.path / new.lab / new.subject / new.start_time[:10] / f"{new.number:03d}"
        assert not place.exists()
        mount.umount()
        source.more = True
        user.mount("--public")
        wait_until(place.exists, what="the new session")
        assert len([each for each in public.requests if "cache.zip" in each.path]) == 2


def test_without_the_bucket_the_known_list_is_shown(user: Home, public: PublicServers) -> None:
    public.bucket.stop()
    sentence = user.error_of(4, "mount", "--public", "mnt")
    assert "the list of the public database cannot be loaded" in sentence
    public.bucket.start()
    user.mount("--public").umount()
    public.bucket.stop()
    mount = user.mount("--public")
    # the bytes come from the file server
    assert (mount.path / FIRST).read_bytes()
    wait_until(lambda: mount.log_lines("the mount shows the list that it has"))


class SlowTables(PublicBucket):
    """A bucket whose archive of tables does not come before :attr:`released` is set."""

    def __init__(self, source: Source) -> None:
        super().__init__(source)
        self.released = threading.Event()

    def content(self, key: str) -> Path | bytes | None:
        """Return the bytes of an object."""
        if key.endswith("cache.zip"):
            self.released.wait(BUSY_SECONDS)
        return super().content(key)


class DamagedTables(PublicBucket):
    """A bucket whose archive of tables cannot be read."""

    def content(self, key: str) -> Path | bytes | None:
        """Return the bytes of an object."""
        return b"no archive" if key.endswith("cache.zip") else super().content(key)


def test_while_the_tables_load_nothing_is_absent(
    tmp_path: Path, laboratory: FolderLaboratory
) -> None:
    objects = SlowTables(laboratory)
    with (
        PublicServers(objects, laboratory) as public,
        Home(tmp_path, **variables_of(public)) as user,
    ):
        mount = user.mount("--public", ONEFS_DEADLINE="1")
        assert read_errno(mount.path) == errno.EBUSY
        with pytest.raises(OSError, match="busy"):
            os.stat(mount.path / FIRST)
        assert "is being loaded" in mount.xattr("error")
        shown = user.status_of(mount.path)
        assert shown is not None
        assert any("is being loaded" in each for each in shown["troubles"])
        objects.released.set()
        wait_until(lambda: read_errno(mount.path / FIRST) == 0, what="the datasets")
        assert "labone" in os.listdir(mount.path)


def test_a_one_object_reads_the_public_database(
    tmp_path: Path, public: PublicServers, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from onefs.errors import Unreachable
    from onefs.one import ONE

    for name, value in {
        **variables_of(public),
        "XDG_STATE_HOME": str(tmp_path / "state"),
        "XDG_CACHE_HOME": str(tmp_path / "cache"),
        "XDG_CONFIG_HOME": str(tmp_path / "config"),
    }.items():
        monkeypatch.setenv(name, value)
    with ONE.public() as one:
        (eid,) = one.search(lab="labtwo")
        assert one.search(lab="labone", subject="nobody") == []
        (loaded,) = one.load(eid, ["licks.times"])
        assert loaded.size == 3000
        with pytest.raises(Unreachable, match="no Alyx"):
            one.search(users="somebody")
    assert public.requests_to("alyx") == []


def test_an_archive_that_cannot_be_read_is_downloaded_less_and_less_often(
    tmp_path: Path,
    laboratory: FolderLaboratory,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setattr("onefs.public_tables.RETRY_SECONDS", 0.01)
    caplog.set_level("INFO", "onefs.public_tables")
    with PublicServers(DamagedTables(laboratory), laboratory) as public:
        access = Access(settings_in(tmp_path, public), "test")
        tables = TablesInBackground(access, lambda: None)
        try:
            tables.start(0.0)

            def pauses() -> list[str]:
                lines = [each.getMessage() for each in caplog.records]
                return [each.split()[-2] for each in lines if "requested again in" in each]

            wait_until(lambda: len(pauses()) >= 4, what="four attempts")
            assert pauses()[:4] == ["0.02", "0.04", "0.08", "0.16"]
            archives = [each for each in public.requests_to("bucket") if "cache.zip" in each.path]
            assert len(archives) >= 4
        finally:
            tables.close()
            access.close()


def test_a_mount_waits_while_another_process_loads_newer_tables(
    tmp_path: Path, laboratory: FolderLaboratory, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", "onefs.public_tables")
    source = OneMore(laboratory)
    with serve_public(source) as public:
        access = Access(settings_in(tmp_path, public), "test")
        tables = TablesInBackground(access, lambda: None)
        try:
            load_tables(access)
            source.more = True
            public.clear_requests()
            with hold_lock_file(tmp_path / "state" / "tables.lock") as other:
                assert lock_file(other)
                tables.start(0.0)
                wait_until(
                    lambda: "requested again in 600 s" in caplog.text or len(public.requests) > 5,
                    what="the pause",
                )
            assert len(public.requests) == 1
        finally:
            tables.close()
            access.close()


def test_a_rejected_file_of_a_folder_is_fetched_again_after_refresh(
    tmp_path: Path, laboratory: FolderLaboratory
) -> None:
    """Only the tables know the dataset, and not what Alyx has listed."""
    with serve_public(laboratory) as public:
        access = Access(settings_in(tmp_path, public), "test")
        try:
            load_tables(access)
            ((dataset, _),) = access.tree.find_datasets(FIRST)
            ((by_id, _),) = access.tree.find_datasets(f"dataset:{dataset.id}")
            assert by_id == dataset
            store = access.content.store
            entry = store.register(
                dataset,
                tmp_path / "cache" / FIRST,
                ContentVerdict("bad", "other bytes"),
                ours=False,
                status=os.stat(tmp_path),
            )
            clear_rejections(access, ("labtwo",))
            assert store.records.get(dataset.id) == entry
            clear_rejections(access, tuple(FIRST.split("/")[:2]))
            assert store.records.get(dataset.id) is None
        finally:
            access.close()


def test_the_release_of_another_database_is_refused(
    tmp_path: Path, laboratory: FolderLaboratory
) -> None:
    with serve_public(laboratory) as public:
        settings = settings_in(tmp_path, public)
        access = Access(settings, "test")
        load_tables(access)
        access.close()
        Access(settings, "test").of_release("a_tag").database.close()
        release = Access(replace(settings, public=False), "test").of_release("a_tag")
        with pytest.raises(UsageError, match="another database"):
            _ = release.database
        release.close()


def test_a_catalogue_does_not_load_what_lists_keys() -> None:
    script = (
        "import sys; from onefs.cache_tables.bucket import PublicBucket; "
        "from onefs.http import Transport; PublicBucket(Transport(), sys.argv[1]).close(); "
        "print(sorted(sys.modules))"
    )
    done = run([sys.executable, "-c", script, "http://127.0.0.1:1/bucket"])
    for name in ("s3_client", "s3_listing", "xml.etree"):
        assert name not in done.stdout


def test_a_mount_with_a_wrong_endpoint_is_refused(
    tmp_path: Path, public: PublicServers, user: Home
) -> None:
    error = user.error_of(2, "mount", "--public", "mnt", ONEFS_S3_ENDPOINT="ftp://127.0.0.1")
    assert "ftp://127.0.0.1" in error
