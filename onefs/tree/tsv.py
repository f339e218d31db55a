"""Tables as text, for programs without a JSON reader: ``.insertions.tsv``, ``.sessions.tsv``."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from onefs import alf
from onefs.model import Insertion, Session
from onefs.printable import printable

INSERTION_COLUMNS = (
    "pid", "eid", "name", "model", "serial", "qc", "ref", "lab", "subject", "date", "number",
    "path",
)  # fmt: skip
SESSION_COLUMNS = (
    "eid", "ref", "lab", "subject", "date", "number", "task_protocol", "projects", "path",
)  # fmt: skip


def tsv_cell(text: str) -> str:
    """Return ``text``, a text from the server, as one cell of a table.

    Characters that would end the cell or the line, like a tab, are replaced.
    """
    return printable(alf.path_component(text)) if text else ""


def tsv_text(columns: Sequence[str], rows: Iterable[Mapping[str, str]]) -> str:
    """Return a table as text: the names of the columns, and a line for each row.

    Readers of tables would treat a quote as the begin of a longer cell, so it is replaced.
    """
    lines = [columns, *([_cell(row.get(name, "")) for name in columns] for row in rows)]
    return "".join("\t".join(line) + "\n" for line in lines)


def _cell(text: str) -> str:
    return printable(text).replace('"', "'")


def insertion_cells(insertion: Insertion, session: Session) -> dict[str, str]:
    """Return the cells of an insertion's row, by column, without ``path``.

    A cell is '' if its value is unknown.
    """
    record = json.loads(insertion.record)
    details = record.get("json")
    qc = details.get("qc") if isinstance(details, dict) else None
    return {
        "pid": insertion.id,
        "eid": insertion.eid,
        "name": insertion.name,
        "model": _text(record.get("model")),
        "serial": _text(record.get("serial")),
        "qc": _text(qc),
        **_columns_of_both(session),
    }


def session_cells(session: Session) -> dict[str, str]:
    """Return the cells of a session's row, by column, without ``path``."""
    return {
        "eid": session.eid,
        **_columns_of_both(session),
        "task_protocol": session.task_protocol,
        "projects": ",".join(session.projects),
    }


def _columns_of_both(session: Session) -> dict[str, str]:
    return {
        "ref": session.ref,
        "lab": session.lab,
        "subject": session.subject,
        "date": session.date,
        "number": str(session.number),
    }


def _text(value: Any) -> str:
    return value if isinstance(value, str) else ""
