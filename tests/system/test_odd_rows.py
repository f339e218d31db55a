"""Odd rows of Alyx through a mount, the command line and Python: nothing else is harmed."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from werkzeug import Request

from onefs.one import ONE
from onefs.one.warn import OnefsWarning
from tests.alyx.conftest import WrittenAlyx
from tests.catalogue.test_flaky_server import (
    EIDS,
    dataset_row,
    listed,
    session_row,
)
from tests.running import Home, read_errno, wait_until

GOOD, ODD = EIDS[0], EIDS[1]
FOLDER = "a/s/2020-01-01/001"
#: what a session may lack, so that it has no folder
LACKING: dict[str, Any] = {"number": None, "lab": None, "subject": None, "start_time": None}


class Laboratory:
    """An Alyx of two sessions, of which one is odd, and the file server of their files."""

    def __init__(self, written: WrittenAlyx) -> None:
        self.written = written
        repository = {"name": "f", "data_url": f"{written.url}/f/", "globus_is_personal": False}
        written.answer("/labs", 200, listed([{"name": "a"}]))
        written.answer("/subjects", 200, listed([{"nickname": "s", "lab": "a"}]))
        written.answer("/data-repository", 200, listed([repository]))
        written.answer("/f/a.npy", 200, "x")
        self.rows = {GOOD: session_row(GOOD), ODD: session_row(ODD)}
        self.urls = {"good.b.npy": f"{written.url}/f/a.npy", "odd.b.npy": f"{written.url}/f/a.npy"}
        written.answers["/sessions"] = self.sessions
        written.answers["/datasets"] = self.datasets
        for eid in self.rows:
            written.answers[f"/sessions/{eid}"] = lambda request: (
                200,
                self.rows[request.path[-36:]],
            )

    @property
    def who(self) -> dict[str, str]:
        """The environment of its user."""
        return {"ONEFS_URL": self.written.url, "ONEFS_USERNAME": "u", "ONEFS_TOKEN": "t" * 40}

    def sessions(self, request: Request) -> tuple[int, Any]:
        wanted = request.args.get("id")
        return 200, listed([row for eid, row in self.rows.items() if wanted in (None, eid)])

    def datasets(self, request: Request) -> tuple[int, Any]:
        rows = []
        # of one session, or of several at once
        if GOOD in request.args.get("session", request.args.get("django", "")):
            for number, (name, url) in enumerate(self.urls.items()):
                record = {"data_repository": "f", "data_url": url, "exists": True}
                row = {**dataset_row(GOOD), "name": name, "file_records": [record]}
                rows.append({**row, "url": f"http://a/datasets/{EIDS[40 + number]}"})
        return 200, listed(rows)


@pytest.fixture
def laboratory() -> Iterator[Laboratory]:
    server = WrittenAlyx()
    yield Laboratory(server)
    server.close()


@pytest.mark.parametrize("url", ["http://[::1/", "http://h:99999/a", "http:///a", 5], ids=str)
def test_an_address_that_is_none_harms_its_own_file_and_heals(
    home: Home, laboratory: Laboratory, url: object
) -> None:
    good = laboratory.urls["odd.b.npy"]
    laboratory.urls["odd.b.npy"] = url  # type: ignore[assignment]
    mounted = home.mount(**laboratory.who)
    folder = mounted.path / FOLDER
    assert sorted(os.listdir(folder)) == ["good.b.npy", "odd.b.npy"]
    assert (folder / "good.b.npy").read_bytes() == b"x"
    assert read_errno(folder / "odd.b.npy") == errno.EIO
    assert mounted.log_lines("odd.b.npy", "the URL of this file in the database is invalid")
    done = home.run("get", FOLDER, code=1, variables=laboratory.who)
    assert "the URL of this file in the database is invalid" in done.stderr
    assert "1 failed" in done.stderr
    home.run("list", "--details", GOOD, variables=laboratory.who)
    assert "Traceback" not in done.stderr + home.log()
    laboratory.urls["odd.b.npy"] = good
    home.run("refresh", mounted.path, variables=laboratory.who)
    wait_until(lambda: read_errno(folder / "odd.b.npy") == 0, 30, "the file is readable again")


@pytest.mark.parametrize("lacks", LACKING)
def test_a_session_without_a_folder_harms_no_other(
    home: Home, laboratory: Laboratory, lacks: str
) -> None:
    laboratory.rows[ODD] = {**session_row(ODD), lacks: LACKING[lacks]}
    mounted = home.mount(**laboratory.who)
    search = mounted.path / ".search" / "dataset_types=a.b"
    assert (search / ".eids").read_text().split() == [GOOD, ODD]
    assert (search / ".paths").read_text().split() == [FOLDER]
    assert sorted(os.listdir(search)) == [".eids", ".paths", "2020-01-01_1_s"]
    assert os.listdir(mounted.path / ".by-eid" / GOOD)
    assert read_errno(mounted.path / ".by-eid" / ODD) == errno.ENOENT
    assert mounted.log_lines(ODD, "has no folder: the session lacks")
    assert "Traceback" not in home.log()


@pytest.mark.parametrize("lacks", LACKING)
def test_python_answers_for_the_others(
    laboratory: Laboratory, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, lacks: str
) -> None:
    for name in ("config", "state", "cache", "data"):
        monkeypatch.setenv(f"XDG_{name.upper()}_HOME", str(tmp_path / name))
    laboratory.rows[ODD] = {**session_row(ODD), lacks: LACKING[lacks]}
    with ONE(base_url=laboratory.written.url, username="u", token="t" * 40) as one:
        with pytest.warns(OnefsWarning, match="has no folder: the session lacks"):
            assert one.list([GOOD, ODD]) == [[""], []]
        with pytest.warns(OnefsWarning, match="has no folder: the session lacks"):
            types, nothing = one.list([GOOD, ODD], details=True)
        assert (len(types), len(nothing)) == (2, 0)
        with pytest.warns(OnefsWarning):
            assert one.load([GOOD, ODD], "a.b") == [[[]], [[]]]
        with pytest.warns(OnefsWarning, match="has no folder: the session lacks"):
            assert len(one.load([ODD, GOOD])) == 2
        assert one.list(ODD, "all") == [laboratory.rows[ODD]]
        assert one.list([ODD, GOOD], "lab") == [laboratory.rows[ODD]["lab"], "a"]
        with pytest.raises(FileNotFoundError, match="has no folder: the session lacks"):
            one.ref(ODD)
