"""The REST server compared with the responses of a real Alyx to the same requests."""

from __future__ import annotations

import contextlib
import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any
from urllib.parse import parse_qsl, urlencode, urlsplit

import pytest

from onefs.demo.rest import create_app
from tests.demo.raw_http import Answer, ask, served
from tests.demo.recording_diff import differences
from tests.recorded_laboratory import LOGIN, RecordedSource
from tests.recordings import (
    ALYX,
    FILES,
    RECORDED,
    RecordingEntry,
    not_served,
    read_index,
    record,
    replayed_recordings,
)

#: groups of recordings in which every GET is repeated, or is listed with a reason
REST_GROUPS = ("auth", "sessions", "session_detail", "datasets", "dataset_detail", "cache", "http")
GROUPS = (*REST_GROUPS, "nginx")
#: further recordings for the endpoints that the server has
_EXTRA = re.compile(
    r"other/(labs?|subjects?|users?|projects?|data_repository|dataset_types?|data_formats?"
    r"|revisions?|tags?|files?|insertions?|trajectories|channels|notes|brain_regions?|root|no_such)"
    r"(_|\.)(?!type|water|atlas|exists_false)"
)
#: tokens in the recordings
_USERS = {
    "e160d509fe59b3841dda7d51e44d11647b49392f": "test_user",
    "7a17b5f6e295936a554493dcd7a1a9e583ec0866": "intbrainlab",
    "7f58807dc01c8db9627d814116fa99ec57fa0a46": "michele",
}
#: recordings that were made after one session's n_trials had been set to 0
_AFTER_EMPTY = "sessions/performance_division_by_zero"
_THROTTLED = ("http/throttled_429.json", "http/throttled_schema.json")


def _extra() -> list[RecordingEntry]:
    return [
        row for row in read_index() if _EXTRA.match(row.file) and (RECORDED / row.file).exists()
    ]


@dataclass(frozen=True)
class Laboratory:
    """A running server, and the tokens of its users."""

    address: str
    tokens: Mapping[str, str]

    def ask(self, recorded: Mapping[str, Any], path: str | None = None) -> Answer:
        """Repeat a recorded request. Addresses in the response become those of the recording."""
        headers = dict(recorded["request_headers"])
        headers.pop("Content-Length", None)
        for name, value in headers.items():
            for token, user in _USERS.items():
                headers[name] = value = value.replace(token, self.tokens[user])
        request_body = recorded.get("request_body")
        body = None
        if request_body is not None:
            body = (
                request_body if isinstance(request_body, str) else json.dumps(request_body)
            ).encode()
            headers["Content-Length"] = str(len(body))
        answer = ask(self.address, recorded["method"], path or recorded["path"], headers, body)
        own_host = self.address.removeprefix("http://")
        content = answer.content
        if answer.headers.get_content_type() in ("application/json", "text/html"):
            content = content.replace(own_host.encode(), ALYX.removeprefix("http://").encode())
        return replace(answer, content=content)


@contextlib.contextmanager
def _laboratory(
    *, empty_session: bool = False, throttle: int | None = None
) -> Iterator[Laboratory]:
    source = RecordedSource(as_recorded=True, empty_session=empty_session)
    app = create_app(source, LOGIN, data_url=FILES, throttle=throttle)
    with served(app) as address:
        passwords = {LOGIN.username: LOGIN.password, **LOGIN.others}
        tokens = {}
        for name, password in passwords.items():
            body = urlencode({"username": name, "password": password}).encode()
            headers = {
                "Content-Type": "application/x-www-form-urlencoded",
                "Content-Length": str(len(body)),
            }
            answer = ask(address, "POST", "/auth-token", headers, body)
            tokens[name] = json.loads(answer.content)["token"]
        yield Laboratory(address, tokens)


@pytest.fixture(scope="module")
def laboratory() -> Iterator[Laboratory]:
    with _laboratory() as server:
        yield server


@pytest.fixture(scope="module")
def laboratory_with_empty_session() -> Iterator[Laboratory]:
    with _laboratory(empty_session=True) as server:
        yield server


@pytest.fixture
def throttled_laboratory() -> Iterator[Laboratory]:
    with _laboratory(throttle=1) as server:
        yield server


def test_every_recording_is_replayed_or_listed_with_a_reason() -> None:
    listed = {row.file for row in read_index()}
    gets = [row for row in read_index() if row.group in GROUPS and row.method == "GET"]
    left_out = not_served()
    assert set(left_out) <= listed
    assert all(reason.strip() for reason in left_out.values())
    assert sum(row.file in left_out for row in gets) <= 0.15 * len(gets)
    both = {row.file for row in replayed_recordings(*GROUPS)} | set(left_out)
    assert [row.file for row in gets if row.file not in both] == []
    assert [row.file for row in gets if not (RECORDED / row.file).exists()] == []


@pytest.mark.parametrize(
    "row",
    [*replayed_recordings(*REST_GROUPS), *_extra()],
    ids=lambda row: row.file.removesuffix(".json"),
)
def test_answer_equals_the_recording(
    row: RecordingEntry, laboratory: Laboratory, request: pytest.FixtureRequest
) -> None:
    recorded = record(row.file)
    server = laboratory
    if row.file.startswith(_AFTER_EMPTY):
        server = request.getfixturevalue("laboratory_with_empty_session")
    if row.file in _THROTTLED:
        server = request.getfixturevalue("throttled_laboratory")
        server.ask(recorded)  # the one request that is allowed
    answer = server.ask(recorded)
    assert differences(recorded, answer, lambda: _all_ids(server, recorded)) == []


def _all_ids(server: Laboratory, recorded: Mapping[str, Any]) -> set[str]:
    """Return the ids that a query finds. Pages overlap by more than the server's shift."""
    parts = urlsplit(recorded["path"])
    query = dict(parse_qsl(parts.query, keep_blank_values=True))
    ids: set[str] = set()
    for offset in range(0, max(1, recorded["body"]["count"]), 400):
        page = urlencode({**query, "limit": 1000, "offset": offset})
        answer = server.ask({**recorded, "method": "GET"}, f"{parts.path}?{page}")
        rows = json.loads(answer.content)["results"]
        ids |= {row.get("id") or row.get("url", "")[-36:] or row["name"] for row in rows}
    return ids
