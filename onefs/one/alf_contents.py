"""Content of the files of ALF objects, as ONE-api's verbs return it.

It differs from what ``load`` of the tutorial returns (``file_formats.py``): an array with one
column becomes a vector, a table with one column a Series, and tables are read with the defaults of
pandas. Code that a file contains is never run.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from onefs.errors import BadContent, MissingLibrary
from onefs.one import file_formats, text_files
from onefs.one.dataset_records import import_pandas
from onefs.one.file_formats import RefusedFile, UnreadableFile, translate_errors
from onefs.one.headers import numpy_header_options
from onefs.one.warn import warn

#: the separator of each kind of text table
_SEPARATORS = {".csv": ",", ".ssv": " ", ".tsv": "\t", ".htsv": "\t"}


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
