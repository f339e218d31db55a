"""Reading of text tables with pandas."""

from __future__ import annotations

import csv
from contextlib import suppress
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any

from onefs.one import text_files


def read_table(pandas: Any, path: Path, encoding: str) -> Any:
    """Return the table in a file as a DataFrame.

    Columns that contain only numbers are read as numbers. All other columns contain the texts
    unchanged. Without column names, the columns are named 0, 1, 2 ...
    """
    separator = text_files.SEPARATORS[path.suffix.lower()]
    first, second = _read_first_rows(path, encoding, separator)
    named = text_files.has_column_names(path.name, first)
    read = partial(
        pandas.read_csv,
        path,
        sep=separator,
        encoding=encoding,
        header=0 if named else None,
        low_memory=False,  # else one column could have texts and numbers
        float_precision="round_trip",
    )
    table = read()
    if len(second) == len(first) + 1 and table.iloc[:, -1].isna().all():
        # a separator ends each line, so pandas has used the first column as the index
        read = partial(read, index_col=False)
        table = read()
    table = _restore_words(pandas, table, read)
    if not named and first[-1] == "" and table.iloc[:, -1].isna().all():
        return table.iloc[:, :-1]  # a separator ends each line
    return table


def _read_first_rows(path: Path, encoding: str, separator: str) -> tuple[list[str], list[str]]:
    """Return the fields of the first two rows. A row that is missing or too long is []."""
    rows: list[list[str]] = []
    with path.open(encoding=encoding, newline="") as file, suppress(csv.Error):
        for row in islice(text_files.rows_of(file, separator), 2):
            rows.append(row)
    rows += [[], []]
    return rows[0], rows[1]


def _restore_words(pandas: Any, table: Any, read: partial[Any]) -> Any:
    """Return the table with words such as NA and None in its text columns.

    pandas has read these words as missing values. This function restores the words.
    """
    places = [
        place
        for place in range(table.shape[1])
        if pandas.api.types.infer_dtype(table.iloc[:, place], skipna=True) == "string"
        and table.iloc[:, place].isna().any()
    ]
    if places:
        as_text = read(dtype=str, keep_default_na=False, na_values=[""])
        for place in places:
            table.isetitem(place, as_text.iloc[:, place].array)
    return table
