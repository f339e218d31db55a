"""The file server compared with the responses of nginx to the same requests.

The recordings do not have the bytes of the files. Local files of the same length are served, so
that lengths are compared but contents are not. Dates and entity tags also differ. A request with a
recorded date or entity tag is sent with that of the local file.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from onefs.demo.flatiron import create_app
from tests.demo.raw_http import Answer, ask, served
from tests.recorded_laboratory import LOGIN, RecordedSource
from tests.recordings import FILES, RecordingEntry, record, replayed_recordings

#: headers that must be equal in both responses, or absent from both
_EQUAL = ("Content-Range", "Accept-Ranges", "WWW-Authenticate")
#: headers that must be present in both responses, or absent from both
_BOTH = ("ETag", "Last-Modified")
_CONDITIONS = ("If-Match", "If-None-Match", "If-Range", "If-Modified-Since")
#: the recorded file for which conditional requests were sent
_HEAD = "nginx/head_200.json"


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    folder: Path = tmp_path_factory.mktemp("large")
    source = RecordedSource(as_recorded=True, folder=folder)
    with served(create_app(source, LOGIN)) as base:
        yield base


def _ask(address: str, recorded: Mapping[str, Any]) -> Answer:
    # two requests were recorded on a plain socket, without the request's headers
    sent = recorded.get("request_headers", _authorization())
    headers = {name: value for name, value in sent.items() if name != "Content-Length"}
    current = ask(address, "HEAD", record(_HEAD)["path"], _authorization()).headers
    for name in _CONDITIONS:
        for known in _BOTH:
            if headers.get(name) == record(_HEAD)["headers"][known]:
                headers[name] = current[known]
    request_body = recorded.get("request_body")
    body = request_body.encode() if request_body else None
    if recorded["method"] in ("POST", "OPTIONS"):
        headers["Content-Length"] = str(len(body or b""))
    return ask(address, recorded["method"], recorded["path"], headers, body)


def _authorization() -> dict[str, str]:
    pair = f"{LOGIN.data_username}:{LOGIN.data_password}".encode()
    return {"Authorization": f"Basic {base64.b64encode(pair).decode()}"}


@pytest.mark.parametrize(
    "row", replayed_recordings("nginx"), ids=lambda row: row.file.removesuffix(".json")
)
def test_answer_equals_the_recording(row: RecordingEntry, address: str) -> None:
    recorded = record(row.file)
    answer = _ask(address, recorded)
    headers = recorded["headers"]
    assert answer.status == recorded["status"]
    assert {name: answer.headers[name] for name in _EQUAL} == {
        name: headers.get(name) for name in _EQUAL
    }
    # RFC 9110, 15.4.5: a 304 with an ETag need not have the date
    for name in _BOTH[: 1 if answer.status == 304 else 2]:
        assert (name in answer.headers) == (name in headers)
    kind = headers.get("Content-Type", "").split(";")[0]
    assert (answer.headers["Content-Type"] or "").split(";")[0] == kind
    location = headers.get("Location")
    assert answer.headers["Location"] == (location and location.replace(FILES, address))
    _check_body(recorded, answer)


def _check_body(recorded: Mapping[str, Any], answer: Answer) -> None:
    body = recorded["body"]
    if isinstance(body, dict) and body.get("_binary"):
        assert len(answer.content) == body["length"]
        assert answer.headers["Content-Length"] == str(body["length"])
    elif isinstance(body, dict):
        assert json.loads(answer.content).keys() == body.keys()
    elif recorded["method"] == "HEAD":
        assert answer.content == b""
        if answer.status == 200:
            assert answer.headers["Content-Length"] == recorded["headers"]["Content-Length"]
    elif not body:
        assert answer.content == b"" or answer.status == 301
    elif recorded["status"] == 200:
        title = body[: body.index("</h1>")]
        assert answer.content.decode().startswith(title)
    else:
        reason = body[body.index("<title>") : body.index("</title>")]
        assert reason in answer.content.decode()
