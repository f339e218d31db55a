"""The verbs of ONE-api for datasets, compared with ONE-api itself in remote mode.

Each docstring names what the test follows (see ``test_search.py``).
"""

from __future__ import annotations

import json
import os
import pickle
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from onefs.demo.servers import Servers
from onefs.errors import Ambiguous, NotFound, UsageError
from onefs.one import ONE, OnefsWarning
from onefs.one.alf_objects import AlfBunch
from onefs.one.bunch import Bunch
from tests.call_counts import counted_calls
from tests.laboratories import alyx_requests
from tests.one.conftest import EID, Open, arguments, set_home
from tests.one.one_api_client import assert_same, outcome, remote_client

pytest.importorskip("one.api")

#: a session with two probes, and one whose sorting has a revision
PROBES = "59832991-e2c0-485d-a614-685638968a88"
REVISED = "8efc47ff-6a66-4219-a18b-c43845b63a10"
SORTING = "alf/probe00/pykilosort"


@pytest.fixture(scope="module")
def theirs(servers: Servers, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """Return ONE-api's client."""
    folder = tmp_path_factory.mktemp("theirs")
    with pytest.MonkeyPatch.context() as patch:
        set_home(folder, patch)
        patch.setattr("one.params.CACHE_DIR_DEFAULT", str(folder / "downloads"))
        yield remote_client(servers, folder / "cache")


@pytest.fixture(scope="module")
def eids(shared: ONE) -> list[str]:
    return shared.search(date_range=["2000-01-01", None])


def compare(shared: ONE, theirs: Any, verb: str, *args: Any, **kwargs: Any) -> Any:
    """Assert that a verb has the same outcome in both. Return ours."""
    if verb.startswith("load_") and verb != "load_aggregate":
        kwargs["check_hash"] = False  # ONE-api takes long to hash a file
    expected = outcome(lambda: getattr(theirs, verb)(*args, **kwargs))
    found = outcome(lambda: getattr(shared, verb)(*args, **kwargs))
    if kwargs.get("download_only") and isinstance(found, (list, tuple)) and verb != "load_datasets":
        assert type(found) is type(expected)
        found, expected = sorted(found), sorted(expected)  # ONE-api's order is undefined
    assert_same(found, expected)
    return found


@pytest.mark.parametrize("every", [10, pytest.param(1, marks=pytest.mark.long)])
def test_sessions_are_listed_as_by_one_api(
    shared: ONE, theirs: Any, eids: list[str], every: int
) -> None:
    """ONE-api: the paths, sorted, and the DataFrame with its columns, types and index."""
    assert len(eids) >= 50
    for eid in eids[::every]:
        frame = compare(shared, theirs, "list_datasets", eid, details=True)
        assert shared.list_datasets(eid) == sorted(frame["rel_path"])


@pytest.mark.parametrize(
    "selection",
    [
        {},
        {"filename": "*spikes*"},
        {"filename": {"object": ["spikes", "trials"], "extension": "npy"}},
        {"filename": {"attribute": "*times", "namespace": "ibl"}},
        {"filename": {"object": "channels", "timescale": ""}},
        {"collection": "alf/probe0?"},
        {"collection": ["alf", "raw*"]},
        {"collection": ""},
        {"revision": "2024*"},
        {"revision": ""},
    ],
)
def test_selections(shared: ONE, theirs: Any, selection: dict[str, Any]) -> None:
    """ONE-api: wildcards, lists, dicts of ALF parts, '' for a part that must be absent."""
    for verb in ("list_datasets", "list_collections", "list_revisions"):
        for eid in (EID, REVISED):
            compare(shared, theirs, verb, eid, **selection)


def test_regular_expressions(shared: ONE, theirs: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """ONE-api: without wildcards, patterns are regular expressions."""
    for client in (shared, theirs):
        monkeypatch.setattr(client, "wildcards", False)
    for pattern in ("spikes.*", ".*spikes.*", r".*\.times.npy", "["):
        compare(shared, theirs, "list_datasets", PROBES, pattern)
        compare(shared, theirs, "list_datasets", PROBES, {"object": pattern[:6]})
    compare(shared, theirs, "list_datasets", PROBES, collection=r"alf/probe0\d")
    with pytest.raises(UsageError, match="no regular expression"):
        shared.list_datasets(PROBES, "[")


@pytest.mark.parametrize("qc", ["PASS", "warning", 30, "40", 0, "CRITICAL", "none", 5])
@pytest.mark.parametrize("ignore_qc_not_set", [False, True])
def test_qc(shared: ONE, theirs: Any, qc: object, ignore_qc_not_set: bool) -> None:
    """ONE-api: outcomes at most as bad as ``qc``; NOT_SET is the best."""
    for eid in (EID, PROBES):
        options = {"qc": qc, "ignore_qc_not_set": ignore_qc_not_set}
        compare(shared, theirs, "list_datasets", eid, **options)


def test_details_of_collections_and_revisions(shared: ONE, theirs: Any) -> None:
    """ONE-api: a dict of DataFrames."""
    compare(shared, theirs, "list_collections", REVISED, details=True)
    compare(shared, theirs, "list_revisions", REVISED, details=True)
    compare(shared, theirs, "list_datasets", REVISED, details=True, keep_eid_index=True)


@pytest.mark.parametrize(
    ("eid", "obj", "options"),
    [
        (EID, "licks", {}),
        (EID, "trials", {}),
        (EID, "trials", {"attribute": ["intervals", "choice"]}),
        (EID, "spikes", {"download_only": True}),
        (EID, "*ick*", {}),
        (EID, "nothing", {}),
        (PROBES, "spikes", {}),
        (PROBES, "clusters", {"collection": "alf/probe00"}),
        (PROBES, "wheel", {}),
        (PROBES, "trials", {"namespace": "ibl"}),
        (PROBES, "trials", {"object": "trials"}),
        (PROBES, "trials", {"extension": "nothing"}),
        (REVISED, "spikes", {"collection": SORTING}),
        (REVISED, "spikes", {"collection": SORTING, "revision": "2023-01-01"}),
        (REVISED, "channels", {"collection": SORTING, "revision": "2024-05-06"}),
    ],
)
def test_objects(shared: ONE, theirs: Any, eid: str, obj: str, options: dict[str, Any]) -> None:
    """ONE-api: the same attributes, arrays and tables, or the same kind of error."""
    compare(shared, theirs, "load_object", eid, obj, **options)


@pytest.mark.parametrize(
    ("dataset", "options"),
    [
        ("spikes.times.npy", {"collection": SORTING}),
        ("spikes.times", {"collection": SORTING, "revision": "2023-01-01"}),
        ("spikes.times", {}),
        ("spikes.*", {"collection": SORTING}),
        (f"{SORTING}/spikes.times.npy", {}),
        (f"{SORTING}/#2024-05-06#/spikes.times.npy", {}),
        (f"{SORTING}/spikes.times.npy", {"collection": SORTING}),
        ({"object": "trials", "attribute": "choice"}, {}),
        ({"object": "trials", "attribute": "choice"}, {"download_only": True}),
        ("trials.nothing", {}),
        ({"objects": "trials"}, {}),
    ],
)
def test_datasets_by_name(
    shared: ONE, theirs: Any, dataset: object, options: dict[str, Any]
) -> None:
    """ONE-api: names, object.attribute, dicts, paths; the last revision before a revision."""
    compare(shared, theirs, "load_dataset", REVISED, dataset, **options)


@pytest.mark.parametrize(
    ("datasets", "options"),
    [
        (["_ibl_trials.choice.npy", "_ibl_wheel.position"], {}),
        (["spikes.times", "spikes.amps"], {"collections": SORTING, "revisions": "2023-01-01"}),
        (["spikes.times", "trials.choice"], {"collections": [SORTING, "alf"]}),
        (["spikes.times", "trials.choice"], {"collections": [SORTING]}),
        (["no.such.npy", "_ibl_trials.choice.npy"], {}),
        (["no.such.npy", "_ibl_trials.choice.npy"], {"assert_present": False}),
        ([{"object": "trials", "attribute": "choice"}], {"download_only": True}),
        ([f"{SORTING}/spikes.times.npy", "alf/_ibl_trials.choice.npy"], {}),
        ([f"{SORTING}/#2024-05-06#/spikes.times.npy"], {}),
        ([f"{SORTING}/spikes.times.npy"], {"collections": SORTING}),
        (["_ibl_trials.choice.npy", {"object": "trials"}], {}),
        ("_ibl_trials.choice.npy", {}),
        ([], {}),
    ],
)
def test_several_datasets(shared: ONE, theirs: Any, datasets: Any, options: dict[str, Any]) -> None:
    """ONE-api: contents and records in the order of the argument, None for what is missing."""
    compare(shared, theirs, "load_datasets", REVISED, datasets, **options)


def test_a_frame_of_datasets_is_loaded(shared: ONE, theirs: Any) -> None:
    """ONE-api: ``load_datasets`` takes the DataFrame of ``list_datasets``, with its revisions."""
    selection: dict[str, Any] = {"filename": "spikes.times*", "details": True}
    with pytest.warns(OnefsWarning, match="not the default revisions"):
        ours = shared.load_datasets(REVISED, shared.list_datasets(REVISED, **selection))
    frame = theirs.list_datasets(REVISED, **selection)
    assert_same(ours, outcome(lambda: theirs.load_datasets(REVISED, frame, check_hash=False)))
    assert len(ours[0]) == 2


@pytest.mark.parametrize(
    ("collection", "options"),
    [
        ("alf", {"object": ["wheel", "trials"]}),
        ("alf", {"object": "trials", "download_only": True}),
        ("", {}),
        ("nothing", {}),
        ("alf", {"object": "nothing"}),
    ],
)
def test_collections(shared: ONE, theirs: Any, collection: str, options: dict[str, Any]) -> None:
    """ONE-api: a Bunch of objects."""
    compare(shared, theirs, "load_collection", REVISED, collection, **options)


def test_datasets_by_id(shared: ONE, theirs: Any) -> None:
    """ONE-api: by UUID or text, also with details."""
    frame = theirs.list_datasets(EID, "licks.times.npy", details=True)
    uuid = frame.index[0]
    expected = theirs.load_dataset_from_id(uuid)
    assert_same(shared.load_dataset_from_id(uuid), expected)
    data, record = shared.load_dataset_from_id(str(uuid), details=True)
    assert_same(data, expected)
    assert record.name == (EID, str(uuid))
    assert record["rel_path"] == frame["rel_path"].iloc[0]
    path = shared.load_dataset_from_id(uuid, download_only=True)
    assert_same(path, theirs.load_dataset_from_id(uuid, download_only=True))
    numbers = np.frombuffer(uuid.bytes, dtype=np.int64)
    assert_same(shared.load_dataset_from_id(numbers), expected)
    with pytest.raises(NotFound):
        shared.load_dataset_from_id("00000000-0000-4000-8000-000000000000")
    with pytest.raises(UsageError):
        shared.load_dataset_from_id("licks")


def test_types(shared: ONE, theirs: Any, capsys: pytest.CaptureFixture[str]) -> None:
    """ONE-api: datasets of a type, the type of a dataset, and descriptions, which are printed."""
    compare(shared, theirs, "type2datasets", EID, "licks.times")
    compare(shared, theirs, "type2datasets", EID, ["licks.times", "spikes.times"])
    compare(shared, theirs, "type2datasets", EID, "licks.times", details=True)
    compare(shared, theirs, "type2datasets", EID, 5)
    uuid = theirs.list_datasets(EID, "licks.times.npy", details=True).index[0]
    for name in (uuid, str(uuid), "licks.times.npy"):
        assert compare(shared, theirs, "dataset2type", name) == "licks.times"
    capsys.readouterr()
    for verb, argument in (
        ("describe_dataset", "licks.times"),
        ("describe_dataset", "licks.times.npy"),
        ("describe_revision", "2024-05-06"),
        ("describe_revision", "nothing"),
    ):
        printed = []
        for client in (shared, theirs):
            row = getattr(client, verb)(argument)
            printed.append((row, capsys.readouterr().out))
        assert printed[0] == printed[1]
    assert shared.describe_revision("2024-05-06", full=True) == theirs.describe_revision(
        "2024-05-06", full=True
    )
    assert shared.describe_dataset() == list(theirs.describe_dataset())


def test_aggregates(shared: ONE, theirs: Any) -> None:
    """ONE-api: the table of aggregates, and one of them."""
    compare(shared, theirs, "list_aggregates", "subjects")
    compare(shared, theirs, "list_aggregates", "Subjects", "clns0730")
    compare(shared, theirs, "list_aggregates", "nothing")
    compare(shared, theirs, "load_aggregate", "subjects", "clns0730")
    compare(shared, theirs, "load_aggregate", "subjects", "clns0730", "_ibl_subjectTraining.table")
    compare(shared, theirs, "load_aggregate", "subjects", "nothing")
    path = shared.load_aggregate("subjects", "clns0730", download_only=True)
    assert path.relative_to(shared.cache_dir).parts[:3] == ("aggregates", "Subjects", "mainenlab")


def test_a_revision_of_the_environment(
    shared: ONE, theirs: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """ONE-api: ONE_REVISION_LAST_BEFORE, which ONE-api reads when it is imported."""
    monkeypatch.setenv("ONE_REVISION_LAST_BEFORE", "2023-01-01")
    monkeypatch.setattr("one.api.REVISION_LAST_BEFORE", "2023-01-01")
    old = compare(shared, theirs, "load_dataset", REVISED, "spikes.times", SORTING)
    compare(shared, theirs, "load_datasets", REVISED, ["spikes.times"], SORTING)
    compare(shared, theirs, "load_datasets", REVISED, [f"{SORTING}/spikes.times.npy"])
    monkeypatch.delenv("ONE_REVISION_LAST_BEFORE")
    assert not np.array_equal(old, shared.load_dataset(REVISED, "spikes.times", SORTING))


def test_names_of_sessions(shared: ONE, theirs: Any) -> None:
    """ONE-api: a session by its eid, its ref, its path, its URL, or a dict."""
    expected = shared.list_datasets(EID)
    record = shared.list(EID, "all")[0]
    for name in (
        "2018-08-24_1_clns0730",
        f"{shared.url}/sessions/{EID}",
        shared.cache_dir / "mainenlab" / "Subjects" / "clns0730" / "2018-08-24" / "001",
        {key: record[key] for key in ("lab", "subject", "number", "start_time")},
        {"lab": "mainenlab", "subject": "clns0730", "number": 1, "date": "2018-08-24"},
    ):
        assert shared.list_datasets(name) == expected
    with pytest.raises(UsageError):
        shared.list_datasets({"lab": "mainenlab"})
    with pytest.raises(ValueError, match="query_type"):
        shared.list_datasets(EID, query_type="somewhere")


def test_default_revisions_only(shared: ONE) -> None:
    """Ours: ONE-api ignores ``default_revisions_only`` in remote mode."""
    default = shared.list_datasets(REVISED, "spikes.times*", default_revisions_only=True)
    assert default == [f"{SORTING}/#2024-05-06#/spikes.times.npy"]


def test_each_name_of_a_list_is_a_pattern(shared: ONE) -> None:
    """Ours: ONE-api finds the second name of a list only in the session's own folder."""
    names = ["spikes.times*", "clusters.depths*"]
    found = shared.list_datasets(PROBES, names, "alf/probe00")
    assert found == ["alf/probe00/clusters.depths.npy", "alf/probe00/spikes.times.npy"]


def test_the_revision_of_a_collection(shared: ONE) -> None:
    """Ours: ONE-api takes the revision of ``load_collection`` for a collection."""
    loaded = shared.load_collection(REVISED, SORTING, object="spikes", revision="2023-01-01")
    expected = shared.load_object(REVISED, "spikes", SORTING, "2023-01-01")
    assert_same(dict(loaded["spikes"]), dict(expected))


def test_loaded_ids(opened: Open) -> None:
    """ONE-api: the ids of what is loaded, while ``record_loaded`` is True, as a CSV file."""
    one = opened()
    one.load_dataset(EID, "licks.times")
    with pytest.warns(OnefsWarning, match="record_loaded"):
        assert one.save_loaded_ids() == ([], None)
    one.record_loaded = True
    one.load_dataset(EID, "licks.times")
    eids, path = one.save_loaded_ids(sessions_only=True, clear_list=False)
    assert eids == [EID]
    assert path is not None
    assert path.read_text().splitlines() == ["session_uuid", EID]
    (uuid,), path = one.save_loaded_ids()
    assert one.load_dataset_from_id(uuid).shape
    assert path is not None
    assert path.parent == one.cache_dir


def test_bunches() -> None:
    """ONE-api: items are attributes; objects are appended, and converted to DataFrames."""
    from one.alf.io import AlfBunch as Theirs

    data = {
        "times": np.arange(3.0),
        "intervals": np.ones((3, 2)),
        "column": np.ones((3, 1)),
        "wide": np.ones((3, 12)),
        "list": [1, 2, 3],
    }
    bunch = AlfBunch(data)
    assert bunch.times is bunch["times"]
    bunch.more = np.zeros(3)
    assert "more" in dir(bunch)
    del bunch.more
    assert "more" not in bunch
    with pytest.raises(AttributeError, match="more"):
        del bunch.more
    with pytest.raises(AttributeError, match="more"):
        _ = bunch.more
    assert list(AlfBunch({"items": [1]}).items()) == [("items", [1])]
    arrays = {key: value for key, value in data.items() if key != "list"}
    assert_same(AlfBunch(arrays).to_df(), Theirs(arrays).to_df())
    assert_same(AlfBunch({"a": data["times"]}).to_df(), Theirs({"a": data["times"]}).to_df())
    frame = AlfBunch({"times": data["times"], "intervals": data["intervals"]}).to_df()
    assert_same(dict(AlfBunch.from_df(frame)), dict(Theirs.from_df(frame)))
    assert_same(dict(AlfBunch(data).append(data)), dict(Theirs(data).append(data)))
    assert_same(dict(AlfBunch(data).append({})), data)
    assert AlfBunch().append(data)["list"] == [1, 2, 3]
    with pytest.raises(NotImplementedError):
        AlfBunch(data).append({"times": data["times"]})
    uneven = {"a": np.zeros(3), "b": np.zeros(2)}
    assert AlfBunch(uneven).check_dimensions == Theirs(uneven).check_dimensions == 1
    with pytest.raises(ValueError, match="same length"):
        AlfBunch(uneven).to_df()
    copies = Bunch(data).copy(deep=True), pickle.loads(pickle.dumps(AlfBunch(data)))
    for copy in copies:
        assert copy.times is copy["times"]
        assert copy.times is not data["times"]
    assert type(copies[1].copy()) is AlfBunch


def test_a_cold_load_needs_few_requests(opened: Open, servers: Servers) -> None:
    """Ours: four requests to Alyx, two at a time, and each file once; then none."""
    one = opened()
    one.load_object(EID, "licks")
    paths = sorted(each.path.partition("?")[0] for each in alyx_requests(servers))
    assert paths == ["/data-repository", "/datasets", "/sessions", "/sessions"]
    servers.clear_requests()
    one.load_object(EID, "licks")
    one.list_collections(EID)
    assert not servers.requests


def test_a_warm_load_hashes_nothing_and_asks_sqlite_rarely(shared: ONE) -> None:
    """Ours: cached files were verified when they were downloaded."""
    shared.load_object(PROBES, "trials", "alf")
    with counted_calls() as calls:
        shared.load_object(PROBES, "trials", "alf")
    assert not [name for name in calls if "md5" in name or "rehash" in name]
    statements = sum(n for name, n in calls.items() if name.endswith("_fetch_rows"))
    assert statements <= 6


def test_arrays_need_no_pandas(servers: Servers, tmp_path: Path) -> None:
    """Ours: an object of npy files is loaded without pandas."""
    script = """
import json, sys
from onefs import ONE
with ONE(**json.loads(sys.argv[1])) as one:
    one.load_object(sys.argv[2], "licks")
assert "pandas" not in sys.modules and "pyarrow" not in sys.modules
"""
    given = json.dumps(arguments(servers))
    command = [sys.executable, "-c", script, given, EID]
    ended = subprocess.run(
        command, capture_output=True, text=True, timeout=120, env=dict(os.environ), check=False
    )
    assert (ended.returncode, ended.stderr) == (0, "")


def test_errors_name_what_is_missing(shared: ONE) -> None:
    """Ours: sentences that name the session."""
    with pytest.raises(NotFound, match="2018-08-24_1_clns0730 has no ALF object 'nothing'"):
        shared.load_object(EID, "nothing")
    with pytest.raises(Ambiguous, match="several collections"):
        shared.load_object(PROBES, "spikes")
    with pytest.raises(NotFound, match=r"has no dataset 'no\.such'"):
        shared.load_dataset(EID, "no.such")
