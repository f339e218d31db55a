"""Reading of files by their extension. Code that a file contains is never run.

=====================================  ====================================================
``.npy``                               numpy array
``.npz``                               dict of arrays
``.json``                              the value in the file
``.jsonable``                          list with one item for each line
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

from onefs.errors import CacheError, MissingLibrary, OnefsError, reason_of
from onefs.one import text_files, text_tables
from onefs.one.headers import numpy_header_options
from onefs.one.warn import warn

_PARQUET_SUFFIXES = (".pqt", ".parquet")
#: how files with Python objects begin: arrays, archives, and pickles
_PICKLED_PREFIXES = (b"\x93NUMPY", b"PK", b"\x80")


class UnreadableFile(Exception):
    """The reader for a file's extension cannot read the file. The message says why."""


class RefusedFile(UnreadableFile):
    """A file that is not read, although it may be in its format. The message says why."""


class FileVanished(CacheError):
    """A file has been removed since it was fetched."""


@contextmanager
def translate_errors(path: Path) -> Iterator[None]:
    """Replace errors of libraries that read the file ``path``.

    An error of the disk becomes CacheError, or FileVanished if there is no such file. Any other
    error becomes UnreadableFile, except MemoryError and the errors of onefs.
    """
    try:
        yield
    except (OnefsError, UnreadableFile, MemoryError):
        raise
    except Exception as error:
        # for a file that is not in their format, libraries raise errors of any class; an OSError
        # of theirs has no errno
        if isinstance(error, OSError) and error.errno:
            kind = FileVanished if isinstance(error, FileNotFoundError) else CacheError
            raise kind(f"{path} cannot be read: {reason_of(error, path)}") from error
        raise UnreadableFile(f"{type(error).__name__}: {reason_of(error, path)}") from error


def read_file(path: Path, *, mmap: bool = False) -> Any:
    """Return the content of a file. Return its Path if there is no reader for its extension.

    With ``mmap``, an ``.npy`` file is mapped into memory. Raises MissingLibrary if a table needs
    pandas or pyarrow, and the library is not installed. Raises UnreadableFile if the content does
    not fit the extension, and CacheError if the disk fails.
    """
    suffix = path.suffix.lower()
    reader = _READERS.get(suffix)
    if reader is None:
        return path
    with translate_errors(path):
        if suffix != ".jsonable" and path.stat().st_size == 0:
            raise UnreadableFile("the file is empty")
        return reader(path, mmap)


def _read_npy(path: Path, mmap: bool) -> Any:
    import numpy as np

    with _explain_pickled(path):
        return np.load(
            path, mmap_mode="r" if mmap else None, allow_pickle=False, **numpy_header_options()
        )


def _read_npz(path: Path, mmap: bool) -> Any:
    import numpy as np

    with (
        _explain_pickled(path),
        np.load(path, allow_pickle=False, **numpy_header_options()) as archive,
    ):
        return {name: archive[name] for name in archive.files}


@contextmanager
def _explain_pickled(path: Path) -> Iterator[None]:
    """Raise RefusedFile, with advice, if numpy refuses to unpickle the file.

    If the file has no Python objects, raise UnreadableFile.
    """
    try:
        yield
    except ValueError as error:
        if "allow_pickle" in str(error) or "Python objects" in str(error):
            # numpy takes any file that is not in its format for a pickled one
            with path.open("rb") as file:
                is_pickled = file.read(6).startswith(_PICKLED_PREFIXES)
            if is_pickled:
                raise RefusedFile(_pickled_message(path)) from error
            raise UnreadableFile(_pickled_message(path)) from error
        raise


def _pickled_message(path: Path) -> str:
    return (
        "the file holds Python objects, and reading Python objects may run any code: if you trust "
        f"the file, read it with numpy.load({path.name!r}, allow_pickle=True)"
    )


def _read_json(path: Path, mmap: bool) -> Any:
    return json.loads(_read_text(path))


def _read_jsonable(path: Path, mmap: bool) -> Any:
    items = []
    # only \n ends a line; str.splitlines() also splits at characters that JSON strings may contain
    for number, line in enumerate(_read_text(path).split("\n"), 1):
        try:
            if line.strip(" \t\r"):
                items.append(json.loads(line))
        except ValueError as error:
            raise UnreadableFile(f"line {number} is not JSON: {error}") from error
    return items


def _read_text(path: Path) -> str:
    return path.read_bytes().decode(_detect_encoding(path))


def _detect_encoding(path: Path) -> str:
    """Return the encoding of a text file. Warn if the encoding is a guess."""
    encoding = text_files.encoding_of(path)
    if text_files.is_guess(encoding):
        warn(f"the file {path} is not UTF-8 text: onefs reads the file as {encoding}")
    return encoding


def _read_text_table(path: Path, mmap: bool) -> Any:
    pandas = _import_pandas(path)  # first, so that its error comes without an encoding warning
    return text_tables.read_table(pandas, path, _detect_encoding(path))


def _read_parquet(path: Path, mmap: bool) -> Any:
    try:
        import pyarrow  # noqa: F401 - pandas reads parquet with it
    except ImportError as error:
        raise _missing_pandas(path) from error
    return _import_pandas(path).read_parquet(path)


def _import_pandas(path: Path) -> Any:
    try:
        import pandas as pd
    except ImportError as error:
        raise _missing_pandas(path) from error
    return pd


def _missing_pandas(path: Path) -> MissingLibrary:
    return MissingLibrary(
        f'{path.name} is a table, for which pandas is needed: pip install "onefs[pandas]"'
    )


_READERS: Mapping[str, Callable[[Path, bool], Any]] = {
    ".npy": _read_npy,
    ".npz": _read_npz,
    ".json": _read_json,
    ".jsonable": _read_jsonable,
    **dict.fromkeys(text_files.SEPARATORS, _read_text_table),
    **dict.fromkeys(_PARQUET_SUFFIXES, _read_parquet),
}
