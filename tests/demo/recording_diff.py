"""Comparison of a response with a recorded response: which parts must be equal."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any
from urllib.parse import parse_qsl, urlsplit

from tests.demo.raw_http import Answer
from tests.recorded_datasets import recorded_rows
from tests.recorded_sessions import session_rows

#: headers that must be equal in both responses, or absent from both
_HEADERS = (
    *("Allow", "Vary", "Location", "Content-Disposition", "ETag", "Last-Modified"),
    *("WWW-Authenticate", "Accept-Ranges", "Access-Control-Allow-Origin", "Content-Encoding"),
)
#: parts of an error's text that depend on the time or on the served data
_VARIABLE = (
    (re.compile(r"(available in )\d+( seconds?)"), r"\1N\2"),
    (re.compile(r"(Choices are: ).*"), r"\1..."),
)
#: list -> the key by which Alyx sorts the rows of the list, so that their order is compared
_SORTED_BY = {"/sessions": "start_time"}


def differences(
    recorded: Mapping[str, Any], answer: Answer, everything: Callable[[], set[str]]
) -> list[str]:
    """Return texts that describe how ``answer`` differs. It must have the recording's addresses.

    ``everything`` returns the ids of all rows that the same query finds on the server under test.
    """
    faults = list(_envelope_differences(recorded, answer))
    expected = recorded["body"]
    if recorded["method"] == "HEAD" or faults:
        return faults
    if not isinstance(expected, dict):
        return faults + list(_text_differences(expected or "", answer.content.decode()))
    if expected.get("_binary"):
        return faults
    body = json.loads(answer.content)
    if recorded["status"] >= 400:
        return faults + _unequal("body", _steady(expected), _steady(body))
    if recorded["method"] == "OPTIONS":
        kept = ("name", "renders")
        return faults + _unequal("body", {k: expected[k] for k in kept}, {k: body[k] for k in kept})
    if "results" in expected:
        return faults + list(_list_differences(recorded, body, everything))
    return faults + list(_detail_differences(recorded["path"], expected, body))


def _envelope_differences(recorded: Mapping[str, Any], answer: Answer) -> Iterator[str]:
    yield from _unequal("status", recorded["status"], answer.status)
    headers = recorded["headers"]
    kind = headers.get("Content-Type", "").split(";")[0]
    yield from _unequal("type", kind, (answer.headers["Content-Type"] or "").split(";")[0])
    for name in _HEADERS:
        yield from _unequal(name, headers.get(name), answer.headers[name])
    yield from _unequal("Retry-After", "Retry-After" in headers, "Retry-After" in answer.headers)


def _text_differences(expected: str, text: str) -> Iterator[str]:
    """Compare titles of pages. Compare the whole of Django's error pages and of other texts."""
    title = re.compile(r"<title>(.*?)</title>")
    yield from _unequal("title", title.findall(expected), title.findall(text))
    if "<title>" not in expected or "doctype html" in expected[:20]:
        yield from _unequal("text", expected, text)


def _list_differences(
    recorded: Mapping[str, Any], body: Mapping[str, Any], everything: Callable[[], set[str]]
) -> Iterator[str]:
    expected = recorded["body"]
    rows, shown = expected["results"], body["results"]
    endpoint = urlsplit(recorded["path"]).path
    yield from _unequal("keys", set(expected), set(body))
    yield from _unequal("count", expected["count"], body["count"])
    yield from _unequal("next", _link(expected["next"]), _link(body["next"]))
    yield from _unequal("previous", _link(expected["previous"]), _link(body["previous"]))
    yield from _unequal("rows", recorded.get("rows_sent", len(rows)), len(shown))
    expected_ids, ids = [_key(row) for row in rows], [_key(row) for row in shown]
    is_whole = len(rows) == expected["count"]
    if is_whole:
        yield from _unequal("ids", sorted(expected_ids), sorted(ids))
    elif not set(expected_ids) <= (all_ids := everything()):
        yield f"the search does not find {set(expected_ids) - all_ids}"
    sort_key = _SORTED_BY.get(endpoint)
    if sort_key is not None:
        times = [[row[sort_key] for row in page] for page in (rows, shown)]
        yield from _unequal("order", *times)
        if len(set(times[0])) == len(times[0]):
            yield from _unequal("order of ids", expected_ids, ids)
    known = {**_known_rows(endpoint), **dict(zip(expected_ids, rows, strict=True))}
    for row in shown:
        yield from _row_differences(known.get(_key(row)), rows, row)


def _row_differences(
    known: Mapping[str, Any] | None, rows: Sequence[Mapping[str, Any]], row: Mapping[str, Any]
) -> Iterator[str]:
    """Compare rows. A row that is not recorded must have the keys and types of a recorded row."""
    if known is not None:
        for name in known.keys() | row.keys():
            ours, theirs = row.get(name, "absent"), known.get(name, "absent")
            yield from _unequal(f"{_key(row)} {name}", _canonical(theirs), _canonical(ours))
    elif not any(_shape(row) == _shape(other) for other in [*rows, *recorded_rows().values()]):
        yield f"{_key(row)} has the shape of no recorded row"


def _detail_differences(
    path: str, expected: Mapping[str, Any], body: Mapping[str, Any]
) -> Iterator[str]:
    if path.startswith("/cache/info/"):
        yield from _unequal("shape", _shape(expected), _shape(body))
        counts = [
            {name: table["nrecs"] for name, table in info["tables"].items()}
            for info in (expected, body)
        ]
        yield from _unequal("rows", *counts)
        return
    if path == "/auth-token":
        yield from _unequal("shape", _shape(expected), _shape(body))
        return
    yield from _unequal("keys", set(expected), set(body))
    # the date of the last change on the server is not compared
    for name in (expected.keys() & body.keys()) - {"auto_datetime"}:
        yield from _unequal(name, _canonical(expected[name]), _canonical(body[name]))


def _known_rows(endpoint: str) -> Mapping[str, Mapping[str, Any]]:
    if endpoint == "/datasets":
        return {key: row for key, row in recorded_rows().items() if "public" in row}
    if endpoint == "/sessions":
        return {row["id"]: row for row in session_rows()}
    return {}


def _key(row: Mapping[str, Any]) -> str:
    """Return a value that identifies a row, because not every row has Alyx's key."""
    address = row.get("url")
    key: str = row.get("id") or (address[-36:] if address else row.get("name") or row["username"])
    return key


def _link(url: str | None) -> tuple[str, list[tuple[str, str]]] | None:
    if url is None:
        return None
    parts = urlsplit(url)
    query = sorted(parse_qsl(parts.query, keep_blank_values=True))
    return f"{parts.scheme}://{parts.netloc}{parts.path}", query


def _steady(body: Any) -> Any:
    text = json.dumps(body, sort_keys=True)
    for pattern, steady in _VARIABLE:
        text = pattern.sub(steady, text)
    return text


def _canonical(value: Any) -> Any:
    """Return ``value`` with its lists sorted, because Alyx's order of related rows is random."""
    if isinstance(value, dict):
        return {name: _canonical(item) for name, item in value.items()}
    if isinstance(value, list):
        items = [_canonical(item) for item in value]
        return sorted(items, key=lambda item: json.dumps(item, sort_keys=True))
    return value


def _shape(value: Any) -> Any:
    """Return keys and types at all levels. For a list, return those of its first item."""
    if isinstance(value, dict):
        return {name: _shape(item) for name, item in value.items()}
    if isinstance(value, list):
        return [_shape(item) for item in value[:1]]
    return type(value).__name__


def _unequal(what: str, expected: Any, actual: Any) -> list[str]:
    if expected == actual:
        return []
    return [f"{what}: recorded {str(expected)[:300]}, here {str(actual)[:300]}"]
