"""Tests of ``.search`` and ``.datasets.tsv`` with the embedded laboratory."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from onefs.access import Access
from onefs.demo.servers import Servers
from onefs.errors import NotFound, OnefsError, Unreachable, UsageError
from onefs.search.vocabulary import parse_terms
from onefs.tree.nodes import NodeKind
from tests.laboratories import alyx_requests, open_laboratory
from tests.one.test_fuzz import assert_no_unfiltered_request, terms, texts

EID = "cf264653-2deb-44cb-aa84-89b82507028a"
REF = "2018-08-24_1_clns0730"
QUERY = "users=olivier&date_range=2018-08-24,2018-08-24"
FOLDER = f"/.search/{QUERY}"


def text(access: Access, path: str) -> str:
    _, handle = access.tree.open(path)
    try:
        assert access.tree.node(path).size == handle.size
        return os.pread(handle.wait_fd(0, handle.size), handle.size, 0).decode()
    finally:
        handle.close()


def names(access: Access, path: str) -> list[str]:
    return [name for name, _ in access.tree.children(path)]


def test_a_search_is_a_folder_of_links(access: Access) -> None:
    assert names(access, FOLDER) == [".eids", ".paths", REF]
    assert access.tree.node(f"{FOLDER}/{REF}").kind is NodeKind.LINK
    assert access.tree.target(f"{FOLDER}/{REF}") == "../../mainenlab/clns0730/2018-08-24/001"
    assert text(access, f"{FOLDER}/.eids") == EID + "\n"
    assert text(access, f"{FOLDER}/.paths") == "mainenlab/clns0730/2018-08-24/001\n"
    with pytest.raises(NotFound):
        access.tree.node(f"{FOLDER}/nothing")


def test_looking_a_search_up_makes_no_request(access: Access, servers: Servers) -> None:
    assert access.tree.node(FOLDER).kind is NodeKind.DIRECTORY
    assert access.tree.xattrs(FOLDER)["user.onefs.query"] == (
        "date_range=2018-08-24,2018-08-24&users=olivier"
    )
    assert servers.requests == []
    for _ in range(3):
        names(access, FOLDER)
        access.tree.node(f"{FOLDER}/{REF}")
    assert len(alyx_requests(servers)) == 1


@pytest.mark.parametrize(
    ("name", "word"),
    [
        ("userz=olivier", "'users'"),
        ("users", "term=value"),
        ("users=", "every session"),
        ("date_range=yesterday", "yesterday"),
        ("users=%ff", "UTF-8"),
        ("users=a&users=b", "twice"),
        (".git", "term=value"),
    ],
)
def test_an_invalid_search_does_not_exist_and_its_error_is_shown(
    access: Access, servers: Servers, name: str, word: str
) -> None:
    with pytest.raises(NotFound):
        access.tree.node(f"/.search/{name}")
    assert word in access.tree.xattrs("/.search")["user.onefs.error"]
    assert servers.requests == []


def test_an_unknown_value_is_an_empty_folder(access: Access) -> None:
    assert names(access, "/.search/subject=nobody") == [".eids", ".paths"]
    assert text(access, "/.search/subject=nobody/.eids") == ""


def test_lists_and_percent_encoding(access: Access) -> None:
    assert len(names(access, "/.search/subject=clns0730,flowers")) == 4
    assert names(access, "/.search/subject=clns073%30")[2:] == [REF]
    assert names(access, "/.search/users=olivier,test_user&date_range=,2018-08-01")[2:] == [
        "2018-07-13_1_flowers"
    ]


def test_network_errors_are_never_an_empty_folder(access: Access, servers: Servers) -> None:
    servers.alyx.stop()
    try:
        assert access.tree.node("/.search/lab=mainenlab").kind is NodeKind.DIRECTORY
        for name in ("lab=mainenlab", "users=olivier"):
            with pytest.raises(Unreachable):
                access.tree.children(f"/.search/{name}")
    finally:
        servers.stop()
        servers.start()


def test_saved_searches_are_listed(access: Access, servers: Servers, tmp_path: Path) -> None:
    assert names(access, "/.search") == []
    other = open_laboratory(servers, tmp_path)
    try:
        other.queries.save_search("my tutorial", parse_terms({"subject": "clns0730"}))
    finally:
        other.close()
    assert names(access, "/.search") == ["my tutorial"]
    assert names(access, "/.search/my tutorial")[2:] == [REF]
    access.queries.delete_saved_search("my tutorial")
    assert names(access, "/.search") == []
    with pytest.raises(NotFound):
        access.tree.node("/.search/my tutorial")
    with pytest.raises(NotFound):
        access.queries.delete_saved_search("my tutorial")
    for wrong in ("", ".x", "a/b", "a=b", "a\nb", ".."):
        with pytest.raises(UsageError):
            access.queries.save_search(wrong, parse_terms({"subject": "x"}))


def test_the_root_does_not_list_the_search_folder(access: Access) -> None:
    assert ".search" not in names(access, "/")


@pytest.fixture(scope="module")
def lasting(servers: Servers, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Access]:
    found = open_laboratory(servers, tmp_path_factory.mktemp("lasting"))
    yield found
    found.close()


@settings(
    max_examples=150,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(
    name=st.lists(st.tuples(terms, texts), min_size=1, max_size=3).map(
        lambda pairs: "&".join(f"{term}={value}" for term, value in pairs)
    )
)
def test_hostile_names_send_no_unfiltered_request(
    lasting: Access, servers: Servers, name: str
) -> None:
    servers.clear_requests()
    folder = "/.search/" + name.replace("/", "%2F").replace("\0", "")
    with suppress(OnefsError):
        lasting.tree.node(folder)
        lasting.tree.children(folder)
    assert_no_unfiltered_request(servers)


def test_datasets_as_a_table(access: Access) -> None:
    session = "/cortexlab/KS023/2019-12-20/001"
    lines = [line.split("\t") for line in text(access, f"{session}/.datasets.tsv").splitlines()]
    assert lines[0] == ["name", "type", "size", "md5", "revision", "qc", "state"]
    rows = {line[0]: line for line in lines[1:]}
    assert len(rows) == 69
    assert {line[6] for line in rows.values()} == {""}
    times = rows["alf/probe00/#2021-07-05#/spikes.times.npy"]
    assert (times[1], times[4]) == ("spikes.times", "2021-07-05")
    assert int(times[2]) == access.tree.node(f"{session}/{times[0]}").size
    assert ".datasets.tsv" not in names(access, session)
