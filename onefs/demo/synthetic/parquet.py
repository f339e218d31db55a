"""Tables in Parquet. They need pyarrow, which the demo does without if it is not installed."""

from __future__ import annotations

import importlib
import importlib.util
import io
import json
from collections.abc import Mapping
from typing import Any


def is_available() -> bool:
    """Return whether pyarrow is installed, so that tables can be made."""
    return importlib.util.find_spec("pyarrow") is not None


def table(columns: Mapping[str, Any]) -> bytes:
    """Return a Parquet file with these columns, each an array or a sequence."""
    pyarrow = importlib.import_module("pyarrow")
    parquet = importlib.import_module("pyarrow.parquet")
    buffer = io.BytesIO()
    made = pyarrow.table({name: pyarrow.array(column) for name, column in columns.items()})
    # ONE-api reads no file without pandas' notes
    index = {"kind": "range", "name": None, "start": 0, "stop": made.num_rows, "step": 1}
    notes = {"index_columns": [index], "column_indexes": [], "columns": []}
    parquet.write_table(made.replace_schema_metadata({"pandas": json.dumps(notes)}), buffer)
    return buffer.getvalue()
