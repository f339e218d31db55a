"""``onefs changes`` and ``ONE.changes``: what was added, replaced and removed since a date."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from onefs.catalogue.sync import sync_from_files
from onefs.demo.records import DatasetRecord
from onefs.demo.servers import Servers
from onefs.errors import Unreachable, UsageError
from onefs.one import ONE, OnefsWarning
from onefs.search.changes import Change, parse_date
from tests.cache_tables.table_files import dataset, session, uuid, write
from tests.laboratories import account
from tests.one.conftest import set_home
from tests.one.opened import access_of
from tests.public_database import serve_public, variables_of
from tests.registering_laboratory import RegisteringLaboratory
from tests.running import Home

URL = ("--url", "http://localhost:9")
DAYS = ["2023-11-14 20:00", "2023-11-15 20:00", "2023-11-16 20:00"]
FIRST, LAST = "2023-11-14T20:00:00", "2023-11-16T20:00:00"


@pytest.fixture
def home(tmp_path: Path) -> Iterator[Home]:
    with Home(tmp_path) as made:
        yield made


@pytest.fixture(scope="module")
def synced(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Home]:
    """A home with the tables of three days, which tests only read; see :func:`wanted`."""
    states = [
        ([session(1), session(2, projects="one,two")], [dataset(1, 1), dataset(2, 2)]),
        ([session(1), session(3)], [dataset(1, 1, file_size=5, hash="e" * 32), dataset(3, 3)]),
        ([session(1), session(3)], [dataset(1, 1, file_size=5, hash="e" * 32), dataset(3, 4)]),
    ]
    root = tmp_path_factory.mktemp("synced")
    with Home(root, ONEFS_STATE_DIR=str(root / "state")) as home:
        for day, tables in zip(DAYS, states, strict=True):
            folder = write(root / day, *tables, day)
            if day == DAYS[-1]:
                home.run("sync", "--tables", folder, *URL)
            else:
                sync_from_files(folder, root / "state")
        yield home


@pytest.fixture
def one(synced: Home, monkeypatch: pytest.MonkeyPatch) -> Iterator[ONE]:
    """The database of ``synced``, offline."""
    for name in ("HOME", "ONEFS_STATE_DIR", "XDG_CONFIG_HOME", "XDG_CACHE_HOME"):
        monkeypatch.setenv(name, synced.environment[name])
    with ONE(base_url=URL[1], offline=True) as opened:
        yield opened


def wanted() -> list[Change]:
    """The changes of the fixture ``synced``, in order."""

    def place(number: int) -> tuple[Any, ...]:
        return "labone", "mouse", f"2020-01-0{number}", 1, uuid(number)

    def values(number: int) -> tuple[Any, ...]:
        return "alf/a.b.npy", 100 + number, f"{number:032x}"

    second, third = "2023-11-15T20:00:00", LAST
    replaced = (uuid(1001), "alf/a.b.npy", 5, "e" * 32, *values(1))
    rows: list[tuple[Any, ...]] = [
        (second, "replaced", "dataset", *place(1), *replaced),
        (second, "removed", "session", *place(2)),
        (second, "removed", "dataset", *place(2), uuid(1002), "", None, "", *values(2)),
        (second, "added", "session", *place(3)),
        (second, "added", "dataset", *place(3), uuid(1003), *values(3)),
        (third, "replaced", "dataset", *place(3), uuid(1004), *values(4), *values(3)),
    ]
    return [Change(*row) for row in rows]


def test_changes_between_syncs_in_each_format(synced: Home) -> None:
    told = f"onefs: all changes until {LAST} are known (syncs)\n"
    done = synced.run("changes", "--since", FIRST, "--format", "json", *URL, "--offline")
    answer = json.loads(done.stdout)
    assert [Change(**each) for each in answer.pop("changes")] == wanted()
    assert answer == {"since": FIRST, "known_until": LAST, "source": "syncs", "unknown": []}
    assert done.stderr == told
    tsv = synced.run("changes", "--since", FIRST, "--format", "tsv", *URL, "--offline")
    header, *rows = [line.split("\t") for line in tsv.stdout.splitlines()]
    assert tuple(header) == Change._fields
    assert rows == [["" if v is None else str(v) for v in change] for change in wanted()]
    table = synced.run("changes", "--since", "2023-11-16", *URL, "--offline")
    assert table.stdout.splitlines() == [
        "time                 change    what          size  path",
        f"{LAST}  replaced  dataset      104 B  labone/mouse/2020-01-03/001/alf/a.b.npy",
    ]
    assert table.stderr == told


def test_a_span_without_changes_prints_nothing_and_says_until_when(synced: Home) -> None:
    span = ("--since", "2023-11-15", "--until", "2023-11-15T12:00", "--format", "json")
    done = synced.run("changes", *span, *URL, "--offline")
    assert done.stderr == "onefs: all changes until 2023-11-15T12:00:00 are known (syncs)\n"
    assert json.loads(done.stdout)["changes"] == []


@pytest.mark.parametrize(
    ("terms", "sessions"),
    [
        ({"subject": "mouse", "number": 1}, {1, 2, 3}),
        ({"project": "two"}, {2}),
        ({"date_range": ["2020-01-03", None]}, {3}),
        ({"lab": "labtwo"}, set()),
    ],
)
def test_a_search_restricts_changes_also_of_removed_sessions(
    one: ONE, terms: dict[str, Any], sessions: set[int]
) -> None:
    eids = {uuid(number) for number in sessions}
    assert list(one.changes(FIRST, **terms)) == [each for each in wanted() if each.eid in eids]


def test_a_search_that_needs_the_database_says_that_it_leaves_out_removed_sessions(
    one: ONE,
) -> None:
    with pytest.warns(OnefsWarning, match="were removed cannot be searched by dataset_names"):
        changes = one.changes(FIRST, dataset_names="a.b.npy")
    assert list(changes) == [change for change in wanted() if change.eid != uuid(2)]


def test_what_is_unknown_is_an_error_and_never_nothing(synced: Home, one: ONE) -> None:
    for since, reason in (
        ("2023-11-14", f"the first sync that was compared has the tables of {FIRST}"),
        (LAST, f"the last sync has the tables of {LAST}, run `onefs sync` for newer ones"),
    ):
        for source in (None, "syncs"):
            with pytest.raises(Unreachable, match=f"is unknown here: {reason}"):
                one.changes(since, source=source)
    said = synced.error_of(4, "changes", "--since", FIRST, "--from", "alyx", *URL, "--offline")
    assert "unknown" not in said


def test_before_any_sync_the_error_says_what_to_run(home: Home) -> None:
    said = home.error_of(4, "changes", "--since", "2024-05-01", *URL, "--offline")
    assert "no sync has noted a change yet: run `onefs sync` now" in said
    tables = write(home.root / "tables", [session(1)], [dataset(1, 1)])
    sync_from_files(tables, home.root / "state")
    where = {"ONEFS_STATE_DIR": str(home.root / "state")}
    said = home.error_of(4, "changes", "--since", "2024-05-01", *URL, "--offline", **where)
    assert f"the last sync has the tables of {FIRST}" in said


def test_invalid_arguments_are_one_sentence(synced: Home, one: ONE) -> None:
    for arguments, reason in (
        (("yesterday",), "since: 'yesterday' is not a date like 2024-05-01"),
        ((FIRST, "x"), "until: 'x' is not a date"),
        ((LAST, FIRST), "the changes end before they begin"),
    ):
        with pytest.raises(UsageError, match=reason):
            one.changes(*arguments)
    with pytest.raises(UsageError, match="there is no search term 'labb'"):
        one.changes(FIRST, labb="a")
    terms = ("--since", FIRST, "--search", "limit=2&lab=a")
    assert "leave out limit=" in synced.error_of(2, "changes", *terms, *URL, "--offline")


class DatedLaboratory(RegisteringLaboratory):
    """Sessions on three days; each dataset was created and saved with its session."""

    def __init__(self) -> None:
        super().__init__()
        for day in (1, 2, 3):
            for number in range(1, 4):
                when = f"2024-05-0{day}T12:00:0{number}.000000"
                self.register("labone", f"mouse{number}", f"2024-05-0{day}", 1, at=when)

    def datasets(self, eid: str) -> Sequence[DatasetRecord]:
        """Return the one dataset, with its times."""
        (when,) = [each.auto_datetime for each in self.sessions() if each.eid == eid]
        created = "2024-05-01T12:00:00" if when.startswith("2024-05-02") else when[:19]
        return [
            replace(each, created_datetime=created, auto_datetime=when)
            for each in super().datasets(eid)
        ]


def test_alyx_answers_for_a_date_that_no_sync_covers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    set_home(tmp_path, monkeypatch)
    with Servers(DatedLaboratory()) as servers:
        login = servers.login
        with ONE(login.username, login.password, servers.alyx_url) as one:
            changes = one.changes("2024-05-02")
            assert (changes.source, changes.unknown) == ("alyx", ("removed",))
            found = list(changes)
            assert list(changes) == found
            kinds = [(each.subject[-1], each.date[-1], each.what, each.change) for each in found]
            assert kinds == [
                (subject, day, what, change)
                for subject in "123"
                for day, what, change in (
                    ("2", "session", "added"),
                    ("2", "dataset", "changed"),
                    ("3", "session", "added"),
                    ("3", "dataset", "added"),
                )
            ]
            assert {each.time[:13] for each in found if each.what == "dataset"} == {
                "2024-05-02T12",
                "2024-05-03T12",
            }
            assert {each.path for each in found} == {"", "a.values.npy"}
            assert list(pd.DataFrame(changes).columns) == list(Change._fields)
            late = one.changes("2024-05-03", source="alyx", subject="mouse2")
            assert list(late) == [e for e in found if (e.subject, e.date[-1]) == ("mouse2", "3")]
            registered = one.changes("2024-05-01T18:00", number=7)
            assert list(registered) == []
            with pytest.raises(UsageError, match="known from syncs alone: leave out the end"):
                one.changes("2024-05-02", "2999-01-01")
            with pytest.raises(UsageError, match="is not a source of changes"):
                one.changes("2024-05-02", source="tables")
            assert one.changes("2999-01-01").known_until == "2999-01-01T00:00:00"
            tables = write(tmp_path / "tables", [session(1)], [dataset(1, 1)], "2024-04-01 20:00")
            sync_from_files(tables, access_of(one).settings.state_dir)
            for since, last in (("2024-03-01", "2024-04-01T20:00:00"), ("2024-05-02",) * 2):
                later = one.changes(since)
                assert (later.source, later.known_until[: len(last)]) == ("alyx", last)
        home = Home(tmp_path / "cli", **account(servers))
        done = home.run("changes", "--since", "2024-05-02", "--format", "json")
    assert [Change(**each) for each in json.loads(done.stdout)["changes"]] == found
    assert done.stderr.endswith("are known (alyx); what was removed is unknown\n")


def test_the_public_database_knows_what_its_syncs_have_noted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    set_home(tmp_path, monkeypatch)
    with serve_public() as servers:
        for name, value in variables_of(servers).items():
            monkeypatch.setenv(name, value)
        with ONE.public() as one, pytest.raises(Unreachable) as caught:
            one.changes("2999-01-01")
    assert "the last sync has the tables of" in str(caught.value)
    assert "the public database has no Alyx" in str(caught.value)


@pytest.mark.parametrize(
    "value", ["2024-05-01", pd.Timestamp("2024-05-01"), "2024-05-01T02:00+02:00"]
)
def test_dates_are_texts_and_objects(value: Any) -> None:
    assert parse_date("since", value) == 1714521600.0
