"""All forms of ``list``. Each docstring names what the test follows (see ``test_search``)."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

from onefs.demo.servers import Servers
from onefs.errors import NotFound, Unreachable, UsageError
from onefs.one import ONE, SessionDataInfo
from tests.laboratories import alyx_requests, data_requests
from tests.one.conftest import EID, FLOWERS, REF, Open
from tests.one.opened import access_of
from tests.one.tutorial_text import blocks

TYPES: list[str] = next(eval(b.printed) for b in blocks() if b.code == "one.list(eid)")


@pytest.mark.parametrize(
    ("keyword", "some"),
    [
        ("dataset-types", {"spikes.times", "unknown"}),
        ("users", {"olivier", "test_user"}),
        ("subjects", {"clns0730", "flowers"}),
        ("labs", {"mainenlab", "zadorlab"}),
    ],
)
def test_names_of_the_database_are_listed(shared: ONE, keyword: str, some: set[str]) -> None:
    """Tutorial. Old code: details adds the rows. Keywords may be singular, in any case."""
    names = shared.list(None, keyword)
    assert some <= set(names)
    assert names == sorted(set(names))
    again, rows = shared.list(None, keyword, details=True)
    assert again == names
    assert len(rows) >= len(names)
    assert shared.list(None, keyword.upper().removesuffix("S")) == names


def test_without_arguments_the_dataset_types_are_listed(shared: ONE) -> None:
    """Old code."""
    assert shared.list() == shared.list(None, "dataset-types")


def test_types_of_a_session_are_sorted_and_listed_once(shared: ONE) -> None:
    """Tutorial: types are sorted, and each is listed once."""
    assert shared.list(EID) == TYPES


def test_a_type_of_two_probes_is_listed_once(shared: ONE) -> None:
    """Old code."""
    types = shared.list("2019-12-20_1_KS023")
    assert types.count("spikes.times") == 1
    assert types == sorted(types)


def test_details_are_the_dataclass(shared: ONE) -> None:
    """Tutorial: dataset_type, data_url, dataset_id amongst others. Old code: ``url``; not a
    tuple. Ours: size, md5, collection and revision too."""
    info = shared.list(EID, details=True)
    assert isinstance(info, SessionDataInfo)
    assert len(info) == 29
    assert sorted(info.dataset_type) == TYPES
    assert info.data_url == info.url == info["data_url"]
    assert all(url.startswith("http") for url in info.url)
    assert set(info.eid) == {EID}
    assert all(len(each) == 36 for each in info.dataset_id)
    assert set(info.collection) == {""}
    assert info.data == [None] * 29
    row = info[TYPES.index("clusters.depths")]
    assert (row.dataset_type, row.size, len(row.md5)) == ("clusters.depths", 608, 32)
    assert Path(row.local_path) == shared.path(EID) / "clusters.depths.npy"


def test_the_dataclass_has_columns_rows_and_slices(shared: ONE) -> None:
    """Ours: prints a line for each dataset, and also prints if empty (old code: IndexError)."""
    info = shared.list(EID, details=True)
    assert len(str(info).splitlines()) == 29
    assert str(SessionDataInfo()) == "(no datasets)"
    assert [row.dataset_id for row in info] == info["dataset_id"]
    assert info[1:3].dataset_type == info.dataset_type[1:3]
    assert info[-1] == list(info)[-1]
    columns = dict(info)
    assert list(columns) == info.keys()
    assert columns["data"] == [None] * 29
    assert "29" in repr(info)
    with pytest.raises(KeyError, match="dataset_id"):
        info["nothing"]
    with pytest.raises(IndexError):
        info[29]
    info.append(shared.list(FLOWERS, details=True))
    assert len(info) == 39


def test_all_is_the_complete_record_in_a_list(shared: ONE) -> None:
    """Tutorial: lists all fields. Old code: returns a list of one dict. Any case works."""
    (record,) = shared.list(EID, "All")
    assert record["users"] == ["olivier", "test_user"]
    session = shared.session(EID)
    assert record == json.loads(access_of(shared).catalogue.record(session).value)
    tree = access_of(shared).tree
    _, handle = tree.open("/".join(["", *shared._resolver.paths.place(session), ".session.json"]))
    assert record == json.loads(os.pread(handle.wait_fd(0, handle.size), handle.size, 0))
    handle.close()


def test_a_field_of_the_record_is_listed_by_its_name(shared: ONE) -> None:
    """Old code: returns the value, and with details also the record."""
    assert shared.list(EID, "users") == ["olivier", "test_user"]
    assert shared.list(EID, "subjects") == "clns0730"
    value, record = shared.list(EID, "task_protocol", details=True)
    assert record["task_protocol"] == value == "spontaneous_wheel1.0.0"


def test_a_list_of_eids_gives_a_list_of_answers(shared: ONE) -> None:
    """Tutorial: accepts search's list of one eid. Old code: several eids give a list, in order."""
    assert shared.list([EID]) == TYPES
    several = shared.list([FLOWERS, EID])
    assert several == [shared.list(FLOWERS), TYPES]
    assert shared.list((EID, FLOWERS), "subject") == ["clns0730", "flowers"]
    assert len(shared.list([EID, FLOWERS], "all")) == 2
    with pytest.raises(UsageError, match="empty"):
        shared.list([])


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ((None, "user"), None),
        ((None, "all"), ("'all'", "labs")),
        ((None, "usrs"), ("usrs", "'users'")),
        ((EID, "subjct"), ("subjct", "'subject'")),
        ((EID, 5), ("keyword",)),
        ((EID, "all", "yes"), ("details",)),
        ((5,), ("int", "UUID")),
        (("not an eid",), ("not an eid", "UUID")),
        (("",), ("UUID",)),
        ((b"x",), ("bytes",)),
    ],
)
def test_invalid_arguments_are_errors_that_name_them(
    shared: ONE, arguments: tuple[Any, ...], words: tuple[str, ...] | None
) -> None:
    """Ours: an error that names the most similar word (old code: KeyError, HTTPError)."""
    if words is None:
        assert shared.list(*arguments)
        return
    with pytest.raises(UsageError) as caught:
        shared.list(*arguments)
    for word in words:
        assert word in str(caught.value)


def test_an_unknown_session_is_not_found(shared: ONE) -> None:
    """Ours: NotFound, which is a FileNotFoundError (old code: HTTPError)."""
    unknown = "00000000-0000-4000-8000-000000000000"
    with pytest.raises(NotFound, match=unknown):
        shared.list(unknown)


def test_offline_known_listings_are_returned(opened: Open, servers: Servers) -> None:
    """Ours."""
    one = opened()
    types, labs = one.list(EID), one.list(None, "labs")
    away = opened(offline=True)
    assert (away.list(REF), away.list(None, "labs")) == (types, labs)
    assert servers.requests == []


def test_a_table_is_asked_for_once_an_hour(opened: Open, servers: Servers) -> None:
    """Ours."""
    one = opened()
    one.list(None, "subjects")
    one.list(None, "subjects", details=True)
    assert len(alyx_requests(servers)) == 1


def test_names_of_what_was_listed_are_known_offline(opened: Open) -> None:
    """Ours: also without cache tables. If no name is known, an error is raised."""
    opened().list(EID)
    away = opened(offline=True)
    assert away.list(None, "dataset-types") == TYPES
    assert away.list(None, "labs") == ["mainenlab"]
    assert "clns0730" in away.list(None, "subjects")
    with pytest.raises(Unreachable):
        away.list(None, "users")


def test_an_invalidated_table_is_asked_for_again(opened: Open, servers: Servers) -> None:
    """Ours: after `onefs refresh` by any process. Offline, the stored names are used."""
    one, other = opened(), opened()
    labs = one.list(None, "labs")
    access_of(other).catalogue.invalidate(())
    assert opened(offline=True).list(None, "labs") == labs
    assert one.list(None, "labs") == labs
    assert one.list(None, "labs") == labs
    assert len([each for each in alyx_requests(servers) if each.path.startswith("/labs")]) == 1


def test_listing_downloads_nothing(opened: Open, servers: Servers) -> None:
    """Ours."""
    opened().list(EID, details=True)
    assert data_requests(servers) == []
