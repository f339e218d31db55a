"""Every verb of ONE-api with generated arguments, in remote and in local mode, and in ours.

In the mode ``local`` both have the same tables and files, and no request is sent.
"""

from __future__ import annotations

import contextlib
import io
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path, PurePath
from typing import Any, NamedTuple
from uuid import UUID

import pandas as pd
import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from onefs.demo.servers import Servers
from onefs.errors import OnefsError, Unreachable, UsageError
from onefs.one import ONE
from tests.one.conftest import EID, arguments, set_home
from tests.one.one_api_client import assert_same, outcome, remote_client

pytest.importorskip("one.api")

REVISED = "8efc47ff-6a66-4219-a18b-c43845b63a10"
PROBES = "59832991-e2c0-485d-a614-685638968a88"
UNKNOWN = "00000000-0000-4000-8000-000000000000"
SORTING = "alf/probe00/pykilosort"
MODES = ("remote", "local")


class Known(NamedTuple):
    """What arguments are made of: names that the laboratory has."""

    eids: list[str]
    paths: list[str]
    refs: list[str]
    files: list[str]
    dataset_ids: list[str]
    pids: list[str]


class Both(NamedTuple):
    """Our client and ONE-api's, in one mode."""

    ours: ONE
    theirs: Any
    known: Known


class InCache(NamedTuple):
    """An argument: a path in the cache folder of the client that is called."""

    path: str


class RecordOf(NamedTuple):
    """An argument: ONE-api's record of a path."""

    path: str


@pytest.fixture(scope="module")
def both(servers: Servers, tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Both]]:
    """Return the clients of each mode."""
    folder = tmp_path_factory.mktemp("verbs")
    with pytest.MonkeyPatch.context() as patch:
        set_home(folder, patch)
        patch.setattr("one.params.CACHE_DIR_DEFAULT", str(folder / "downloads"))
        remote = remote_client(servers, folder / "cache")
        with (
            ONE(**arguments(servers), cache_dir=folder / "ours") as online,
            ONE(**arguments(servers), cache_dir=folder / "ours", offline=True) as offline,
        ):
            online.load_cache()
            online.save_cache(folder / "tables")
            online.load_object(EID, "licks")
            online.load_collection(REVISED, "alf", object="wheel")
            online.load_object(REVISED, "channels", SORTING, "2023-01-01")
            for name in ("spikes.times", "_ibl_trials.choice"):
                online.load_dataset(REVISED, name)
            local = remote_client(servers, folder / "ours")
            local.load_cache(folder / "tables")
            local.mode = "local"
            known = _known(online, remote)
            yield {"remote": Both(online, remote, known), "local": Both(offline, local, known)}


def _known(online: ONE, remote: Any) -> Known:
    eids = online.search(date_range=["2000-01-01", None])
    paths = [
        str(path.relative_to(online.cache_dir))
        for path in online.eid2path(eids)
        if path is not None
    ]
    some = [EID, REVISED, PROBES]
    frames = [remote.list_datasets(eid, qc="CRITICAL", details=True) for eid in some]
    files = [
        f"{online.eid2path(eid).relative_to(online.cache_dir)}/{path}"
        for eid, frame in zip(some, frames, strict=True)
        for path in frame["rel_path"]
        # ONE-api finds the URL of a file by its name alone, and does not encode a revision's sign
        if list(frame["rel_path"].str.rpartition("/")[2]).count(path.rpartition("/")[2]) == 1
        and "#" not in path
    ]
    ids = [str(uuid) for frame in frames for uuid in frame.index]
    pids = [str(pid) for pid in remote.search_insertions()]
    refs = online.eid2ref(eids, as_dict=False)
    return Known(eids, paths, refs, files, ids, pids)


# -- arguments


def _args(*args: Any, **kwargs: Any) -> st.SearchStrategy[tuple[tuple[Any, ...], dict[str, Any]]]:
    """Return calls with positional arguments, and with some of the keyword arguments."""
    return st.tuples(st.tuples(*args), st.fixed_dictionaries({}, optional=kwargs))


def _one_of(names: list[str]) -> st.SearchStrategy[str]:
    return st.sampled_from(names)


def _sessions(known: Known) -> st.SearchStrategy[Any]:
    return st.one_of(
        _one_of(known.eids),
        st.sampled_from([EID, REVISED, PROBES]),
        _one_of(known.eids).map(UUID),
        _one_of(known.paths).map(InCache),
        st.sampled_from([known.refs[0], UNKNOWN, "nonsense"]),
    )


def _paths_of_refs(known: Known) -> st.SearchStrategy[InCache]:
    return _one_of([path for path in known.paths if "." not in path]).map(InCache)


_BOOL = st.booleans()
_COLLECTION = st.sampled_from([None, "alf", "alf/*", "alf/probe00", SORTING, "raw*", "", "none"])
_REVISION = st.sampled_from([None, "2023-01-01", "2024-05-06", "2000-01-01", ""])
_OBJECT = st.sampled_from(["trials", "wheel", "licks", "spikes", "channels", "*heel*", "none"])
_FILENAME = st.one_of(
    st.sampled_from([None, "*times*", "spikes.times.npy", "_ibl_*", "none"]),
    st.fixed_dictionaries({}, optional={"object": _OBJECT, "extension": st.just("npy")}),
)
_NAME = st.sampled_from(
    ["licks.times", "trials.choice", "_ibl_wheel.position.npy", "spikes.times", "no.such.npy"]
)
_QC = st.sampled_from(["PASS", "FAIL", "CRITICAL", 30, 0])
_TYPE = st.sampled_from(["licks.times", "spikes.times", "trials.choice", "no.such"])
_SOURCE = st.sampled_from([None, "remote", "local"])

_REF = st.one_of(
    st.sampled_from(["2018-08-24_001_a_b", "x", "", "2018-08-24_1234_x"]),
    st.fixed_dictionaries(
        {"subject": st.just("KS-1"), "date": st.just("2018-08-24"), "sequence": st.just("001")}
    ),
)
_SEARCH = {
    "subject": st.sampled_from(["clns0730", "KS023", "nobody"]),
    "lab": st.sampled_from(["mainenlab", "cortexlab"]),
    "number": st.sampled_from([1, 2]),
    "task_protocol": st.sampled_from(["ephys", "wheel", "none"]),
    "projects": st.sampled_from(["brainwide", "tutorial"]),
    "date_range": st.sampled_from(
        ["2018-08-24", ["2018-01-01", "2019-12-31"], ["2019-01-01", None]]
    ),
    "datasets": st.sampled_from(["licks.times.npy", ["spikes.times.npy", "spikes.clusters.npy"]]),
}  # fmt: skip

Calls = Callable[[Known], st.SearchStrategy[tuple[tuple[Any, ...], dict[str, Any]]]]
_LISTED = {"filename": _FILENAME, "collection": _COLLECTION, "revision": _REVISION}
#: calls that load are few, because ONE-api downloads each file, and sends a request for each
_LOADED = {"download_only": _BOOL, "check_hash": st.just(False)}
CALLS: Mapping[str, Calls] = {
    "dataset2type": lambda known: _args(
        st.one_of(_one_of(known.dataset_ids), st.just("no.such.npy"))
    ),
    "describe_dataset": lambda _: _args(_TYPE),
    "describe_revision": lambda _: _args(
        st.sampled_from(["2024-05-06", "2023-01-01", "none"]), full=_BOOL
    ),
    "dict2ref": lambda _: _args(_REF.filter(lambda ref: not isinstance(ref, str))),
    "eid2path": lambda known: _args(_sessions(known), query_type=_SOURCE),
    "eid2pid": lambda known: _args(_sessions(known), details=_BOOL),
    "eid2ref": lambda known: _args(_sessions(known), as_dict=_BOOL, parse=_BOOL),
    "get_details": lambda known: _args(_sessions(known), full=_BOOL),
    "is_exp_ref": lambda known: _args(st.one_of(_REF, _one_of(known.refs))),
    "list_aggregates": lambda _: _args(
        st.sampled_from(["subjects", "Subjects", "tags", "none"]),
        identifier=st.sampled_from(["clns0730", "mainenlab", "none"]),
        dataset=st.sampled_from(["*table*", {"object": "clusters"}, "none"]),
    ),
    "list_collections": lambda known: _args(_sessions(known), details=_BOOL, **_LISTED),
    "list_datasets": lambda known: _args(
        _sessions(known),
        qc=_QC,
        ignore_qc_not_set=_BOOL,
        details=_BOOL,
        keep_eid_index=_BOOL,
        **_LISTED,
    ),
    "list_revisions": lambda known: _args(_sessions(known), details=_BOOL, **_LISTED),
    "load_aggregate": lambda _: _args(
        st.just("subjects"),
        st.sampled_from(["clns0730", "none"]),
        dataset=st.sampled_from([None, "_ibl_subjectTraining.table", "none"]),
        download_only=_BOOL,
    ),
    "load_collection": lambda _: _args(
        st.sampled_from([EID, REVISED]),
        st.sampled_from(["alf", "none"]),
        st.sampled_from(["wheel", "licks", ["wheel", "trials"], "none"]),
        **_LOADED,
    ),
    "load_dataset": lambda _: _args(
        st.sampled_from([EID, REVISED]),
        _NAME,
        collection=_COLLECTION,
        revision=_REVISION,
        **_LOADED,
    ),
    "load_dataset_from_id": lambda known: _args(
        st.one_of(_one_of(known.dataset_ids[:3]), st.sampled_from([UNKNOWN, "x"])), details=_BOOL,
        **_LOADED,
    ),
    "load_datasets": lambda _: _args(
        st.sampled_from([EID, REVISED]),
        st.lists(_NAME, max_size=2, unique=True),
        assert_present=_BOOL,
        **_LOADED,
    ),
    "load_object": lambda _: _args(
        st.sampled_from([EID, REVISED]),
        st.sampled_from(["licks", "wheel", "channels", "*heel*", "none"]),
        collection=_COLLECTION,
        revision=_REVISION,
        attribute=st.sampled_from(["times", "*", ["position", "times"]]),
        **_LOADED,
    ),
    "list_subjects": lambda _: _args(),
    "path2eid": lambda known: _args(
        st.one_of(_one_of([*known.paths, *known.files]).map(InCache), st.just("/tmp/x")),
        query_type=_SOURCE,
    ),
    "path2record": lambda known: _args(
        _one_of([*known.paths, *known.files, f"{known.paths[0]}/no.such.npy"]).map(InCache)
    ),
    # ONE-api does not take ``parse`` with ``as_dict=False``
    "path2ref": lambda known: st.one_of(
        _args(_paths_of_refs(known), as_dict=_BOOL), _args(_paths_of_refs(known), parse=_BOOL)
    ),
    "path2url": lambda known: _args(_one_of([*known.files, "a/b"]).map(InCache)),
    "pid2eid": lambda known: _args(
        st.one_of(_one_of(known.pids), _one_of(known.pids).map(UUID)), query_type=_SOURCE
    ),
    "record2path": lambda known: _args(_one_of(known.files).map(RecordOf)),
    "record2url": lambda known: _args(_one_of([*known.paths, *known.files]).map(RecordOf)),
    "ref2dict": lambda known: _args(st.one_of(_REF, _one_of(known.refs)), parse=_BOOL),
    "ref2eid": lambda known: _args(
        st.one_of(_one_of(known.refs), st.sampled_from(["2018-08-24_9_clns0730", "x"]))
    ),
    "ref2path": lambda known: _args(_one_of(known.refs)),
    "search": lambda _: st.tuples(
        st.just(()),
        st.fixed_dictionaries({"details": _BOOL}, optional=_SEARCH).filter(lambda it: len(it) > 1),
    ),
    "search_insertions": lambda _: _args(
        name=st.sampled_from(["probe00", "probe01"]),
        subject=st.sampled_from(["KS023", "nobody"]),
        lab=st.just("cortexlab"),
        number=st.just(1),
        details=_BOOL,
    ),
    "search_terms": lambda _: _args(st.just("local")),
    "to_eid": lambda known: _args(_sessions(known)),
    "type2datasets": lambda known: _args(_sessions(known), _TYPE, details=_BOOL),
}  # fmt: skip
#: what ONE-api answers from the history of its client, in one of the modes
_OF_HISTORY = {
    "remote": {"list_subjects", "path2record"},
    "local": {"search_insertions", "pid2eid", "eid2pid"},
}
#: verbs that write, with tests of their own below
WRITING = {"save_cache", "save_loaded_ids"}


# -- the comparison


def _given(client: Any, theirs: Any, value: Any) -> Any:
    if isinstance(value, InCache):
        return Path(client.cache_dir, value.path)
    if isinstance(value, RecordOf):
        return theirs.path2record(Path(theirs.cache_dir, value.path))
    return value


def _plain(client: Any, value: Any) -> Any:
    """Return a result with paths relative to the cache folder.

    Whether a file exists is left out, since ONE-api changes it in its tables when it loads.
    """
    if isinstance(value, pd.DataFrame):
        return value.drop(columns="exists", errors="ignore")
    if isinstance(value, pd.Series):
        return value.drop("exists", errors="ignore")
    if isinstance(value, PurePath):
        return str(value.relative_to(client.cache_dir))
    if isinstance(value, (list, tuple)) and not hasattr(value, "_fields"):
        return type(value)(_plain(client, each) for each in value)
    if isinstance(value, Mapping):
        return {key: _plain(client, each) for key, each in value.items()}
    return value


def compare(both: Both, verb: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """Assert that a verb has the same outcome in both. Return ours."""
    if both.theirs.mode == "remote" and kwargs.get("query_type") == "local":
        return None  # what ONE-api's client happens to have asked before
    try:
        expected = _result(both.theirs, both, verb, args, kwargs)
    except AttributeError:
        assert (verb, args) == ("get_details", (UNKNOWN,))
        expected = "not found", ""
    except (AssertionError, NotImplementedError) as error:
        # what ONE-api refuses offline may be known here
        if both.theirs.mode != "local" or not {"Alyx", "remote"} & set(str(error).split()):
            raise
        with contextlib.suppress(OnefsError):
            return getattr(both.ours, verb)(*args, **kwargs)
        return None
    try:
        found = _result(both.ours, both, verb, args, kwargs)
    except Unreachable as error:
        # offline, a search that finds nothing is an error
        if verb != "search" or "no session in the catalogue matches" not in str(error):
            raise
        found = (([], None) if kwargs["details"] else []), ""
    if UNKNOWN in args and isinstance(found[0], str) and not isinstance(expected[0], str):
        # ONE-api lists nothing for an unknown session
        assert found[0] == "not found"
        assert len(expected[0]) == 0
        return found
    if verb == "search" and kwargs["details"]:
        found, expected = _rows_of_search(both, found, expected)
    assert_same(found, expected)
    return found


def _result(
    client: Any, both: Both, verb: str, args: tuple[Any, ...], kwargs: dict[str, Any]
) -> tuple[Any, str]:
    """Return the result of a verb, and what a verb that describes has printed."""
    given_ = [_given(client, both.theirs, each) for each in args]
    said = io.StringIO()
    with contextlib.redirect_stdout(said):
        result = outcome(lambda: getattr(client, verb)(*given_, **kwargs))
    return _plain(client, result), said.getvalue() if verb.startswith("describe") else ""


def _rows_of_search(both: Both, found: Any, expected: Any) -> tuple[Any, Any]:
    """Return what is compared: the rows of Alyx with ONE-api's keys, and offline the eids."""
    (eids, rows), (their_eids, their_rows) = found[0], expected[0]
    if both.theirs.mode == "local":
        return eids, their_eids
    keys = set(their_rows[0]) if their_rows else set()
    return (eids, [{key: row[key] for key in keys} for row in rows]), (their_eids, their_rows)


@pytest.mark.parametrize(
    "examples", [6, pytest.param(80, marks=pytest.mark.long)], ids=["few", "many"]
)
@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("verb", CALLS)
def test_a_verb_gives_what_one_api_gives(
    both: dict[str, Both], verb: str, mode: str, examples: int
) -> None:
    clients = both[mode]
    if verb in _OF_HISTORY[mode]:
        return

    @settings(
        max_examples=examples,
        deadline=None,
        derandomize=True,
        database=None,
        phases=[Phase.generate] if examples < 10 else [Phase.generate, Phase.shrink],
        suppress_health_check=list(HealthCheck),
    )
    @given(CALLS[verb](clients.known))
    def check(call: tuple[tuple[Any, ...], dict[str, Any]]) -> None:
        compare(clients, verb, *call)

    check()


def test_details_in_local_mode(both: dict[str, Both]) -> None:
    """ONE-api: a Series, or a DataFrame with the session's datasets."""
    for full in (False, True):
        compare(both["local"], "get_details", (EID,), {"full": full})
        details = both["remote"].ours.get_details(EID, full=full, query_type="local")
        assert_same(details, both["local"].ours.get_details(EID, full=full))


def test_saved_tables_are_read_by_one_api(
    both: dict[str, Both], servers: Servers, tmp_path: Path
) -> None:
    """ONE-api: ``save_cache`` writes tables, which ``load_cache`` reads."""
    ours, theirs, _ = both["local"]
    ours.save_cache()
    ours.save_cache(tmp_path / "ours")
    with pytest.raises(UsageError, match="clobber=True"):
        ours.save_cache(tmp_path / "ours")
    ours.save_cache(tmp_path / "ours", clobber=True)
    (tmp_path / "theirs").mkdir()
    theirs.save_cache(tmp_path / "theirs", clobber=True)
    for name in ("sessions", "datasets"):
        saved = [pd.read_parquet(tmp_path / who / f"{name}.pqt") for who in ("ours", "theirs")]
        columns = [each for each in saved[1].columns if each != "exists"]
        one, other = (each.sort_index()[columns] for each in saved)
        pd.testing.assert_frame_equal(one, other, check_names=False)
    with ONE(**arguments(servers), cache_dir=tmp_path / "empty", offline=True) as one:
        one.load_cache(tmp_path / "ours")
        assert sorted(one.list_datasets()) == sorted(ours.list_datasets())


def test_saved_ids_are_those_of_one_api(both: dict[str, Both]) -> None:
    """ONE-api: the ids of what was loaded while ``record_loaded`` was True."""
    for sessions_only in (True, False):
        results = []
        for client in (both["local"].theirs, both["local"].ours):
            client.record_loaded = True
            client.load_object(EID, "licks")
            ids, path = client.save_loaded_ids(sessions_only=sessions_only)
            client.record_loaded = False
            assert path is not None
            results.append((list(map(str, ids)), path.read_text()))
            path.unlink()
        assert results[0] == results[1]
