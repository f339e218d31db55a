"""Reading ``tests/data/recorded``: what a real Alyx and nginx answered."""

from __future__ import annotations

import csv
import functools
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

DATA = Path(__file__).parent / "data"
RECORDED = DATA / "recorded"
#: addresses in the recordings: Alyx's, and the file server's with and without ranges
ALYX = "http://127.0.0.1:8800"
FILES = "http://127.0.0.1:8801"


@dataclass(frozen=True, slots=True)
class RecordingEntry:
    """A line of INDEX.tsv."""

    file: str
    method: str
    status: int
    path: str

    @property
    def group(self) -> str:
        """The folder that it is in."""
        return self.file.split("/")[0]


@functools.cache
def read_index() -> tuple[RecordingEntry, ...]:
    """Return all lines of INDEX.tsv."""
    with (RECORDED / "INDEX.tsv").open(newline="", encoding="utf-8") as lines:
        rows = csv.DictReader(lines, delimiter="\t", quoting=csv.QUOTE_NONE)
        return tuple(
            RecordingEntry(r["file"], r["method"], int(r["status"]), r["path"]) for r in rows
        )


@functools.cache
def not_served() -> Mapping[str, str]:
    """``not_served.tsv``: the recordings that are not replayed, each with its reason."""
    with (DATA / "not_served.tsv").open(newline="", encoding="utf-8") as lines:
        return dict(csv.reader(lines, delimiter="\t", quoting=csv.QUOTE_NONE))


def replayed_recordings(*groups: str) -> list[RecordingEntry]:
    """The recordings of some groups that are replayed."""
    return [row for row in read_index() if row.group in groups and row.file not in not_served()]


@functools.cache
def record(file: str) -> Mapping[str, Any]:
    """One recording: method, path, request_headers, status, headers, body ..."""
    text = (RECORDED / file).read_text(encoding="utf-8")
    found: Mapping[str, Any] = json.loads(text)
    return found


def body(file: str) -> Any:
    """The body of one recording."""
    return record(file)["body"]


def results(file: str) -> list[dict[str, Any]]:
    """The rows of a recorded list."""
    rows: list[dict[str, Any]] = body(file)["results"]
    return rows


def bodies(group: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """Return ``(file, body)`` of a group's present recordings with a JSON object."""
    for path in sorted((RECORDED / group).glob("*.json")):
        file = f"{group}/{path.name}"
        found = body(file)
        if isinstance(found, dict):
            yield file, found


@functools.cache
def manifest() -> Mapping[str, Any]:
    """The sessions and the planted traps."""
    found: Mapping[str, Any] = json.loads((RECORDED / "_manifest.json").read_text())
    return found
