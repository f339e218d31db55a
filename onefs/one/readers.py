"""From a file to what it holds: by the file's extension, and never by running what is in it.

=====================================  ====================================================
``.npy``                               numpy array
``.npz``                               dict of arrays
``.json``                              what it says
``.jsonable``                          list, one item a line
``.csv``, ``.tsv``, ``.htsv``, ``.ssv``  pandas DataFrame
``.pqt``, ``.parquet``                 pandas DataFrame
anything else, and object arrays       the Path
=====================================  ====================================================
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from onefs.errors import MissingLibrary

_TABLES = {".csv": ",", ".tsv": "\t", ".htsv": "\t", ".ssv": " "}
_PARQUET = (".pqt", ".parquet")


class Unreadable(Exception):
    """A file that its reader does not understand; the message says why."""


def read(path: Path, *, mmap: bool = False) -> Any:
    """What a file holds; its Path when there is no reader for it.

    With ``mmap`` an ``.npy`` file is mapped, not read. Raises MissingLibrary for a table when
    pandas is not installed, and Unreadable for a file that is not what its name says.
    """
    reader = _READERS.get(path.suffix.lower())
    if reader is None:
        return path
    try:
        return reader(path, mmap)
    except MissingLibrary:
        raise
    except Exception as error:
        # readers raise whatever they like for a file that is not of their kind
        raise Unreadable(f"{type(error).__name__}: {error}") from error


def _npy(path: Path, mmap: bool) -> Any:
    import numpy as np

    with path.open("rb") as file:
        version = np.lib.format.read_magic(file)
        header = _header(np.lib.format, version)(file)
    if header[2].hasobject:
        return path
    return np.load(path, mmap_mode="r" if mmap else None, allow_pickle=False)


def _header(numpy_format: Any, version: tuple[int, int]) -> Callable[..., Any]:
    if version == (1, 0):
        return numpy_format.read_array_header_1_0  # type: ignore[no-any-return]
    return numpy_format.read_array_header_2_0  # type: ignore[no-any-return]


def _npz(path: Path, mmap: bool) -> Any:
    import numpy as np

    with np.load(path, allow_pickle=False) as archive:
        try:
            return {name: archive[name] for name in archive.files}
        except ValueError as error:
            if "allow_pickle" in str(error):  # an object array is in it
                return path
            raise


def _json(path: Path, mmap: bool) -> Any:
    return json.loads(path.read_text("utf-8"))


def _jsonable(path: Path, mmap: bool) -> Any:
    lines = path.read_text("utf-8").splitlines()
    return [json.loads(line) for line in lines if line.strip()]


def _table(path: Path, mmap: bool) -> Any:
    return _pandas(path).read_csv(path, sep=_TABLES[path.suffix.lower()])


def _parquet(path: Path, mmap: bool) -> Any:
    try:
        import pyarrow  # noqa: F401 - pandas reads parquet with it
    except ImportError as error:
        raise _missing(path) from error
    return _pandas(path).read_parquet(path)


def _pandas(path: Path) -> Any:
    try:
        import pandas as pd
    except ImportError as error:
        raise _missing(path) from error
    return pd


def _missing(path: Path) -> MissingLibrary:
    return MissingLibrary(
        f'{path.name} is a table, for which pandas is needed: pip install "onefs[pandas]"'
    )


_READERS: Mapping[str, Callable[[Path, bool], Any]] = {
    ".npy": _npy,
    ".npz": _npz,
    ".json": _json,
    ".jsonable": _jsonable,
    **dict.fromkeys(_TABLES, _table),
    **dict.fromkeys(_PARQUET, _parquet),
}
