"""Folder listings of the file server, drawn from the rows of any laboratory."""

from __future__ import annotations

import os
from collections.abc import Iterable
from html import escape
from urllib.parse import quote

from onefs.demo.alyx_rows import with_uuid
from onefs.demo.records import SessionRecord, Source
from onefs.integers import parse_whole_number

#: stands before a file server's own address in a repository's data_url
DATA = "{data}"


def entries_of(source: Source, path: str) -> list[str] | None:
    """What the folder ``path`` holds, folders with a slash at the end; None if there is none."""
    wanted = [part for part in path.split("/") if part]
    found: set[str] = set()
    for repository, root in _roots(source):
        if root[: len(wanted)] == wanted and len(root) > len(wanted):
            found.add(root[len(wanted)] + "/")
        elif wanted[: len(root)] == root:
            found.update(_below(source, repository, wanted[len(root) :]))
    return sorted(found) or None


def render_page(path: str, entries: Iterable[str]) -> str:
    """The listing as nginx writes it, without dates and sizes of its own."""
    lines = "".join(
        f'<a href="{quote(os.fsencode(name))}">{_shown(name)}</a>\r\n' for name in entries
    )
    title = f"Index of {_shown(path)}"
    return (
        f"<html>\r\n<head><title>{title}</title></head>\r\n<body>\r\n<h1>{title}</h1><hr><pre>"
        f'<a href="../">../</a>\r\n{lines}</pre><hr></body>\r\n</html>\r\n'
    )


def _shown(name: str) -> str:
    return escape(os.fsencode(name).decode("utf-8", "replace"))


def _roots(source: Source) -> Iterable[tuple[str, list[str]]]:
    for row in source.tables().get("data-repository", ()):
        url = row.get("data_url") or ""
        if url.startswith(DATA):
            yield row["name"], [part for part in url[len(DATA) :].split("/") if part]


def _below(source: Source, repository: str, wanted: list[str]) -> Iterable[str]:
    """Children of ``subject/date/number/...`` in one repository."""
    lab = repository.partition("_")[2]
    for session in source.sessions():
        if session.lab != lab or not _leads_to(session, wanted):
            continue
        if len(wanted) < 2:
            yield (session.subject, session.start_time[:10])[len(wanted)] + "/"
            continue
        for dataset in source.datasets(session.eid):
            for record in dataset.file_records:
                parts = with_uuid(record.relative_path, dataset.id).split("/")
                rest = parts[len(wanted) :]
                inside = record.exists and record.repository == repository
                if inside and rest and parts[: len(wanted)] == wanted:
                    yield rest[0] + ("/" if len(rest) > 1 else "")


def _leads_to(session: SessionRecord, wanted: list[str]) -> bool:
    """Whether the session is in, or on the way of, the folder ``wanted``."""
    folders = [session.subject, session.start_time[:10]]
    if folders[: len(wanted)] != wanted[:2]:
        return False
    number = wanted[2] if len(wanted) > 2 else ""
    return not number or parse_whole_number(number) == session.number
