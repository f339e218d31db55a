"""What a ``ONE`` object answers while it shows a release, and after its mode was changed."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from onefs import releases
from onefs.access import Access
from onefs.demo.servers import Servers
from onefs.errors import CacheError, NotFound, Stopping, UsageError
from onefs.one import ONE
from tests.laboratories import alyx_requests
from tests.one.conftest import Open, arguments, set_home
from tests.one.opened import access_of


@pytest.fixture(scope="module")
def in_release(servers: Servers, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ONE]:
    """A client that shows a release."""
    with pytest.MonkeyPatch.context() as patch:
        set_home(tmp_path_factory.mktemp("release"), patch)
        with ONE(**arguments(servers)) as one:
            one.load_cache(tag=first_tag(one))
            yield one


def first_tag(one: ONE) -> str:
    return releases.tags_on_server(access_of(one))[0]


def test_alyx_answers_for_the_whole_database(in_release: ONE, shared: ONE) -> None:
    """ONE-api: a tag only replaces the tables; Alyx is asked as before."""
    one, tag = in_release, first_tag(shared)
    assert one.list_datasets() != shared.list_datasets()
    assert one.alyx.is_logged_in
    for endpoint in ("insertions", "trajectories"):
        assert one.alyx.rest(endpoint, "list") == shared.alyx.rest(endpoint, "list")
    for terms in ({"tag": tag}, {"users": "olivier"}, {"limit": 1000}):
        found = one.search(**terms)
        assert found == shared.search(**terms)
        assert found
    pids = one.search_insertions(subject="KS023")
    assert pids == shared.search_insertions(subject="KS023")
    assert isinstance(pids, list)
    eid, label = one.pid2eid(pids[0])
    assert (eid, label) == shared.pid2eid(pids[0])
    assert eid is not None
    assert one.eid2pid(eid) == shared.eid2pid(eid)


def test_what_is_found_outside_of_the_release_has_a_name(in_release: ONE, shared: ONE) -> None:
    eid = shared.search(subject="clns0730")[0]
    with pytest.raises(NotFound, match="is shown as published"):
        in_release.list_datasets(eid)
    assert in_release.eid2ref(eid) == shared.eid2ref(eid)
    assert in_release.ref2eid(in_release.eid2ref(eid)) == eid
    assert in_release.get_details(eid)["lab"] == "mainenlab"
    _, rows = in_release.search(details=True, subject="clns0730")
    assert rows[0]["local_path"] == str(in_release.eid2path(eid))


def test_names_of_the_whole_database_are_listed(in_release: ONE, shared: ONE) -> None:
    eid = in_release.search(tag=first_tag(shared))[0]
    assert in_release.list_subjects() == shared.list_subjects()
    assert in_release.list(None, "users") == shared.list(None, "users")
    assert in_release.get_details(eid, full=True) == shared.get_details(eid, full=True)
    assert in_release.list(eid, "all") == shared.list(eid, "all")
    assert in_release.describe_dataset() == shared.describe_dataset()


def test_a_release_stays_shown_in_another_mode(opened: Open, servers: Servers) -> None:
    with opened() as one:
        tag, whole = first_tag(one), one.list_datasets()
        one.load_cache(tag=tag)
        one.mode = "local"
        one.mode = "remote"
        one.search(subject="KS023")
        found = one.list_datasets()
        assert found != whole
        servers.clear_requests()
        one.mode = "local"
        assert one.list_datasets() == found
        assert set(one.search(limit=1000)) < set(one.search(limit=1000, query_type="remote"))
    with opened() as one:
        one.mode = "local"
        servers.clear_requests()
        one.load_cache(tag=tag)
        assert one.list_datasets() == found
        assert alyx_requests(servers) == []
        one.mode = "remote"
        assert one.list_datasets() == found


def test_one_call_is_remote_while_the_mode_is_local(opened: Open, servers: Servers) -> None:
    with opened() as one:
        one.mode = "local"
        servers.clear_requests()
        assert one.search(subject="KS023", query_type="remote")
        pids = one.search_insertions(subject="KS023", query_type="remote")
        assert isinstance(pids, list)
        assert one.pid2eid(pids[0], query_type="remote")[0]
        assert len(alyx_requests(servers)) >= 2
        servers.clear_requests()
        assert one.search(subject="KS023")
        assert alyx_requests(servers) == []
        assert one.mode == "local"
    with opened(mode="local") as one:
        for call in (one.search, one.search_insertions):
            with pytest.raises(UsageError, match="mode='remote'"):
                call(subject="KS023", query_type="remote")


def test_all_that_was_opened_is_closed(opened: Open) -> None:
    with opened() as one:
        one.load_cache(tag=first_tag(one))
        one.search(subject="KS023", query_type="local")
        one.load_cache(tag=one._view.tag)
        one.mode = "local"
        accesses = [one._view.shown, one._view.whole, one._opened.shown, one._opened.whole]
        for each in accesses:
            assert isinstance(each.laboratory, Access)
            assert each.laboratory.database is not None
    for each in accesses:
        assert isinstance(each.laboratory, Access)
        with pytest.raises((CacheError, Stopping)):
            each.laboratory.database.fact("alyx_url")
