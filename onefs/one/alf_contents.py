"""Content of the files of ALF objects, as ONE-api's verbs return it.

It differs from what ``load`` of the tutorial returns (``file_formats.py``): an array with one
column becomes a vector, a table with one column a Series, and tables are read with the defaults of
pandas. Code that a file contains is never run.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from onefs.errors import MissingLibrary, reason_of
from onefs.one import file_formats, text_files
from onefs.one.dataset_records import import_pandas
from onefs.one.file_formats import UnreadableFile
from onefs.one.warn import warn

#: the separator of each kind of text table
_SEPARATORS = {".csv": ",", ".ssv": " ", ".tsv": "\t", ".htsv": "\t"}


def read_content(path: Path) -> Any:
    """Return the content of a file. Return its Path if there is no reader for its extension.

    Return None for an empty file and for invalid JSON. For any other file that cannot be read,
    return its path, and warn. Raises MissingLibrary for a table if pandas or pyarrow is missing.
    """
    if path.stat().st_size == 0:
        return None
    reader = _READERS.get(path.suffix)
    if reader is None:
        return path
    try:
        return reader(path)
    except MissingLibrary:
        raise
    except Exception as error:
        # for a file that is not in their format, libraries raise errors of any class
        is_explained = isinstance(error, UnreadableFile)
        reason = str(error) if is_explained else f"{type(error).__name__}: {reason_of(error, path)}"
        if path.suffix == ".json":
            warn(f"the file {path} is not valid JSON, so it is None: {reason}")
            return None
        warn(f"the file {path} cannot be read, so its path is returned: {reason}")
        return path


def _read_npy(path: Path) -> Any:
    array = file_formats.read_file(path)
    # MATLAB writes vectors as arrays with one column
    return array.flatten() if array.ndim == 2 and array.shape[1] == 1 else array


def _read_npz(path: Path) -> Any:
    arrays = file_formats.read_file(path)
    # the name that numpy gives to a single array
    return arrays["arr_0"] if set(arrays) == {"arr_0"} else arrays


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
        raise UnreadableFile("the package pyyaml is not installed") from None
    with path.open(encoding="utf-8") as file:
        return yaml.safe_load(file)


def _read_sparse(path: Path) -> Any:
    try:
        import sparse
    except ImportError:
        raise UnreadableFile("the package sparse is not installed") from None
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
