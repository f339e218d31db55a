"""Rows of what the old ONE did that no other test meets (docs/ONE-SEMANTICS.md, "Row by row").

Each docstring names what the test follows (see ``test_search.py``).
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest

from onefs.demo.servers import ServeOptions, Servers, make_source
from onefs.errors import NotConfigured
from onefs.one import ONE
from tests.laboratories import alyx_requests
from tests.one.conftest import EID, FLOWERS, arguments


def test_opening_says_nothing_and_reads_no_documents(
    servers: Servers, capsys: pytest.CaptureFixture[str]
) -> None:
    """Ours: the old code printed "Connected to ..." and read the whole of /docs each time."""
    servers.clear_requests()
    with ONE(**arguments(servers)) as one:
        assert one.search(subject="flowers") == [FLOWERS]
    asked = [urlsplit(each.path).path for each in servers.requests]
    assert asked == ["/auth-token", "/sessions"]
    assert capsys.readouterr() == ("", "")


def test_the_settings_of_the_old_one_are_not_taken(tmp_path: Path) -> None:
    """Ours: ``~/.one_params``, which may name another database, is only offered by ``setup``."""
    saved = tmp_path / ".one_params"
    saved.write_text(json.dumps({"ALYX_URL": "https://alyx.example.org", "ALYX_LOGIN": "me"}))
    before = saved.stat()
    with pytest.raises(NotConfigured):
        ONE(silent=True)
    assert saved.stat() == before


@pytest.mark.parametrize("value", ["a b&limit=1", "50%", "x#y", "a+b", "é/?"])
def test_values_are_encoded(shared: ONE, servers: Servers, value: str) -> None:
    """Ours: the old code put values into the URL without encoding."""
    servers.clear_requests()
    assert shared.search(task_protocol=value) == []
    (asked,) = alyx_requests(servers)
    assert parse_qs(urlsplit(asked.path).query)["task_protocol"] == [value]
    assert "\n" not in asked.path


def test_a_part_of_a_task_or_a_location_matches(shared: ONE) -> None:
    """Old code: like the server, in upper or lower case. A number must match completely."""
    assert shared.search(task_protocol="SPONTANEOUS_wheel") == [EID]
    assert shared.search(location="MAINENLAB_ephys", subject="clns0730") == [EID]
    assert shared.search(number=1, subject="clns0730") == [EID]
    assert shared.search(number=11, subject="clns0730") == []


def test_a_single_value_is_a_list_of_one(shared: ONE) -> None:
    """Old code: this is true for texts and whole numbers."""
    terms: dict[str, Any] = {"subject": "flowers", "users": "olivier", "number": 1}
    for term, value in terms.items():
        listed: dict[str, Any] = {term: [value]}
        assert shared.search(**{term: value}) == shared.search(**listed)


def test_users_and_dataset_types_must_both_match(shared: ONE) -> None:
    """Tutorial: co-owned by all. Alyx counts the users over the datasets' rows too."""
    both = ["test_user", "olivier"]
    types = ["licks.times"]
    expected = set(shared.search(users=both)) & set(shared.search(dataset_types=types))
    assert set(shared.search(users=both, dataset_types=types)) == expected != set()
    assert shared.search(users=["test_user", "nate"], dataset_types=types) == []


def test_a_field_of_several_sessions_with_details_gives_pairs(shared: ONE) -> None:
    """Ours: a pair for each session, as for one session (old code: two lists)."""
    (first, record), (second, _) = shared.list([EID, FLOWERS], "subject", details=True)
    assert (first, second) == ("clns0730", "flowers")
    assert record["lab"] == "mainenlab"


def test_rows_of_the_dataclass_have_names(shared: ONE) -> None:
    """Old code: has ``d[i]`` (values of a row), ``append``, ``len``. Ours: keeps hash and size."""
    info = shared.list(EID, details=True)
    row = info[3]
    assert (row.dataset_type, row.md5, row.size) == (
        info.dataset_type[3],
        info.md5[3],
        info.size[3],
    )
    before = len(info)
    info.append(shared.list(FLOWERS, details=True))
    assert len(info) == before + len(shared.list(FLOWERS, details=True))


def test_addresses_are_alyx_own_and_names_have_no_uuid(shared: ONE) -> None:
    """Old code: ``url`` is ``data_url`` as Alyx has it. Tutorial: ``local_path`` (there with the
    UUID, which the code has left out since October 2019)."""
    (record,) = shared.list(EID, "all")
    known = {each["id"]: each["data_url"] for each in record["data_dataset_session_related"]}
    info = shared.list(EID, details=True)
    assert dict(zip(info.dataset_id, info.url, strict=True)) == known
    for dataset_id, path in zip(info.dataset_id, info.local_path, strict=True):
        assert dataset_id not in path
        assert Path(path).is_relative_to(shared.cache_dir / "mainenlab" / "Subjects")


def test_everything_of_several_sessions_is_one_dataclass(shared: ONE) -> None:
    """Ours: one dataclass with all datasets (old code: only the first dataset of each session)."""
    info = shared.load([FLOWERS, EID], download_only=True)
    assert info.eid == [FLOWERS] * len(shared.load(FLOWERS, download_only=True)) + [EID] * 29


def test_an_answer_of_several_pages_is_complete(tmp_path: Path) -> None:
    """Old code: returns a list of all sessions, the latest first."""
    source = make_source(ServeOptions(sessions=2600, datasets=1, state_dir=tmp_path))
    with Servers(source) as servers, ONE(**arguments(servers)) as one:
        servers.clear_requests()
        eids, rows = one.search(date_range=["2000-01-01", None], details=True)
        pages = [each for each in alyx_requests(servers) if each.path.startswith("/sessions")]
    assert len(pages) == 3
    assert len(set(eids)) == len(eids) >= 2600
    starts = [row["start_time"] for row in rows]
    assert starts == sorted(starts, reverse=True)
