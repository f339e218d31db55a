"""``pid2eid``, ``eid2pid`` and ``search_insertions``, compared with ONE-api's own methods."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit
from uuid import UUID

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from onefs.demo.servers import Servers
from onefs.errors import OnefsError, Unreachable, UsageError
from onefs.one import ONE
from onefs.one.insertions import FILTERS
from tests.laboratories import alyx_requests
from tests.one.conftest import EID, Open, arguments, set_home
from tests.one.test_fuzz import check, outcome, texts, values

one_api = pytest.importorskip("one.api")

TWO_PROBES = "2019-12-20_1_KS023"
UNKNOWN = "aaaaaaaa-bbbb-4ccc-8ddd-eeeeeeeeeeee"

#: terms that both clients are asked for
SEARCHES: tuple[dict[str, Any], ...] = (
    {},
    {"name": "probe01"},
    {"subject": "KS023"},
    {"laboratory": "cortexlab"},
    {"lab": "CORTEXLAB", "name": "probe00"},
    {"number": 1, "subj": "KS014"},
    {"date": "2019-12-20"},
    {"task_proto": "ephys"},
    {"project": "brainwide", "name": "probe00"},
    {"dataset": "spikes.times"},
    {"datasets": ["spikes.times.npy", "clusters.channels.npy"]},
    {"dataset_types": ["spikes.times", "spikes.clusters"]},
    {"atlas_acronym": "CA1"},
    {"atlas_name": "field CA"},
    {"atlas_id": 997, "lab": "cortexlab"},
    {"model": "3B2"},
    {"serial": "19108300000"},
    {"tag": "RepeatedSite"},
    {"datasets": "spikes.times.npy", "dataset_qc_lte": "PASS"},
    {"dataset_qc_lte": 0, "name": "probe01", "django": "session__number,1"},
    {"django": "name__icontains,00,session__subject__nickname,KS023"},
    {"dataset": "spikes.times", "django": "name,probe01"},
    {"subject": "nobody"},
    {"name": "probe"},
)


@pytest.fixture(scope="module")
def theirs(servers: Servers, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """Return ONE-api's client of the same laboratory."""
    folder = tmp_path_factory.mktemp("one-api")
    login = servers.login
    with pytest.MonkeyPatch.context() as patch:
        set_home(folder, patch)
        patch.setattr("one.params.CACHE_DIR_DEFAULT", str(folder / "downloads"))
        yield one_api.OneAlyx(
            base_url=servers.alyx_url,
            username=login.username,
            password=login.password,
            cache_dir=folder / "cache",
            silent=True,
            cache_rest=None,
            mode="remote",
        )


def as_text(value: Any) -> Any:
    """Return a result of ONE-api with its UUID objects as text."""
    if isinstance(value, UUID):
        return str(value)
    if isinstance(value, (tuple, list)):
        return type(value)(map(as_text, value))
    return value


def pids(one: ONE, **terms: Any) -> list[str]:
    found = one.search_insertions(**terms)
    assert isinstance(found, list)
    return found


@pytest.mark.parametrize("terms", SEARCHES, ids=str)
def test_a_search_finds_what_one_api_finds(shared: ONE, theirs: Any, terms: dict[str, Any]) -> None:
    found = theirs.search_insertions(**terms, details=True)
    expected = [str(pid) for pid in found[0]], list(found[1])
    assert shared.search_insertions(details=True, **terms) == expected
    assert shared.search_insertions(**terms) == expected[0]


def test_ids_may_be_in_any_case(shared: ONE) -> None:
    (pid, *_) = pids(shared, subject="KS023")
    eid, _ = shared.pid2eid(pid)
    assert eid is not None
    assert pids(shared, id=f" {pid.upper()}") == [pid]
    assert pid in pids(shared, session=eid.upper()) == pids(shared, session=eid)
    local = pids(shared, session=eid.upper(), query_type="local")
    assert sorted(local) == sorted(pids(shared, session=eid))


def test_a_session_is_named_as_for_one_api(shared: ONE, theirs: Any) -> None:
    eid = shared.ref2eid(TWO_PROBES)
    record = {"lab": "cortexlab", "subject": "KS023", "date": "2019-12-20", "number": 1}
    for name in (eid, TWO_PROBES, shared.eid2path(eid), record, shared.get_details(eid)):
        assert shared.eid2pid(name) == as_text(theirs.eid2pid(eid))
    assert shared.eid2pid(None) == theirs.eid2pid(None) == (None, None)
    assert shared.eid2pid(None, details=True) == theirs.eid2pid(None, details=True)
    assert shared.eid2pid({**record, "number": 99}) == (None, None)


def test_a_term_is_completed_as_by_one_api(shared: ONE, theirs: Any) -> None:
    found = as_text(list(theirs.search_insertions(proj="brainwide")))
    assert pids(shared, proj="brainwide") == pids(shared, projects="brainwide") == found


def test_an_insertion_is_found_once(shared: ONE, theirs: Any) -> None:
    repeated = [str(pid) for pid in theirs.search_insertions(dataset_qc_lte="PASS", name="probe01")]
    found = pids(shared, dataset_qc_lte="PASS", name="probe01")
    assert found == list(dict.fromkeys(repeated))
    assert len(found) < len(repeated)


def test_the_searches_find_something(shared: ONE) -> None:
    sizes = [len(pids(shared, **terms)) for terms in SEARCHES]
    assert sum(size > 0 for size in sizes) >= len(sizes) - 5


def test_pids_and_eids_are_those_of_one_api(shared: ONE, theirs: Any) -> None:
    eids = shared.search(subject=["KS023", "clns0730"])
    for eid in eids:
        for details in (False, True):
            expected = as_text(theirs.eid2pid(eid, details=details))
            assert shared.eid2pid(eid, details=details) == expected
        for pid in shared.eid2pid(eid)[0] or ():
            assert shared.pid2eid(pid) == as_text(theirs.pid2eid(pid))
            assert shared.pid2eid(UUID(pid)) == as_text(theirs.pid2eid(UUID(pid)))


def test_the_insertions_of_a_session_can_be_filtered(shared: ONE, theirs: Any) -> None:
    eid = shared.eid(TWO_PROBES)
    for terms in ({"name": "probe01"}, {"name": "probe1"}, {"atlas_acronym": "CA1"}):
        expected = as_text(theirs.eid2pid(eid, **terms))
        assert shared.eid2pid(TWO_PROBES, **terms) == expected  # type: ignore[arg-type]


def test_what_does_not_exist_is_none(shared: ONE, theirs: Any) -> None:
    for pid in (UNKNOWN, "probe00"):
        assert shared.pid2eid(pid) == theirs.pid2eid(pid) == (None, None)
    assert shared.eid2pid(EID) == as_text(theirs.eid2pid(EID)) == (None, None)
    assert shared.eid2pid(UNKNOWN, details=True) == (None, None, None)


@pytest.mark.parametrize(
    ("terms", "word"),
    [
        ({"probes": "x"}, "unknown"),
        ({"da": "x"}, "date"),
        ({"name": ""}, "empty"),
        ({"name": None}, "empty"),
        ({"datasets": []}, "empty"),
        ({"datasets": map(str, range(101))}, "100"),
        ({"dataset": ["a"]}, "datasets"),
        ({"lab": "a", "laboratory": "b"}, "twice"),
        ({"query_type": "nearby"}, "query_type"),
    ],
)
def test_an_invalid_term_is_named(
    shared: ONE, servers: Servers, terms: dict[str, Any], word: str
) -> None:
    servers.clear_requests()
    with pytest.raises(UsageError, match=word):
        shared.search_insertions(**terms)
    assert alyx_requests(servers) == []


def test_a_loop_over_sessions_asks_for_whole_labs(opened: Open, servers: Servers) -> None:
    one = opened()
    eids = one.search(date_range=["2019-01-01", None])
    labs = {row["lab"] for row in one.search_sessions(date_range=["2019-01-01", None]).rows}
    servers.clear_requests()
    found = [one.eid2pid(eid)[0] or [] for eid in eids]
    assert len(eids) > 40
    assert len(alyx_requests(servers)) <= 1 + len(labs)
    # the insertions that are known need no request
    servers.clear_requests()
    assert all(
        one.pid2eid(pid)[0] == eid for eid, of in zip(eids, found, strict=True) for pid in of
    )
    assert alyx_requests(servers) == []


def test_a_loop_over_unknown_pids_asks_for_whole_labs(
    opened: Open, shared: ONE, servers: Servers
) -> None:
    wanted = pids(shared)
    sessions = shared.search_sessions(date_range=["2019-01-01", None])
    labs = {row["lab"] for row in shared.insertion_table(sessions)}
    one = opened()
    assert all(one.pid2eid(pid)[0] for pid in wanted)
    assert len(wanted) > 25
    assert len(alyx_requests(servers)) <= 3 * len(labs)


def test_what_was_asked_is_answered_without_alyx(
    opened: Open, servers: Servers, tmp_path: Path
) -> None:
    searches = ({"atlas_acronym": "CA1"}, {"name": "probe01"}, {"subject": "KS023"})
    one = opened(cache_dir=tmp_path / "cache")
    eids = one.search(lab="cortexlab")

    def answers(of: ONE) -> list[Any]:
        found = [of.search_insertions(details=True, **terms) for terms in searches]
        return [
            found,
            [of.eid2pid(eid, details=True) for eid in eids],
            [of.pid2eid(pid) for pid, *_ in zip(*found[1], strict=True)],
        ]

    expected = answers(one)
    servers.alyx.stop()
    try:
        assert one.search_insertions(details=True, **searches[0]) == expected[0][0]
        assert [one.eid2pid(eid, details=True) for eid in eids] == expected[1]
        with ONE(**arguments(servers), cache_dir=tmp_path / "cache", offline=True) as offline:
            assert answers(offline) == expected
            # the catalogue is searched for what was not asked
            ks014 = pids(offline, subject="ks014", name="probe00")
            assert ks014
            assert {offline.pid2eid(pid)[1] for pid in ks014} == {"probe00"}
            for terms in ({"atlas_id": 997}, {"datasets": ["spikes.times.npy"]}):
                with pytest.raises(Unreachable, match=next(iter(terms))):
                    offline.search_insertions(**terms)
            with pytest.raises(Unreachable):
                offline.pid2eid(UNKNOWN)
    finally:
        servers.stop()
        servers.start()


def test_a_local_search_takes_parts_of_names_as_one_api_does(
    opened: Open, theirs: Any, servers: Servers
) -> None:
    one = opened()
    one.search_insertions()
    theirs.search_insertions()
    # ONE-api 3.6.1 joins these tables by the names of their indexes, which its merge has dropped
    theirs._cache["sessions"].index.name = "eid"
    theirs._cache["insertions"].index.names = ["eid", "id"]
    servers.clear_requests()
    local = {"query_type": "local"}
    for terms in (
        {"name": "01"},
        {"name": ["00", "01$"]},
        {"subject": "KS0"},
        {"laboratory": "cortex"},
        {"number": 2},
        {"projects": "brainwide", "name": "probe00"},
    ):
        expected = as_text(theirs.search_insertions(**terms, **local))
        assert one.search_insertions(**terms, **local) == expected  # type: ignore[arg-type]
    pid = pids(one, name="01", **local)[0]
    assert one.pid2eid(pid, query_type="local") == as_text(theirs.pid2eid(pid, query_type="local"))
    eid = one.pid2eid(pid)[0]
    assert eid is not None
    assert one.eid2pid(eid, query_type="local") == as_text(theirs.eid2pid(eid, query_type="local"))
    assert one.pid2eid(UNKNOWN, query_type="local") == (None, None)
    assert alyx_requests(servers) == []


@settings(check, max_examples=60)
@given(
    given_terms=st.dictionaries(st.one_of(st.sampled_from(FILTERS), texts), values, max_size=2),
    name=values,
    query_type=st.sampled_from([None, "local", "remote"]),
)
def test_any_arguments_give_a_result_or_a_sentence(
    shared: ONE, servers: Servers, given_terms: dict[str, Any], name: Any, query_type: str | None
) -> None:
    servers.clear_requests()
    result = outcome(lambda: shared.search_insertions(query_type=query_type, **given_terms))
    assert isinstance(result, (list, OnefsError))
    assert isinstance(outcome(lambda: shared.pid2eid(name, query_type)), (tuple, OnefsError))
    assert isinstance(outcome(lambda: shared.eid2pid(name, query_type)), (tuple, OnefsError))
    if given_terms.keys() - {"limit", "django"}:
        for each in alyx_requests(servers):
            parts = urlsplit(each.path)
            filters = parse_qs(parts.query, keep_blank_values=True)
            if parts.path == "/insertions" and filters.keys() <= {"django", "limit"}:
                assert "id__isnull" not in filters["django"][0], each.path
            assert all(values_[-1].strip(" ,") for values_ in filters.values()), each.path
