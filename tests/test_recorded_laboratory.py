"""The recorded laboratory agrees with its manifest: ordinary rows, and traps of each kind."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

from onefs.demo.records import DatasetRecord
from tests.recorded_laboratory import BIG, RecordedSource, trap_kinds
from tests.recordings import manifest, results

_PUBLIC = "/public/cortexlab/Subjects/"


@pytest.fixture(scope="module")
def source() -> RecordedSource:
    return RecordedSource()


def _url_path(record: DatasetRecord, repository: str, root: str) -> str | None:
    for copy in record.file_records:
        if copy.repository == repository:
            stem, dot, suffix = copy.relative_path.rpartition(".")
            return f"{root}{stem}.{record.id}{dot}{suffix}"
    return None


def _content(source: RecordedSource, record: DatasetRecord) -> bytes | None:
    """Return the content of a record on its ordinary file server."""
    for row in results("other/data_repository.json"):
        if row["name"].startswith("flatiron"):
            root = row["globus_path"]
            path = _url_path(record, row["name"], root)
            found = source.file(path) if path else None
            if found is not None:
                return found if isinstance(found, bytes) else found.read_bytes()
    return None


def test_all_rows_are_there(source: RecordedSource) -> None:
    counted = {s["eid"]: len(source.datasets(s["eid"])) for s in manifest()["sessions"]}
    assert sum(counted.values()) + len(source.aggregates()) == 1022
    assert len(source.sessions()) == 40
    starts = [session.start_time for session in source.sessions()]
    assert starts == sorted(starts, reverse=True)


def test_ordinary_rows_tell_the_truth(source: RecordedSource) -> None:
    checked = 0
    for session in manifest()["sessions"]:
        for record in source.datasets(session["eid"]):
            content = None if record.id in trap_kinds() else _content(source, record)
            if content is not None:
                assert len(content) == record.file_size
                assert hashlib.md5(content).hexdigest() == record.hash
                checked += 1
    assert checked > 950


def test_files_are_the_same_each_time(source: RecordedSource) -> None:
    record = source.datasets("18619a05-41c1-4ec1-9aee-e01fc22ca10b")[0]
    assert _content(source, record) == _content(RecordedSource(), record)


# -- traps ------------------------------------------------------------------------------------


def _only(record: DatasetRecord, *repositories: str) -> bool:
    return {copy.repository for copy in record.file_records} == set(repositories)


def _siblings(source: RecordedSource, record: DatasetRecord) -> list[DatasetRecord]:
    rows = source.datasets(record.eid or "")
    return [r for r in rows if (r.collection, r.name) == (record.collection, record.name)]


def _defaults(source: RecordedSource, record: DatasetRecord) -> list[str]:
    return [r.revision for r in _siblings(source, record) if r.default_dataset]


def _two_servers(source: RecordedSource, record: DatasetRecord) -> bool:
    path = _url_path(record, "aws_cortexlab", "/aws/cortexlab/Subjects/")
    return path is not None and source.file(path) == _content(source, record)


def _true(record: DatasetRecord, content: bytes | None) -> bool:
    return content is not None and hashlib.md5(content).hexdigest() == record.hash


Check = Callable[[RecordedSource, DatasetRecord, "bytes | None"], bool]
_KINDS: Mapping[str, Check] = {
    "server_exists_false": lambda s, r, c: c is None and any(x.exists for x in r.file_records),
    "no_file_records": lambda s, r, c: c is None and r.file_records == (),
    "stale_exists_true_404": lambda s, r, c: c is None and r.file_records[0].exists,
    "wrong_hash": lambda s, r, c: not _true(r, c) and len(c or b"") == r.file_size,
    "wrong_size": lambda s, r, c: _true(r, c) and len(c or b"") == (r.file_size or 0) - 17,
    "no_hash_no_size": lambda s, r, c: bool(c) and (r.hash, r.file_size) == ("", None),
    "truncated_on_server": lambda s, r, c: len(c or b"") == (r.file_size or 0) - 100,
    "empty_on_server": lambda s, r, c: c == b"" and bool(r.file_size),
    "personal_with_rubbish_data_url": lambda s, r, c: c is None and _only(r, "mainenlab_SR"),
    "server_without_data_url": lambda s, r, c: c is None and r.file_records[0].exists,
    "tape_only": lambda s, r, c: c is None and _only(r, "lto_tape"),
    "two_server_repos": lambda s, r, c: _true(r, c) and _two_servers(s, r),
    "default_is_not_latest": lambda s, r, c: _defaults(s, r) == [""] and len(_siblings(s, r)) > 1,
    "no_default": lambda s, r, c: _defaults(s, r) == [] and _true(r, c),
    "two_defaults": lambda s, r, c: len(_defaults(s, r)) == 2 and _true(r, c),
    "no_session": lambda s, r, c: r.eid is None and _true(r, c),
    "no_collection": lambda s, r, c: r.collection == "" and _true(r, c),
    "big_300MB": lambda s, r, c: _true(r, c) and len(c or b"") == BIG > 16 * 1024 * 1024,
    "cbin_20MB": lambda s, r, c: _true(r, c) and len(c or b"") == 20_000_000,
}


@pytest.mark.parametrize("trap", manifest()["traps"], ids=lambda t: f"{t['kind']}-{t['dataset']}")
def test_a_trap_keeps_its_nature(source: RecordedSource, trap: Mapping[str, str]) -> None:
    record = source.dataset(trap["dataset"])
    assert record is not None
    assert record.name == trap["name"]
    assert _KINDS[trap["kind"]](source, record, _content(source, record))


def test_as_recorded_keeps_hashes_and_the_big_size(tmp_path: Path) -> None:
    source = RecordedSource(as_recorded=True, folder=tmp_path)
    big = source.dataset(manifest()["big"])
    assert big is not None
    assert big.file_size == 314_880_128
    path = _url_path(big, "flatiron_cortexlab", _PUBLIC)
    assert path is not None
    found = source.file(path)
    assert isinstance(found, Path)
    assert found.stat().st_size == big.file_size
    recorded = results("datasets/session.json")[0]
    row = source.dataset(recorded["url"][-36:])
    assert row is not None
    assert row.hash == recorded["hash"]
