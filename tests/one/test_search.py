"""``search`` and ``search_terms``: each docstring names what the test follows.

"Tutorial": the tutorial's text. "Old code": what ibllib 1.4.14 did where the text says nothing.
"Ours": what onefs decides, for example where the old code failed or contradicted its own text.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from datetime import date, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from onefs.catalogue.sync import sync_from_files
from onefs.config.settings import resolve_settings
from onefs.demo.servers import ServeOptions, Servers, make_source
from onefs.errors import ServerError, Unreachable, UsageError
from onefs.one import ONE, OnefsWarning
from tests.cache_tables.table_files import (
    dataset,
    session,
    uuid,
    write,
)
from tests.laboratories import alyx_requests
from tests.one.conftest import EID, FLOWERS, Open, arguments, set_home
from tests.one.reference import open_reference
from tests.recorded_laboratory import LOGIN, RecordedSource

TEN = [
    "dataset_types", "date_range", "lab", "location", "number", "performance_gte",
    "performance_lte", "subject", "task_protocol", "users",
]  # fmt: skip
DAY = ["2018-08-24", "2018-08-24"]


def test_terms_are_listed_by_the_class_and_the_object(shared: ONE) -> None:
    """Tutorial: the list has exactly these ten terms."""
    assert ONE.search_terms() == shared.search_terms() == TEN


def test_all_terms_are_listed() -> None:
    """Ours: ``all`` also shows terms that were added later."""
    assert ONE.search_terms(all=True)[:10] == TEN
    assert {"project", "tag", "qc", "probe", "django"} < set(ONE.search_terms(all=True))


def test_one_apis_arguments_list_terms(shared: ONE, servers: Servers, tmp_path: Path) -> None:
    """ONE-api: its docstrings name this call for the terms of ``search_insertions``."""
    insertions = ONE.search_terms(query_type="remote", endpoint="insertions")
    reference = open_reference(servers, tmp_path / "reference")
    theirs = reference.search_terms(query_type="remote", endpoint="insertions")
    assert set(theirs) - {"offset"} <= set(insertions)
    assert {"dataset", "laboratory", "number"} <= set(insertions)
    assert set(ONE.search_terms("remote", "sessions")) == set(ONE.search_terms(True))
    assert "model" in ONE.search_terms("local", "insertions")
    with pytest.raises(UsageError, match="field_names"):
        ONE.search_terms("remote", "subjects")
    ONE.cache_clear()


def test_eids_are_texts_in_a_list(shared: ONE) -> None:
    """Tutorial."""
    assert shared.search(users="olivier", date_range=DAY) == [EID]


def test_details_are_alyx_rows_with_the_local_path(shared: ONE) -> None:
    """Old code: returns eids and rows. Since 1.4, each row has local_path."""
    eids, details = shared.search(users="olivier", date_range=DAY, details=True)
    assert eids == [EID]
    assert details[0]["subject"] == "clns0730"
    assert details[0]["local_path"] == str(shared.path(EID))


@pytest.mark.parametrize(
    "terms",
    [
        {"user": "olivier", "date": "2018-08-24"},
        {"users": ["olivier"], "date-range": "2018-08-24"},
        {"subjects": "clns0730"},
        {"subject": ["clns0730"], "labs": "mainenlab"},
        {"lab_location": "_iblrig_mainenlab_ephys_0", "subject": "clns0730"},
        {"task": "spontaneous_wheel"},
        {"data": "clusters.templateWaveforms"},
        {"dataset": "clusters.templateWaveforms.npy"},
        {"datasets": ["clusters.templateWaveforms.npy", "licks.times.npy"]},
        {"dataset-types": "clusters.templateWaveforms,licks.times"},
    ],
)
def test_aliases_are_accepted(shared: ONE, terms: dict[str, Any]) -> None:
    """Old code: the old aliases are accepted, in singular and plural."""
    assert shared.search(**terms) == [EID]


@pytest.mark.parametrize(
    "terms",
    [
        {"project": "ibl_tutorial", "subject": "clns0730"},
        {"tag": "Behaviour", "subject": "KS023", "date": "2019-12-13"},
        {"qc": "not_set", "subject": "clns0730"},
        {"dataset_names": "clusters.templateWaveforms.npy"},
        {"dataset_names": "licks.times.npy", "dataset_qc_lte": "CRITICAL", "subject": "clns0730"},
        {"probe": "probe01", "subject": "KS023"},
        {"django": "subject__nickname,clns0730"},
        {"django": f"id__in,['{EID}']"},
        {"probe": "probe01", "django": "subject__nickname,KS023"},
    ],
)
def test_newer_terms_are_accepted(shared: ONE, terms: dict[str, Any]) -> None:
    """Ours: terms that the old ONE did not have yet."""
    assert len(shared.search(**terms)) == 1


@pytest.mark.parametrize("name", ["(", "[", "[1]", "None", "1.5", "true", "a]b", "it's", '"'])
def test_a_probe_name_is_never_evaluated(shared: ONE, name: str) -> None:
    """Ours: Alyx evaluates a look-up's value that begins with a bracket, and may answer 500."""
    assert shared.search(probe=name) == []


def test_no_probe_was_ever_traced_here(shared: ONE) -> None:
    """Ours: the terms of the atlas are Alyx's own."""
    assert shared.search(atlas_acronym="VISp", lab="cortexlab") == []
    assert shared.search(atlas_id=1, atlas_name="visual") == []


@pytest.mark.parametrize(
    "value",
    [
        "2018-08-24",
        ("2018-08-24", "2018-08-24"),
        ["2018-08-24", None],
        [date(2018, 8, 24), datetime(2018, 8, 24, 23, 59)],
        [np.datetime64("2018-08-24"), "2018-08-24"],
        datetime(2018, 8, 24, 12),
        "2018-08-24,2018-08-30",
    ],
)
def test_date_ranges_include_both_ends(shared: ONE, value: Any) -> None:
    """Old code: includes both days; one date is one day. Ours: also datetimes and None."""
    assert shared.search(date_range=value, subject="clns0730") == [EID]


def test_date_ranges_may_have_open_ends(shared: ONE) -> None:
    """Ours: the old code failed with TypeError."""
    assert shared.search(date_range=[None, "2018-08-24"]) == [EID, FLOWERS]
    assert FLOWERS not in shared.search(date_range=["2018-07-14", None])


def test_users_in_a_list_are_all_owners(shared: ONE) -> None:
    """Tutorial: co-owned by all of the following users."""
    assert shared.search(users=["test_user", "olivier"]) == [EID, FLOWERS]
    assert shared.search(users=["test_user", "olivier", "anne"]) == []
    assert shared.search(users=["olivier", "olivier"], date="2018-08-24") == [EID]
    assert shared.search(users="test_user, olivier") == [EID, FLOWERS]


def test_users_are_case_sensitive(shared: ONE) -> None:
    """Tutorial."""
    assert shared.search(users="Olivier") == []


def test_subjects_and_labs_in_lists_are_a_union(shared: ONE) -> None:
    """Ours: the old code sent "a,b", which found nothing, though its text allowed lists."""
    assert shared.search(subject=["clns0730", "flowers"]) == [EID, FLOWERS]
    both = shared.search(lab=["mainenlab", "zadorlab"])
    assert set(both) == {*shared.search(lab="mainenlab"), *shared.search(lab="zadorlab")}
    _, details = shared.search(lab=["mainenlab", "zadorlab"], details=True)
    starts = [row["start_time"] for row in details]
    assert starts == sorted(starts, reverse=True)
    assert shared.search(subject=["clns0730", "KS023"], lab=["mainenlab"]) == [EID]


def test_the_order_is_the_servers(shared: ONE) -> None:
    """Old code: the latest first."""
    _, details = shared.search(lab="cortexlab", details=True)
    starts = [row["start_time"] for row in details]
    assert starts == sorted(starts, reverse=True)


def test_limit_is_the_number_of_sessions(shared: ONE) -> None:
    """Ours: the latest sessions, at most ``limit``. In the old code it was the size of a page."""
    everything = shared.search(lab="cortexlab")
    assert shared.search(lab="cortexlab", limit=3) == everything[:3]
    assert len(shared.search(limit=2)) == 2
    assert shared.search(lab="cortexlab", limit=1000) == everything


def test_numbers_match_completely(shared: ONE) -> None:
    """Old code: accepts an int, and also a text."""
    assert shared.search(subject="clns0730", number=1) == [EID]
    assert shared.search(subject="clns0730", number="001") == [EID]
    assert shared.search(subject="clns0730", number=np.int64(2)) == []


def test_performance_is_per_cent(shared: ONE) -> None:
    """Old code: accepts 70. Ours: also accepts floats (old code: TypeError)."""
    good = shared.search(performance_gte=70, subject="flowers")
    assert good == shared.search(performance_gte=70.0, subject="flowers")
    assert set(shared.search(performance_lte=100, subject="flowers")) == {FLOWERS}
    assert shared.search(performance_lte=0.5, subject="flowers") == []


@pytest.mark.parametrize(
    ("terms", "words"),
    [
        ({"userz": "olivier"}, ("userz", "'users'")),
        ({"Subject": "flowers"}, ("Subject", "'subject'")),
        ({"dataset_typ": "x"}, ("dataset_typ", "'dataset_types'")),
        ({"user": "a", "users": "b"}, ("users", "twice")),
        ({"number": "one"}, ("number", "'one'")),
        ({"number": True}, ("number",)),
        ({"number": 1.5}, ("number", "1.5")),
        ({"performance_gte": "many"}, ("performance_gte", "'many'")),
        ({"performance_gte": 101}, ("performance_gte", "101")),
        ({"performance_lte": float("nan")}, ("performance_lte",)),
        ({"date_range": "2018/08/24"}, ("date_range", "2018/08/24")),
        ({"date_range": "2018-02-30"}, ("date_range",)),
        ({"date_range": ["2018-08-24", "2018-08-01"]}, ("date_range", "before")),
        ({"date_range": [None, None]}, ("date_range",)),
        ({"date_range": []}, ("date_range",)),
        ({"date_range": ["2018-08-24"]}, ("give '2018-08-24' for", "['2018-08-24', None]")),
        ({"date_range": (None,)}, ("date_range",)),
        ({"date_range": ["2018-08-24"] * 3}, ("date_range",)),
        ({"date_range": 20180824}, ("date_range",)),
        ({"date_range": None}, ("date_range",)),
        ({"qc": "PAS"}, ("qc", "'PASS'")),
        ({"dataset_qc_lte": ["PASS", "FAIL"]}, ("dataset_qc_lte", "one value")),
        ({"subject": ""}, ("subject", "every session")),
        ({"subject": "  "}, ("subject", "every session")),
        ({"subject": None}, ("subject",)),
        ({"subject": []}, ("subject", "every session")),
        ({"subject": b"flowers"}, ("subject",)),
        ({"subject": {"a": 1}}, ("subject",)),
        ({"users": "a,,b"}, ("users",)),
        ({"users": ["a,b", "c"]}, ("users", "comma")),
        ({"lab": "main\0enlab"}, ("lab",)),
        ({"lab": "\udcff"}, ("lab",)),
        ({"lab": "x" * 501}, ("lab", "500")),
        ({"lab": (str(n) for n in range(1000))}, ("lab", "100")),
        ({"django": "subject"}, ("django",)),
        ({"django": "__import__('os'),1"}, ("django",)),
        ({"django": "id__in,[open('x')]"}, ("django",)),
        ({}, ("term",)),
        ({"subject": "flowers", "limit": 0}, ("limit",)),
        ({"subject": "flowers", "limit": -1}, ("limit",)),
        ({"subject": "flowers", "limit": "x"}, ("limit",)),
        ({"subject": "flowers", "details": "yes"}, ("details",)),
    ],
)
def test_an_invalid_term_or_value_is_an_error_that_names_it(
    shared: ONE, servers: Servers, terms: dict[str, Any], words: tuple[str, ...]
) -> None:
    """Ours: the old code logged unknown terms and gave None, or sent the value as it was."""
    servers.clear_requests()
    with pytest.raises(UsageError) as caught:
        shared.search(**terms)
    for word in words:
        assert word in str(caught.value)
    assert servers.requests == []


def test_a_search_of_too_many_queries_is_an_error(shared: ONE, servers: Servers) -> None:
    """Ours."""
    servers.clear_requests()
    with pytest.raises(UsageError, match="queries"):
        shared.search(subject=[f"s{n}" for n in range(20)], lab=[f"l{n}" for n in range(20)])
    assert servers.requests == []


def test_a_search_that_is_too_long_for_a_request_is_an_error(shared: ONE, servers: Servers) -> None:
    """Ours: Alyx's web server refuses such a long request line."""
    servers.clear_requests()
    with pytest.raises(UsageError, match="does not fit"):
        shared.search(dataset_types=[f"{n:0400}" for n in range(10)])
    assert servers.requests == []


def test_an_unknown_name_finds_nothing_and_the_nearest_is_named(shared: ONE) -> None:
    """Old code: returns []. Ours: also warns."""
    shared.search(subject="flowers")
    with pytest.warns(OnefsWarning, match="did you mean 'flowers'"):
        assert shared.search(subject="flowrs") == []


def test_a_search_is_one_request(shared: ONE, servers: Servers) -> None:
    """Ours."""
    servers.clear_requests()
    shared.search(users="olivier", date_range=DAY, lab="mainenlab", number=1)
    assert len(alyx_requests(servers)) == 1


def test_paths_of_sessions_cost_the_listings_of_their_subjects_once(
    opened: Open, servers: Servers
) -> None:
    """Ours: a session's folder has a mark if another session of the subject has the same number."""
    one = opened()
    servers.clear_requests()
    # all sessions of a number have its lab: none can be missing from what is found
    one.search(lab="cortexlab", details=True)
    assert len(alyx_requests(servers)) == 1
    servers.clear_requests()
    for requests in (3, 1):
        eids, rows = one.search(lab="cortexlab", users="nate", details=True)
        assert len(eids) == len({row["local_path"] for row in rows}) > 10
        assert {row["subject"] for row in rows} == {"KS014", "KS023"}
        assert len(alyx_requests(servers)) == requests
        servers.clear_requests()


def test_a_list_of_users_is_one_request(shared: ONE, servers: Servers) -> None:
    """Ours: without another join, Alyx counts users correctly. So they are not requested again."""
    servers.clear_requests()
    assert shared.search(users=["test_user", "olivier"], lab=["mainenlab"]) == [EID]
    assert len(alyx_requests(servers)) == 1


# -- the server away


def test_a_search_made_before_is_answered_offline(opened: Open, servers: Servers) -> None:
    """Ours."""
    before = opened().search(users="olivier", details=True)
    assert opened(offline=True).search(users="olivier", details=True) == before
    assert servers.requests == []


def test_the_catalogue_answers_what_it_can(opened: Open, caplog: pytest.LogCaptureFixture) -> None:
    """Ours: the error names the terms that the catalogue cannot search for."""
    opened().search(lab=["mainenlab", "zadorlab"])
    opened().list(EID)
    away = opened(offline=True)
    with caplog.at_level(logging.WARNING):
        assert away.search(subject="FLOWERS") == [FLOWERS]
    assert "the search result is from the catalogue" in caplog.text
    assert away.search(date_range=["2018-08-01", "2018-08-30"]) == [EID]
    assert away.search(dataset_types=["spikes.times", "licks.times"]) == [EID]
    assert away.search(project="ibl_TUTORIAL", number=1) == [EID, FLOWERS]
    assert away.search(task_protocol="spontaneous_wheel") == [EID]
    with pytest.raises(Unreachable, match="no session in the catalogue matches"):
        away.search(task_protocol="spontaneous%wheel")
    with pytest.raises(Unreachable, match="cannot search by users, tag"):
        away.search(users="anne", subject="x", tag="y")


def test_sessions_of_cache_tables_are_found_offline(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Ours: by file name, and by the type that a file name implies; a message says so."""
    url = "http://127.0.0.1:1"
    datasets = [dataset(1, 1, "alf/spikes.times.npy"), dataset(2, 2, "alf/licks.times.npy")]
    folder = write(tmp_path / "tables", [session(1), session(2)], datasets)
    state = resolve_settings({"url": url}).state_dir
    state.mkdir(parents=True)
    sync_from_files(folder, state)
    with ONE(base_url=url, offline=True) as away, caplog.at_level(logging.WARNING):
        assert away.search(dataset_names="spikes.times.npy") == [uuid(1)]
        assert "file names" not in caplog.text
        assert away.search(dataset_types="licks.times", lab="labone") == [uuid(2)]
        assert "no dataset types: the types were guessed from file names" in caplog.text
        with pytest.raises(Unreachable, match="no session in the catalogue matches"):
            away.search(dataset_types="camera.times")  # unknown: no file name has this type
        with pytest.raises(Unreachable, match="cannot search by users"):
            away.search(users="anne")


def test_searches_are_answered_while_the_server_is_unreachable(
    opened: Open, servers: Servers
) -> None:
    """Ours."""
    one = opened()
    one.search(subject="flowers")
    servers.alyx.stop()
    try:
        assert one.search(subject="flowers") == [FLOWERS]
        assert one.search(lab="zadorlab") == [FLOWERS]
    finally:
        servers.stop()
        servers.start()


# -- Alyx's traps (docs/ONE-SEMANTICS.md)


@pytest.fixture(scope="module")
def trapped(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Servers]:
    source = RecordedSource(folder=tmp_path_factory.mktemp("large"), empty_session=True)
    with Servers(source, LOGIN) as found:
        yield found


@pytest.fixture(scope="module")
def traps(trapped: Servers, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ONE]:
    with pytest.MonkeyPatch.context() as patch:
        set_home(tmp_path_factory.mktemp("traps"), patch)
        one = ONE(**arguments(trapped))
    yield one
    one.close()


def test_users_with_projects_are_checked_by_onefs(traps: ONE) -> None:
    """Tutorial: co-owned by all. Alyx counts users over the join and finds 3 here."""
    found = traps.search(users=["nate", "olivier"], projects="i")
    assert set(found) == {*traps.search(users=["nate", "olivier"])} & {*traps.search(project="i")}
    for eid in found:
        assert {"nate", "olivier"} <= set(traps.list(eid, "users"))
    assert len(found) == 1


def test_rows_that_alyx_repeats_come_once(traps: ONE) -> None:
    """Ours: Alyx repeats a session if the names of two of its projects match."""
    found = traps.search(project="i")
    assert len(found) == len(set(found)) == 39


def test_terms_that_repeat_sessions_are_requested_distinct(traps: ONE, trapped: Servers) -> None:
    """Ours: Alyx would send 43 rows for 39 sessions. The first ten rows are ten sessions."""
    everything = traps.search(project="i")
    trapped.clear_requests()
    assert traps.search(project="i", limit=10) == everything[:10]
    assert len(alyx_requests(trapped)) == 1


def test_sessions_that_alyx_repeats_across_pages_are_all_found(tmp_path: Path) -> None:
    """Ours: Alyx sends one row for each of thousands of datasets whose quality is good enough."""
    source = make_source(ServeOptions(sessions=400, datasets=7, state_dir=tmp_path))
    good = {each.eid for each in source.sessions() if source.datasets(each.eid)}
    assert sum(len(source.datasets(eid)) for eid in good) > 2500
    with Servers(source) as servers, ONE(**arguments(servers)) as one:
        servers.clear_requests()
        found = one.search(dataset_qc_lte="CRITICAL")
        assert len(found) == len(set(found))
        assert set(found) == good
        assert len(alyx_requests(servers)) == 1
        servers.clear_requests()
        assert one.search(dataset_qc_lte="CRITICAL", limit=10) == found[:10]
        assert len(alyx_requests(servers)) == 1


def test_one_session_without_trials_breaks_performance_for_all(traps: ONE) -> None:
    """Ours: Alyx answers 500, "division by zero"."""
    with pytest.raises(ServerError, match="performance_gte: some session in its database has 0"):
        traps.search(performance_gte=50)


def test_a_nickname_in_two_labs_finds_both_subjects(traps: ONE) -> None:
    """Ours: both subjects are found. The term ``lab`` selects one of them."""
    assert len(traps.search(subject="dup01")) == 2
    assert len(traps.search(subject="dup01", lab="cortexlab")) == 1


def test_names_of_subjects_are_found_in_any_case(traps: ONE) -> None:
    """Old code: like the server."""
    assert traps.search(subject="DUP01") == traps.search(subject="dup01")


def test_a_failure_of_django_names_it(traps: ONE) -> None:
    """Ours."""
    with pytest.raises(ServerError, match="django='nosuchfield,1'"):
        traps.search(django="nosuchfield,1")


def test_a_session_without_number_is_found(traps: ONE) -> None:
    """Old code: it is found. It has no folder."""
    eids, details = traps.search(limit=1000, details=True)
    unnumbered = [row for row in details if row["number"] is None]
    assert all(row["local_path"] is None for row in unnumbered)
    assert unnumbered
    assert len(eids) == 40
