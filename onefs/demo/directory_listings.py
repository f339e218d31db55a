"""Folder listings of the file server, made from the rows of any laboratory."""

from __future__ import annotations

import os
from collections.abc import Iterable
from html import escape
from urllib.parse import quote

from onefs.demo.alyx_rows import with_uuid
from onefs.demo.records import SessionRecord, Source
from onefs.integers import parse_whole_number

#: the placeholder for the file server's own address in a repository's data_url
DATA = "{data}"


def entries_of(source: Source, path: str) -> list[str] | None:
    """Return the sorted names in the folder ``path``. The name of a folder ends with a slash.

    Return None if the folder is empty or does not exist.
    """
    folder = [part for part in path.split("/") if part]
    names: set[str] = set()
    for repository, root in _roots(source):
        if root[: len(folder)] == folder and len(root) > len(folder):
            names.add(root[len(folder)] + "/")
        elif folder[: len(root)] == root:
            names.update(_children(source, repository, folder[len(root) :]))
    return sorted(names) or None


def render_page(path: str, entries: Iterable[str]) -> str:
    """Return a listing as an HTML page, as nginx writes it, without dates and sizes."""
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


def _children(source: Source, repository: str, folder: list[str]) -> Iterable[str]:
    """Yield the names in a folder of one repository. A name may be repeated.

    ``folder`` is the folder's path as a list of names, from the subject on.
    """
    lab = repository.partition("_")[2]
    for session in source.sessions():
        if session.lab != lab or not _leads_to(session, folder):
            continue
        if len(folder) < 2:
            yield (session.subject, session.start_time[:10])[len(folder)] + "/"
            continue
        for dataset in source.datasets(session.eid):
            for record in dataset.file_records:
                parts = with_uuid(record.relative_path, dataset.id).split("/")
                rest = parts[len(folder) :]
                inside = record.exists and record.repository == repository
                if inside and rest and parts[: len(folder)] == folder:
                    yield rest[0] + ("/" if len(rest) > 1 else "")


def _leads_to(session: SessionRecord, folder: list[str]) -> bool:
    """Whether ``folder`` is the session's folder, or a folder above or below this folder."""
    parents = [session.subject, session.start_time[:10]]
    if parents[: len(folder)] != folder[:2]:
        return False
    number = folder[2] if len(folder) > 2 else ""
    return not number or parse_whole_number(number) == session.number
