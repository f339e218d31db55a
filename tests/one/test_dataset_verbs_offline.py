"""The verbs of ONE-api for datasets, offline with cache tables, compared with ONE-api itself.

Each docstring names what the test follows (see ``test_search.py``).
"""

from __future__ import annotations

import re
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from onefs import releases
from onefs.cache_tables.parquet_export import export
from onefs.cache_tables.reader import TABLES_FILE_NAME
from onefs.demo.servers import Servers
from onefs.errors import NotFound, UsageError
from onefs.one import ONE, OnefsWarning
from onefs.one.alf_patterns import parse_name
from tests.call_counts import counted_calls
from tests.one.conftest import EID, Open, arguments, set_home
from tests.one.one_api_client import assert_same, local_client, outcome
from tests.one.opened import access_of

pytest.importorskip("one.api")

UNKNOWN = "00000000-0000-4000-8000-000000000000"
REVISED = "8efc47ff-6a66-4219-a18b-c43845b63a10"


class Clients(NamedTuple):
    """Our client offline, ONE-api's in local mode, and the eids of all sessions."""

    ours: ONE
    theirs: Any
    eids: list[str]


@pytest.fixture(scope="module")
def clients(servers: Servers, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Clients]:
    """Return clients that have the same tables, and in their cache folders the same files."""
    folder = tmp_path_factory.mktemp("offline")
    with pytest.MonkeyPatch.context() as patch:
        set_home(folder, patch)
        with ONE(**arguments(servers)) as online:
            assert online.load_cache() is not None
            online.load_object(EID, "licks")
            tables = _export_tables(online)
            online.load_collection(REVISED, "alf", object="wheel")
            eids = online.search(date_range=["2000-01-01", None])
        with ONE(**arguments(servers), offline=True) as ours:
            servers.clear_requests()
            yield Clients(ours, local_client(tables), eids)
            assert not servers.requests


def _export_tables(one: ONE) -> Path:
    """Write the tables to the cache folder of ``one``, as ONE-api reads them. Return the folder."""
    tables = access_of(one).settings.state_dir / TABLES_FILE_NAME
    export(tables, one.cache_dir)
    return one.cache_dir


def compare(clients: Clients, verb: str, *args: Any, **kwargs: Any) -> Any:
    """Assert that a verb has the same outcome in both. Return ours."""
    if verb.startswith("load_"):
        kwargs["check_hash"] = False  # ONE-api takes long to hash a file
    expected = outcome(lambda: getattr(clients.theirs, verb)(*args, **kwargs))
    found = outcome(lambda: getattr(clients.ours, verb)(*args, **kwargs))
    assert_same(found, expected)
    return found


def test_all_sessions(clients: Clients) -> None:
    """ONE-api: the datasets in the tables, with the columns and types of the tables."""
    for eid in clients.eids:
        compare(clients, "list_datasets", eid, details=True)
        compare(clients, "list_datasets", eid)
        compare(clients, "list_revisions", eid)


def test_the_whole_database(clients: Clients) -> None:
    """ONE-api: without a session, the datasets of all sessions."""
    assert len(compare(clients, "list_datasets")) > 100
    compare(clients, "list_datasets", details=True)
    compare(clients, "list_datasets", filename="*spikes.times*", qc="PASS")
    compare(clients, "list_collections")
    compare(clients, "list_revisions")
    compare(clients, "list_collections", filename={"object": "spikes"}, details=True)
    compare(clients, "list_datasets", REVISED, details=True, default_revisions_only=True)


def test_the_whole_database_needs_few_statements(clients: Clients) -> None:
    """Ours: one statement for many sessions, and records only of datasets that match."""
    with counted_calls() as calls:
        paths = clients.ours.list_datasets(filename="*spikes.times*")
    assert paths
    few = len(clients.eids) // 2
    assert sum(n for name, n in calls.items() if name.endswith("_fetch_rows")) < few
    with counted_calls() as calls:
        assert clients.ours.list_datasets(filename="nothing") == []
    assert calls["reader._decode_dataset"] < few


def test_cached_files_are_loaded(clients: Clients) -> None:
    """ONE-api: files that are cached; others are left out, and an error if all are missing."""
    compare(clients, "load_object", EID, "licks")
    compare(clients, "load_object", EID, "spikes")
    compare(clients, "load_dataset", EID, "licks.times")
    compare(clients, "load_dataset", EID, "spikes.times")
    compare(clients, "load_collection", REVISED, "alf", object=["wheel", "trials"])
    names = ["_ibl_wheel.position.npy", "_ibl_trials.choice.npy"]
    compare(clients, "load_datasets", REVISED, names)
    theirs = clients.theirs.load_datasets(REVISED, names, assert_present=False, check_hash=False)
    with pytest.warns(OnefsWarning, match="cannot be downloaded"):
        ours = clients.ours.load_datasets(REVISED, names, assert_present=False)
    assert_same(ours[0], theirs[0])
    assert [each["rel_path"] for each in ours[1]] == [f"alf/{name}" for name in names]


def test_an_unknown_session_is_as_in_one_api(clients: Clients) -> None:
    """ONE-api: in mode local it has no datasets, and loading from it is ALFObjectNotFound."""
    for name in (UNKNOWN, "nobody/2018-08-24/001"):
        for verb in ("list_datasets", "list_collections", "list_revisions"):
            with pytest.warns(OnefsWarning, match="not in the catalogue"):
                found = getattr(clients.ours, verb)(name)
            assert len(found) == len(getattr(clients.theirs, verb)(name)) == 0
    missing = sys.modules["one.alf.exceptions"].ALFObjectNotFound
    for one in (clients.ours, clients.theirs):
        with pytest.raises(missing):
            one.load_object(UNKNOWN, "licks")
        with pytest.raises(missing):
            one.load_dataset(UNKNOWN, "licks.times")
        with pytest.raises(missing):
            one.load_dataset_from_id(UNKNOWN)
    assert str(clients.ours).endswith("offline>")
    assert "offline" in str(clients.theirs)


def test_files_of_other_programs_are_loaded(opened: Open) -> None:
    """Ours: offline, a file is verified and loaded that ONE-api has stored in the cache folder."""
    with opened() as online:
        online.load_cache()
        path = online.load_dataset(EID, "licks.times", download_only=True)
        kept = path.with_name("kept")
        shutil.copy(path, kept)
        access_of(online).content.admin.clear()
        assert not path.exists()
        shutil.move(kept, path)
    with opened(offline=True) as offline:
        assert offline.load_dataset(EID, "licks.times").shape
        with pytest.raises(NotFound, match="not on this machine"):
            offline.load_dataset(EID, "spikes.times")


def test_a_release_is_loaded(opened: Open, servers: Servers) -> None:
    """ONE-api: ``load_cache(tag=)`` shows the datasets of the release only."""
    with opened() as one:
        (tag, *_) = releases.tags_on_server(access_of(one))
        whole = one.list_datasets(REVISED)
        assert one.load_cache(tag=tag) is not None
        in_release = one.list_datasets()
        assert in_release
        assert len(one.search(limit=1000)) <= 50
        assert one.load_cache(tag=tag) is not None
        with pytest.raises(NotFound):
            one.load_cache(tag="no_such_release")
        assert one.list_datasets() == in_release
        assert whole
        for name in (None, tag):
            with pytest.raises(UsageError, match="give no tables_dir"):
                one.load_cache(one.cache_dir, tag=name)


def test_tables_of_a_folder_are_loaded(clients: Clients, opened: Open) -> None:
    """ONE-api: ``load_cache(tables_dir=)`` loads tables without a request."""
    with opened(offline=True) as one:
        assert one.load_cache(clients.ours.cache_dir) is not None
        assert one.list_datasets(EID) == clients.ours.list_datasets(EID)


#: names and parts of names of the laboratory's files
_NAMES = (
    *("_ibl_trials.choice.npy", "spikes.times.npy", "clusters.metrics.csv"),
    *("_iblrig_taskSettings.raw.json", "templates.waveforms.npy"),
)
_PARTS = {
    part: sorted({str(value) for name in _NAMES if (value := getattr(parse_name(name), part))})
    for part in ("namespace", "object", "attribute", "extra", "extension")
}


def _patterns(texts: tuple[str, ...] | list[str]) -> st.SearchStrategy[str]:
    """Return texts, and patterns of the shell that are made of them."""
    text = st.sampled_from([*texts, ""])
    ends = st.sampled_from(["", "*", "?", "[st]", "[!a]*"])
    return st.builds(
        lambda start, text, cut, end: f"{start}{text[:cut]}{end}",
        ends,
        text,
        st.integers(0, 12),
        ends,
    )


_FILENAMES = st.one_of(
    st.none(),
    _patterns(_NAMES),
    st.fixed_dictionaries(
        {},
        optional={
            part: st.one_of(
                st.none(), _patterns(texts), st.lists(_patterns(texts), min_size=1, max_size=2)
            )
            for part, texts in _PARTS.items()
        },
    ),
)
_COLLECTIONS = _patterns(["alf", "alf/probe00", "alf/probe00/pykilosort", "raw_behavior_data"])
_REVISIONS = _patterns(["2024-05-06", "2023-01-01"])
_SELECTIONS = st.fixed_dictionaries(
    {},
    optional={
        "filename": _FILENAMES,
        "collection": st.one_of(st.none(), _COLLECTIONS, st.lists(_COLLECTIONS, max_size=2)),
        "revision": st.one_of(st.none(), _REVISIONS),
        "qc": st.sampled_from(["PASS", "WARNING", "FAIL", "CRITICAL", 0, 30]),
        "ignore_qc_not_set": st.booleans(),
    },
)


def _is_expression(text: str) -> bool:
    try:
        return bool(re.compile(text))
    except re.error:
        return False


@settings(
    max_examples=50,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(data=st.data())
def test_generated_selections(clients: Clients, data: st.DataObject) -> None:
    """ONE-api: any wildcards and regular expressions select the same datasets."""
    selection = data.draw(_SELECTIONS)
    eid = data.draw(st.sampled_from(clients.eids))
    wildcards = data.draw(st.booleans())
    name = selection.get("filename")
    # ONE-api joins a name to other patterns, which can make an expression of an invalid one
    assume(wildcards or not isinstance(name, str) or _is_expression(name))
    clients.ours.wildcards = clients.theirs.wildcards = wildcards
    try:
        compare(clients, "list_datasets", eid, **selection)
    finally:
        clients.ours.wildcards = clients.theirs.wildcards = True


@settings(
    max_examples=40,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(
    filename=_FILENAMES,
    collection=st.one_of(st.none(), _COLLECTIONS),
    revision=st.sampled_from([None, "2022-01-01", "2023-01-01", "2024-05-06", "2030-01-01"]),
)
def test_generated_versions(
    clients: Clients, filename: Any, collection: str | None, revision: str | None
) -> None:
    """ONE-api: ``load_datasets`` and ``load_object`` choose the same files and versions."""
    from one.util import filter_datasets

    from onefs.one.dataset_filter import DatasetFilter
    from onefs.one.dataset_records import to_frame

    records = list(clients.ours._records(REVISED, None, DatasetFilter()))
    frame = to_frame(records, as_table=True, keep_eid=False)
    selection = DatasetFilter(filename, collection, revision)
    for assert_unique, choose in ((True, selection.unique), (False, selection.latest)):
        expected = outcome(
            lambda unique=assert_unique: filter_datasets(  # type: ignore[misc]
                frame, filename, collection, revision, assert_unique=unique, wildcards=True
            )
        )
        found = outcome(lambda choose=choose: choose(records))  # type: ignore[misc]
        if isinstance(expected, str):
            assert found == expected
        else:
            assert [each.rel_path for each in found] == list(expected["rel_path"])


def test_another_kind_of_error(clients: Clients) -> None:
    """Ours: invalid arguments are UsageErrors that name them."""
    for arguments_ in (
        {"qc": "good"},
        {"qc": None},
        {"filename": 5},
        {"filename": [5]},
        {"filename": {"part": "x"}},
        {"collection": b"alf"},
    ):
        with pytest.raises(UsageError):
            clients.ours.list_datasets(EID, **arguments_)
