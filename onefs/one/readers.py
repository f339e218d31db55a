"""From a file to what it holds: by the file's extension, and never by running what is in it.

=====================================  ====================================================
``.npy``                               numpy array
``.npz``                               dict of arrays
``.json``                              what it says
``.jsonable``                          list, one item a line
``.csv``, ``.tsv``, ``.htsv``, ``.ssv``  pandas DataFrame
``.pqt``, ``.parquet``                 pandas DataFrame
anything else                          the Path
=====================================  ====================================================
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from onefs.errors import MissingLibrary, reason_of
from onefs.one import frames, texts
from onefs.one.headers import numpy_limit
from onefs.one.warn import warn

_PARQUET = (".pqt", ".parquet")


class Unreadable(Exception):
    """A file that its reader does not understand; the message says why."""


def read(path: Path, *, mmap: bool = False) -> Any:
    """What a file holds; its Path when there is no reader for it.

    With ``mmap`` an ``.npy`` file is mapped, not read. Raises MissingLibrary for a table when
    pandas is not installed, and Unreadable for a file that is not what its name says.
    """
    suffix = path.suffix.lower()
    reader = _READERS.get(suffix)
    if reader is None:
        return path
    try:
        if suffix != ".jsonable" and path.stat().st_size == 0:
            raise Unreadable("the file is empty")
        return reader(path, mmap)
    except (MissingLibrary, Unreadable):
        raise
    except Exception as error:
        # readers raise whatever they like for a file that is not of their kind
        raise Unreadable(f"{type(error).__name__}: {reason_of(error, path)}") from error


def _npy(path: Path, mmap: bool) -> Any:
    import numpy as np

    with _no_objects(path):
        return np.load(path, mmap_mode="r" if mmap else None, allow_pickle=False, **numpy_limit())


def _npz(path: Path, mmap: bool) -> Any:
    import numpy as np

    with _no_objects(path), np.load(path, allow_pickle=False, **numpy_limit()) as archive:
        return {name: archive[name] for name in archive.files}


@contextmanager
def _no_objects(path: Path) -> Iterator[None]:
    """Have numpy's refusal to unpickle say what to do."""
    try:
        yield
    except ValueError as error:
        if "allow_pickle" in str(error) or "Python objects" in str(error):
            raise Unreadable(_unpickled(path)) from error
        raise


def _unpickled(path: Path) -> str:
    return (
        "it holds Python objects, and to read these may run any code: if you trust the file, "
        f"numpy.load({path.name!r}, allow_pickle=True) reads it"
    )


def _json(path: Path, mmap: bool) -> Any:
    return json.loads(_text(path))


def _jsonable(path: Path, mmap: bool) -> Any:
    items = []
    # only \n ends a line: JSON may hold what str.splitlines() takes for an end
    for number, line in enumerate(_text(path).split("\n"), 1):
        try:
            if line.strip(" \t\r"):
                items.append(json.loads(line))
        except ValueError as error:
            raise Unreadable(f"line {number} is no JSON: {error}") from error
    return items


def _text(path: Path) -> str:
    return path.read_bytes().decode(_encoding(path))


def _encoding(path: Path) -> str:
    """The encoding of a text; a warning says when it is only likely."""
    encoding = texts.encoding_of(path)
    if texts.is_guess(encoding):
        warn(f"{path} is no UTF-8 text: it is read as {encoding}")
    return encoding


def _table(path: Path, mmap: bool) -> Any:
    pandas = _pandas(path)  # before a warning about the encoding
    return frames.read(pandas, path, _encoding(path))


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
    **dict.fromkeys(texts.SEPARATORS, _table),
    **dict.fromkeys(_PARQUET, _parquet),
}
