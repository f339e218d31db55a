"""A mount of each kind of odd row in real databases.

The traps stand in ``tests/data/recorded/_manifest.json``; a kind without an expectation fails.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import pytest

from onefs.demo.http_server import AccessRecord
from onefs.demo.records import DatasetRecord
from onefs.demo.servers import Servers
from tests.laboratories import account, data_requests
from tests.recorded_laboratory import LOGIN, RecordedSource
from tests.recordings import manifest
from tests.running import Home, Mounted, read_errno, wait_until


@dataclass(frozen=True)
class Expected:
    """What users see of a dataset with a trap."""

    #: it is in the listing of its folder, and resolves by its name
    listed: bool
    #: what reading it ends with; 0: the file server's bytes
    errno: int = 0
    #: ``user.onefs.state`` after reading it twice
    state: str = "cached"
    #: words of ``user.onefs.error``; none: it is absent
    error: tuple[str, ...] = ()
    #: statuses of the file server's answers about it, until it has been read twice
    answers: tuple[int, ...] = (200,)


#: no request about it is sent to the file server
ABSENT = Expected(listed=False)
FINE = Expected(listed=True)
LARGE = Expected(listed=True, answers=(206,))


def _doubted(*words: str) -> Expected:
    """A wrong size is no verdict before it was seen again later."""
    return Expected(True, errno.EIO, "remote", words)


EXPECTED: Mapping[str, Expected] = {
    "server_exists_false": ABSENT,
    "no_file_records": ABSENT,
    "stale_exists_true_404": Expected(True, errno.EIO, "remote", ("404",), (404,)),
    "wrong_hash": Expected(True, errno.EIO, "bad", ("md5",), (200, 200)),
    "wrong_size": _doubted("bytes"),
    # stat requests its size from the file server, with one byte
    "no_hash_no_size": Expected(True, 0, "unverified", (), (206, 200)),
    "truncated_on_server": _doubted("bytes"),
    "empty_on_server": _doubted("0"),
    "personal_with_rubbish_data_url": ABSENT,
    "server_without_data_url": ABSENT,
    "tape_only": ABSENT,
    "two_server_repos": FINE,
    "default_is_not_latest": FINE,
    "no_default": FINE,
    "two_defaults": FINE,
    "no_session": ABSENT,
    "no_collection": FINE,
    # fetched by blocks, each once
    "big_300MB": LARGE,
    "cbin_20MB": LARGE,
}
TRAPS: list[dict[str, Any]] = manifest()["traps"]
SESSIONS: dict[str, dict[str, Any]] = {row["eid"]: row for row in manifest()["sessions"]}


def _trap_ids() -> list[str]:
    return [f"{trap['kind']}-{trap['name']}-{trap['dataset'][:4]}" for trap in TRAPS]


@pytest.fixture(scope="module")
def source() -> RecordedSource:
    return RecordedSource()


@pytest.fixture(scope="module")
def servers(source: RecordedSource) -> Iterator[Servers]:
    with Servers(source, LOGIN) as running:
        yield running


@pytest.fixture(scope="module")
def mounted(shared_home: Home, servers: Servers) -> Mounted:
    mounted = shared_home.mount(**account(servers))
    # the first download finds out that the file server wants a user and a password
    first = mounted.path / "cortexlab/KS023/2019-12-09/001/alf/_ibl_trials.choice.npy"
    assert read_errno(first) == 0
    return mounted


def test_every_kind_has_an_expectation() -> None:
    assert {trap["kind"] for trap in TRAPS} == set(EXPECTED)


@pytest.mark.parametrize("trap", TRAPS, ids=_trap_ids())
def test_trap(
    mounted: Mounted, servers: Servers, source: RecordedSource, trap: Mapping[str, Any]
) -> None:
    expected = EXPECTED[trap["kind"]]
    record = source.dataset(trap["dataset"])
    assert record is not None
    path = _path(record)
    if not expected.listed:
        _assert_absent(mounted, path)
        assert _asked(servers, record) == []
        return
    assert path.name in os.listdir(mounted.path / path.parent)
    assert mounted.xattr("dataset_id", str(path)) == record.id
    assert mounted.xattr("state", str(path)) == "remote"
    before = _asked(servers, record)
    size = (mounted.path / path).stat().st_size
    if record.file_size is not None:
        assert size == record.file_size
    for _ in range(2):
        assert read_errno(mounted.path / path) == expected.errno
    # a large file is verified in the background after its last block
    wait_until(lambda: mounted.xattr("state", str(path)) == expected.state)
    reason = mounted.xattr("error", str(path))
    assert bool(reason) == bool(expected.error)
    assert all(word in reason for word in expected.error), reason
    asked = _asked(servers, record)
    if expected is LARGE:
        assert {each.status for each in asked} == set(expected.answers), before
        assert len({each.range for each in asked}) == len(asked)
    else:
        assert tuple(each.status for each in asked) == expected.answers, before
    if not expected.errno:
        served = source.file(unquote(urlsplit(mounted.xattr("url", str(path))).path))
        assert (mounted.path / path).read_bytes() == served


def test_of_two_repositories_the_file_server_is_asked(
    mounted: Mounted, servers: Servers, source: RecordedSource
) -> None:
    """Alyx's own choice: ``flatiron_cortexlab`` before ``aws_cortexlab``."""
    traps = list(_of_kind("two_server_repos"))
    assert traps
    for trap in traps:
        record = source.dataset(trap["dataset"])
        assert record is not None
        path = _path(record)
        assert read_errno(mounted.path / path) == 0
        asked = _asked(servers, record)
        assert len(asked) == 1
        assert not asked[0].path.startswith("/aws/")


def test_the_default_need_not_be_the_latest_revision(mounted: Mounted) -> None:
    (trap,) = _of_kind("default_is_not_latest")
    folder = _session(trap["session"]) / trap["collection"]
    original, later = folder / trap["name"], folder / "#2020-08-31#" / trap["name"]
    assert mounted.xattr("revision", str(original)) == ""
    assert mounted.xattr("revision", str(later)) == "2020-08-31"
    assert (mounted.path / original).read_bytes() != (mounted.path / later).read_bytes()


def test_two_defaults_are_not_in_the_flat_tree(mounted: Mounted) -> None:
    (first, second) = _of_kind("two_defaults")
    assert first["session"] == second["session"]
    flat = mounted.path / ".flat" / _session(first["session"])
    listed = os.listdir(flat)
    assert listed
    assert first["name"] not in listed
    assert not (flat / first["name"]).exists()


def test_a_session_without_number_is_nowhere(mounted: Mounted) -> None:
    (eid,) = (eid for eid, row in SESSIONS.items() if row["number"] is None)
    row = SESSIONS[eid]
    dates = os.listdir(mounted.path / row["lab"] / row["subject"])
    assert row["date"] not in dates
    assert len(dates) > 5
    with pytest.raises(FileNotFoundError):
        os.readlink(mounted.path / ".by-eid" / eid)


def test_a_nickname_of_two_labs_is_two_subjects_and_no_ref(mounted: Mounted) -> None:
    found = {row["lab"]: eid for eid, row in SESSIONS.items() if row["subject"] == "dup01"}
    assert set(found) == {"cortexlab", "mainenlab"}
    for eid in found.values():
        assert mounted.xattr("eid", str(_session(eid))) == eid
        assert mounted.xattr("eid", f".by-eid/{eid}") == eid
    with pytest.raises(OSError, match="unique") as failure:
        os.readlink(mounted.path / ".by-ref/2022-05-05_1_dup01")
    assert failure.value.errno == errno.ENOTUNIQ


def _assert_absent(mounted: Mounted, path: Path) -> None:
    assert not (mounted.path / path).exists()
    folder = mounted.path / path.parent
    if folder.is_dir():
        listed = os.listdir(folder)
        assert path.name not in listed
        assert len(listed) > 1


def _path(record: DatasetRecord) -> Path:
    """Return the path of a dataset in the mount, whether it exists or not."""
    if record.eid is None:
        return Path(record.collection, record.name)
    revision = [f"#{record.revision}#"] if record.revision else []
    return Path(_session(record.eid), record.collection, *revision, record.name)


def _session(eid: str) -> Path:
    row = SESSIONS[eid]
    return Path(row["lab"], row["subject"], row["date"], f"{row['number']:03d}")


def _asked(servers: Servers, record: DatasetRecord) -> list[AccessRecord]:
    return data_requests(servers, record.id)


def _of_kind(kind: str) -> list[dict[str, Any]]:
    return [trap for trap in TRAPS if trap["kind"] == kind]
