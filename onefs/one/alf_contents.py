"""Content of the files of ALF objects, as ONE-api's verbs return it.

It differs from what ``load`` of the tutorial returns (``file_formats.py``): an array with one
column becomes a vector, a table with one column a Series, and tables are read with the defaults of
pandas. Code that a file contains is never run.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from importlib import import_module
from pathlib import Path, PurePath
from typing import Any

from onefs.errors import BadContent, MissingLibrary
from onefs.one import file_formats, text_files
from onefs.one.dataset_records import import_pandas
from onefs.one.file_formats import RefusedFile, UnreadableFile, translate_errors
from onefs.one.headers import numpy_header_options
from onefs.one.warn import warn

#: the separator of each kind of text table
_SEPARATORS = {".csv": ",", ".ssv": " ", ".tsv": "\t", ".htsv": "\t"}
#: numpy's type for each of pyarrow's types of numbers
_NUMBERS = {
    **{
        f"{sign}int{bits}": f"{sign[:1] or 'i'}{bits // 8}"
        for sign in ("", "u")
        for bits in (8, 16, 32, 64)
    },
    "float": "f4",
    "double": "f8",
}
#: the libraries that read files, in the order of their imports, with the suffixes of the files
_LIBRARIES = {
    "numpy": {".npy", ".npz", ".pqt"},
    "pyarrow.parquet": {".pqt"},
    "pandas": set(_SEPARATORS),
}
#: how the metadata of a table name numpy's types
_NUMPY_NAMES = {*(name for name in _NUMBERS if "int" in name), "float32", "float64"}


def read_content(path: Path) -> Any:
    """Return the content of a file. Return its Path if there is no reader for its extension.

    Return None for an empty file, and None with a warning for invalid JSON. Return the path, with
    a warning, of a file with Python objects, and of one whose library is missing. Raises BadContent
    if the content does not fit the extension, MissingLibrary for a table if pandas or pyarrow is
    missing, FileVanished if there is no such file, and CacheError if the disk fails.
    """
    reader = _READERS.get(path.suffix)
    try:
        with translate_errors(path):
            if path.stat().st_size == 0:
                return None
            return path if reader is None else reader(path)
    except RefusedFile as error:
        warn(f"the file {path} cannot be read, so its path is returned: {error}")
        return path
    except UnreadableFile as error:
        if path.suffix != ".json":
            raise BadContent(f"{path} cannot be read: {error}") from error
        warn(f"the file {path} is not valid JSON, so it is None: {error}")
        return None


def import_libraries(names: Iterable[str]) -> None:
    """Import the libraries that read these files. A missing library is ignored."""
    suffixes = {PurePath(name).suffix for name in names}
    for name, wanted in _LIBRARIES.items():
        if suffixes & wanted:
            with suppress(Exception):  # raised again where the library is needed
                import_module(name)


def read_numbers(path: Path) -> dict[str, Any] | None:
    """Return the columns of a parquet table of numbers as arrays of one type, without pandas.

    Return None for other files and tables, which need pandas. The arrays are those that
    :meth:`.AlfBunch.from_df` would return. The import of pandas takes longer than to read most
    tables.
    """
    if path.suffix != ".pqt":
        return None
    try:
        if path.stat().st_size == 0:
            return None
        import numpy as np
        from pyarrow import parquet

        table = parquet.ParquetFile(path).read()
    except Exception:  # pandas, or its absence, is the reason that users know
        return None
    if not table.num_rows or not _has_plain_columns(table.schema.pandas_metadata):
        return None
    columns = {}
    for name, column in zip(table.column_names, table.columns, strict=True):
        kind = _NUMBERS.get(str(column.type))
        if kind is None or (column.null_count and kind[0] != "f"):
            return None
        columns[name] = np.concatenate([_array_of_chunk(each, kind) for each in column.chunks])
    if len(columns) < table.num_columns:
        return None
    common = np.result_type(*columns.values())
    return {name: each.astype(common, copy=False) for name, each in columns.items()}


def _array_of_chunk(chunk: Any, kind: str) -> Any:
    """Return the numbers of a pyarrow Array, with NaN for null. ``kind`` is numpy's type."""
    import numpy as np

    # pyarrow's own conversion imports pandas
    validity, numbers = chunk.buffers()
    begin, end = chunk.offset, chunk.offset + len(chunk)
    array = np.frombuffer(numbers, kind, end)[begin:]
    if not chunk.null_count:
        return array
    is_valid = np.unpackbits(np.frombuffer(validity, "u1"), count=end, bitorder="little")[begin:]
    return np.where(is_valid, array, np.nan).astype(kind)


def _has_plain_columns(metadata: Mapping[str, Any] | None) -> bool:
    """Whether pandas would read all columns as numpy's numbers, and none as the index."""
    if metadata is None:
        return True
    return all(isinstance(each, dict) for each in metadata["index_columns"]) and all(
        each["numpy_type"] in _NUMPY_NAMES for each in metadata["columns"]
    )


def _read_npy(path: Path) -> Any:
    array = file_formats.read_file(path)
    # MATLAB writes vectors as arrays with one column
    return array.flatten() if array.ndim == 2 and array.shape[1] == 1 else array


def _read_npz(path: Path) -> Any:
    import numpy as np

    archive = np.load(path, allow_pickle=False, **numpy_header_options())
    if archive.files != ["arr_0"]:  # the name that numpy gives to a single array
        return archive
    with archive:
        return archive["arr_0"]


def _read_text_table(path: Path) -> Any:
    pandas = import_pandas(path.name)
    separator = _SEPARATORS[path.suffix]
    try:
        table = pandas.read_csv(path, sep=separator)
    except UnicodeDecodeError:
        encoding = text_files.encoding_of(path)
        warn(f"the file {path} is not UTF-8 text: onefs reads the file as {encoding}")
        table = pandas.read_csv(path, sep=separator, encoding=encoding)
    return table.squeeze("columns")


def _read_parquet(path: Path) -> Any:
    import_pandas(path.name)
    try:
        from pyarrow import parquet
    except ImportError as error:
        raise MissingLibrary(
            f'{path.name} is a table, for which pandas is needed: pip install "onefs[pandas]"'
        ) from error
    return parquet.read_table(path).to_pandas()


def _read_yaml(path: Path) -> Any:
    try:
        import yaml
    except ImportError:
        raise RefusedFile("the package pyyaml is not installed") from None
    with path.open(encoding="utf-8") as file:
        return yaml.safe_load(file)


def _read_sparse(path: Path) -> Any:
    try:
        import sparse
    except ImportError:
        raise RefusedFile("the package sparse is not installed") from None
    return sparse.load_npz(path)


_READERS: Mapping[str, Callable[[Path], Any]] = {
    ".npy": _read_npy,
    ".npz": _read_npz,
    ".json": file_formats.read_file,
    ".jsonable": file_formats.read_file,
    ".pqt": _read_parquet,
    ".yml": _read_yaml,
    ".yaml": _read_yaml,
    ".sparse_npz": _read_sparse,
    **dict.fromkeys(_SEPARATORS, _read_text_table),
}
