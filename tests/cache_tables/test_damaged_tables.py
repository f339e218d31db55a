"""Damaged or malicious cache tables cause an error of one sentence. The old tables stay in use."""

from __future__ import annotations

import errno
import fcntl
import logging
import os
import struct
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from onefs.alyx.client import AlyxClient
from onefs.alyx.tokens import FixedToken
from onefs.cache_tables import source, worker
from onefs.cache_tables.reader import TABLES_FILE_NAME, TablesReader
from onefs.cache_tables.worker import build_in_child
from onefs.catalogue.change_journal import JOURNAL_FILE_NAME
from onefs.catalogue.sync import sync_from_files, sync_from_server
from onefs.errors import CacheError, OnefsError, ServerError, UsageError
from onefs.http import Transport
from tests.cache_tables.table_files import (
    CREATED,
    dataset,
    session,
    uuid,
    write,
)
from tests.scripted_server import (
    Script,
    ScriptedConnection,
    ScriptedServer,
    answer,
    answer_json,
    trickle,
)

INFO = {"date_created": CREATED, "origin": "alyx", "tables": {}}
TABLES = ("sessions.pqt", "datasets.pqt")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with small tables: 4 sessions and 12 datasets."""
    rows = [dataset(1 + number % 4, number, f"alf/a{number}.npy") for number in range(12)]
    return write(tmp_path / "given", [session(number) for number in range(1, 5)], rows)


@pytest.fixture
def state(tmp_path: Path) -> Path:
    """A state folder that already has tables, with one session."""
    sync_from_files(write(tmp_path / "old", [session(1)], [dataset(1, 1)]), tmp_path / "state")
    return tmp_path / "state"


def archive(folder: Path, method: int = zipfile.ZIP_DEFLATED) -> bytes:
    path = folder / "cache.zip"
    with zipfile.ZipFile(path, "w", method) as file:
        for name in TABLES:
            file.write(folder / name, name)
    return path.read_bytes()


def sessions_in(state: Path) -> int:
    tables = TablesReader(state / TABLES_FILE_NAME)
    try:
        return sum(tables.session(uuid(number)) is not None for number in range(1, 5))
    finally:
        tables.close()


def sync_from(server: ScriptedServer, transport: Transport, state: Path) -> None:
    sync_from_server(AlyxClient(transport, server.url, FixedToken("t"), deadline=5.0), state)


def serving(script: Script) -> ScriptedServer:
    return ScriptedServer({"/cache/info/": answer_json(INFO), "/cache.zip": script})


def is_untouched(state: Path) -> bool:
    """Whether the old tables are in use and the state folder contains no other files."""
    names = {name for name in os.listdir(state) if not name.startswith(JOURNAL_FILE_NAME)}
    names -= {"tables.lock", f"{TABLES_FILE_NAME}.lock"}
    return names == {TABLES_FILE_NAME} and sessions_in(state) == 1


def refusal(given: Path, state: Path) -> str:
    """Return the error message if the tables are refused. Return '' if they are accepted."""
    try:
        sync_from_files(given, state)
    except UsageError as error:
        return str(error)
    finally:
        assert not (state / "tables.part").exists()
    return ""


@pytest.mark.parametrize(
    "method",
    [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA],
    ids=["stored", "deflated", "bzip2", "lzma"],
)
def test_any_damage_of_an_archive_is_one_sentence(folder: Path, state: Path, method: int) -> None:
    """In each damaged archive, one byte is changed or the end is missing."""
    good = archive(folder, method)
    damaged = [good[:size] for size in range(0, len(good), 257)]
    for place in range(0, len(good), 61):
        damaged.append(good[:place] + bytes([good[place] ^ 0xFF]) + good[place + 1 :])
    given = folder / "cache.zip"
    refused = []
    for content in damaged:
        given.write_bytes(content)
        if sentence := refusal(given, state):
            refused.append(sentence)
    assert len(refused) > len(damaged) * 0.8
    assert all("cache.zip" in sentence or ".pqt" in sentence for sentence in refused)
    assert not any("\n" in sentence for sentence in refused)


def test_any_damage_of_a_table_is_one_sentence(folder: Path, state: Path) -> None:
    refused = []
    for name in TABLES:
        good = (folder / name).read_bytes()
        for place in range(0, len(good), 61):
            flipped = good[:place] + bytes([good[place] ^ 0xFF]) + good[place + 1 :]
            (folder / name).write_bytes(flipped)
            sentence = refusal(folder, state)
            assert sentence == "" or ".pqt" in sentence
            refused.append(sentence != "")
        (folder / name).write_bytes(good)
    # the format has no checksums: a changed byte of a value is not noticed
    assert sum(refused) > len(refused) / 4
    assert refusal(folder, state) == ""
    assert sessions_in(state) == 4


@pytest.mark.parametrize(
    ("column", "value"),
    [("lab", ["a"]), ("subject", {"a": 1}), ("projects", ["p"]), ("task_protocol", 5)],
)
def test_columns_of_another_kind_are_not_stored(
    folder: Path, state: Path, column: str, value: object
) -> None:
    write(folder, [session(2, **{column: value})], [dataset(2, 1)])
    if column in ("lab", "subject"):
        with pytest.raises(UsageError, match=r"sessions.pqt is no cache table"):
            sync_from_files(folder, state)
        assert is_untouched(state)
    else:
        assert sync_from_files(folder, state).sessions == 1


def flagged(content: bytes) -> bytes:
    """Return the archive ``content`` with all members marked as encrypted."""
    changed = bytearray(content)
    for mark, at in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        place = content.find(mark)
        while place >= 0:
            changed[place + at] |= 1
            place = content.find(mark, place + 1)
    return bytes(changed)


def with_members(folder: Path, *members: tuple[str, bytes]) -> bytes:
    path = folder / "made.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as file:
        for name, content in members:
            file.writestr(name, content)
    return path.read_bytes()


def of_tables(folder: Path, *more: tuple[str, bytes]) -> bytes:
    given = [(name, (folder / name).read_bytes()) for name in TABLES]
    return with_members(folder, *given, *more)


def with_long_directory(folder: Path) -> bytes:
    return of_tables(folder, *((f"{number:060000d}", b"") for number in range(20)))


DAMAGE: dict[str, Callable[[Path], bytes]] = {
    "encrypted": lambda folder: flagged(archive(folder)),
    "twice": lambda folder: of_tables(folder, ("sessions.pqt", b"other")),
    "one missing": lambda folder: with_members(folder, ("sessions.pqt", b"x")),
    "elsewhere": lambda folder: with_members(folder, *((f"../{name}", b"x") for name in TABLES)),
    "unpacks a thousandfold": lambda folder: with_members(
        folder, *((name, bytes(100 << 20)) for name in TABLES)
    ),
    "a long list of files": with_long_directory,
    "zip64": lambda folder: (
        of_tables(folder)[:-22] + b"PK\x06\x07" + bytes(16) + of_tables(folder)[-22:]
    ),
    "no tables": lambda folder: with_members(folder, *((name, b"PAR1") for name in TABLES)),
    "no archive": lambda folder: b"PK\x03\x04" + bytes(200),
    "nothing": lambda folder: b"",
}


def test_an_error_without_a_text_is_named_by_its_type(tmp_path: Path) -> None:
    """The module zipfile raises EOFError without a text."""
    archive = tmp_path / "cache.zip"
    with pytest.raises(UsageError, match=r"read: EOFError$"), source._translated_errors(archive):
        raise EOFError


@pytest.mark.filterwarnings("ignore:Duplicate name")
@pytest.mark.parametrize("damage", DAMAGE.values(), ids=DAMAGE)
def test_an_archive_of_a_server_is_refused_by_its_url(
    folder: Path, state: Path, transport: Transport, damage: Callable[[Path], bytes]
) -> None:
    with serving(answer(damage(folder))) as server:
        with pytest.raises(ServerError) as caught:
            sync_from(server, transport, state)
        assert f"{server.url}/cache.zip" in str(caught.value)
    assert str(state) not in str(caught.value)
    assert is_untouched(state)
    assert not (state.parent / "sessions.pqt").exists()


def test_members_with_paths_outside_the_folder_are_not_unpacked(folder: Path, state: Path) -> None:
    (folder / "cache.zip").write_bytes(
        of_tables(folder, ("../evil", b"x"), ("/absolute-evil", b"x"))
    )
    assert sync_from_files(folder / "cache.zip", state).sessions == 4
    assert not (state / "evil").exists()
    assert not Path("/absolute-evil").exists()


def endless(talk: ScriptedConnection) -> None:
    """Send an archive that never ends, as fast as possible."""
    talk.head(200, Connection="close")
    while not talk._server.closing.is_set():
        talk.send(bytes(1 << 16))


@pytest.mark.parametrize(
    ("script", "limits", "said"),
    [
        (endless, {"MAX_ARCHIVE_BYTES": 8 << 20}, "larger than 8 MiB"),
        (answer(b"x", Content_Length=1 << 40), {}, "larger than 2048 MiB"),
        (
            trickle(b"HTTP/1.1 200 OK\r\nContent-Length: 10000\r\n\r\n" + bytes(5000), 0.01),
            {"RATE_GRACE_SECONDS": 0.5, "MIN_BYTES_PER_SECOND": 100_000},
            "is too slow",
        ),
    ],
    ids=["endless", "said to be huge", "trickling"],
)
def test_an_archive_that_never_ends_is_given_up(
    state: Path,
    transport: Transport,
    monkeypatch: pytest.MonkeyPatch,
    script: Script,
    limits: dict[str, Any],
    said: str,
) -> None:
    for name, value in limits.items():
        monkeypatch.setattr(source, name, value)
    with serving(script) as server, pytest.raises(ServerError, match=said):
        sync_from(server, transport, state)
    assert is_untouched(state)


# -- pyarrow runs in a child process, which may die, may hang, or may need too much memory


def test_the_answer_and_progress_of_the_child_come_through(folder: Path, state: Path) -> None:
    told: list[tuple[int, int]] = []
    pair = folder / "sessions.pqt", folder / "datasets.pqt"
    built = build_in_child(
        *pair, state / "new", {}, progress=lambda done, total: told.append((done, total))
    )
    assert (built.sessions, built.datasets) == (4, 12)
    assert told == [(12, 12)]


def test_the_log_lines_of_the_child_come_through(
    folder: Path, state: Path, caplog: pytest.LogCaptureFixture
) -> None:
    write(folder, [session(2), session(2)], [dataset(2, 1)])
    with caplog.at_level(logging.INFO):
        sync_from_files(folder, state, builder=build_in_child)
    assert "duplicate sessions" in caplog.text


@pytest.mark.parametrize("name", TABLES)
def test_a_child_that_hangs_is_given_up(
    folder: Path, state: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    (folder / name).unlink()
    os.mkfifo(folder / name)  # opening a FIFO waits until another process writes to it
    monkeypatch.setattr(worker, "PROGRESS_TIMEOUT_SECONDS", 3.0)
    pair = folder / "sessions.pqt", folder / "datasets.pqt"
    with pytest.raises(CacheError, match="no progress for 3 s"):
        build_in_child(*pair, state / "new", {})


def test_a_child_that_dies_is_an_error(
    folder: Path, state: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "executable", "/bin/false")
    with pytest.raises(CacheError, match="ended unexpectedly"):
        sync_from_files(folder, state, builder=build_in_child)
    assert is_untouched(state)


def test_a_child_that_wants_too_much_memory_is_an_error(folder: Path, state: Path) -> None:
    """The table has a few megabytes, but its text would need many gigabytes of memory."""
    path = folder / "sessions.pqt"
    table = pq.read_table(path).take([0] * 2000)
    labs = pa.DictionaryArray.from_arrays([0] * 2000, ["x" * (4 << 20)])
    place = table.schema.get_field_index("lab")
    pq.write_table(table.set_column(place, "lab", labs), path)
    assert path.stat().st_size < 8 << 20
    with pytest.raises(OnefsError, match=r"memory|cannot be used|cannot be read|damaged"):
        sync_from_files(folder, state, builder=build_in_child)
    assert is_untouched(state)


def test_a_disk_without_locks_stops_no_sync(
    folder: Path, state: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def no_locks(descriptor: object, operation: int) -> None:
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    monkeypatch.setattr(fcntl, "flock", no_locks)
    assert sync_from_files(folder, state).sessions == 4
    assert [line for line in caplog.messages if "has no locks" in line]


def spoil(path: Path) -> None:
    """Damage the pages of a SQLite file, except the first two. The file can still be opened."""
    with path.open("r+b") as file:
        size = file.seek(0, os.SEEK_END)
        for page in range(4096 * 2, size, 4096):
            file.seek(page)
            file.write(struct.pack(">B", 0x77) * 4096)


def test_new_tables_are_not_moved_aside_for_the_old_ones(folder: Path, tmp_path: Path) -> None:
    """The damage of the old file is noticed only after a sync has replaced the file."""
    state = tmp_path / "state"
    many = [dataset(1, number, f"alf/a{number}.npy") for number in range(500)]
    sync_from_files(write(tmp_path / "old", [session(1)], many), state)
    spoil(state / TABLES_FILE_NAME)
    tables = TablesReader(state / TABLES_FILE_NAME)
    assert tables.version is not None
    sync_from_files(folder, tmp_path / "other")
    os.replace(tmp_path / "other" / TABLES_FILE_NAME, state / TABLES_FILE_NAME)
    assert tables.datasets(uuid(1)) == []  # the damaged file is still open
    assert (state / TABLES_FILE_NAME).exists()
    assert len(tables.datasets(uuid(1))) == 3
    tables.close()
