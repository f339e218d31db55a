"""The lines that ``onefs search --insertions`` prints."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from onefs.cli.one_commands import format_table
from onefs.tree.tsv import INSERTION_COLUMNS, tsv_text


def format_insertions(
    form: str, rows: Sequence[Mapping[str, Any]], paths: Mapping[str, Path]
) -> list[str]:
    """Return the lines to print about insertions.

    ``rows`` have the columns of ``.insertions.tsv`` but ``path``. ``paths`` are the folders of the
    sessions by eid, if the form ``form`` shows them.
    """
    if form == "pids":
        return [str(row["pid"]) for row in rows]
    if form == "eids":
        return list(dict.fromkeys(str(row["eid"]) for row in rows))
    if form == "paths":
        return list(dict.fromkeys(str(paths[row["eid"]]) for row in rows if row["eid"] in paths))
    if form == "tsv":
        with_paths = ({**row, "path": str(paths.get(row["eid"], ""))} for row in rows)
        return tsv_text(INSERTION_COLUMNS, with_paths).splitlines()
    if form == "json":
        shown = [
            {
                **row,
                "number": int(row["number"]),
                "path": str(paths[row["eid"]]) if row["eid"] in paths else None,
            }
            for row in rows
        ]
        return [json.dumps(shown, indent=4)]
    header = ["ref", "lab", "name", "model", "pid"]
    return format_table([[row[name] for name in header] for row in rows], header)
