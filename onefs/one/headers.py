"""Description of a file from its first bytes: shape, dtype and columns."""

from __future__ import annotations

import csv
import io
import re
import sys
from collections.abc import Callable
from itertools import islice
from pathlib import Path
from typing import Any

from onefs.one import text_files

#: how many bytes the first request asks for; nearly every header is shorter
FIRST_READ_BYTES = 1024
#: longest header that is read, in bytes; numpy needs 10 s for a header with 150,000 columns
MAX_HEADER_BYTES = 2**22

#: the first bytes of an ``.npy`` file
_NPY_MAGIC = b"\x93NUMPY"
#: the header that numpy writes for numbers and truth values, with the byte order of this machine
_USUAL_HEADER = re.compile(
    rb"\{'descr': '(?:\||%b)(b1|[iu][1248]|f[248]|c8|c16)', 'fortran_order': (False|True), "
    rb"'shape': \((|%b,|%b(?:, %b)+)\), \} *\n"
    % (b"<" if sys.byteorder == "little" else b">", *3 * [rb"(?:0|[1-9][0-9]{0,17})"])
)
_KINDS = {"b": "bool", "i": "int", "u": "uint", "f": "float", "c": "complex"}

ReadFirstBytes = Callable[[int], bytes]


def describe_file(name: str, read: ReadFirstBytes, local: Path | None) -> dict[str, Any]:
    """Return shape, dtype and rows of an ``.npy`` file, or the columns of a table.

    - ``read``: ``read(n)`` returns the first n bytes of the file.
    - ``local``: the path of the cached file, or None. With a path, the rows of a table are counted.

    Return {} for other files.
    """
    suffix = Path(name).suffix.lower()
    if suffix == ".npy":
        return _describe_npy(read)
    if suffix in text_files.SEPARATORS:
        return _describe_table(name, text_files.SEPARATORS[suffix], read, local)
    return {}


def numpy_header_options() -> dict[str, Any]:
    """Return the keyword arguments that let numpy read long headers.

    Return {} for versions of numpy that have no limit.
    """
    import numpy as np

    has_limit = np.lib.NumpyVersion(np.__version__) >= "1.24.0"
    return {"max_header_size": MAX_HEADER_BYTES} if has_limit else {}


def _describe_npy(read: ReadFirstBytes) -> dict[str, Any]:
    raw = read(FIRST_READ_BYTES)
    if raw[:6] != _NPY_MAGIC or len(raw) < 12:
        return {"note": "the file does not begin like an npy file"}
    start = 12 if raw[6] > 1 else 10
    length = int.from_bytes(raw[8:start], "little")
    if length > MAX_HEADER_BYTES:
        return {"note": f"the file's npy header has {length:,} bytes, too many to be read"}
    end = start + length
    raw = raw if end <= len(raw) else read(end)
    try:
        shape, fortran, dtype = _parse_numpy_header(tuple(raw[6:8]), raw[start:end])
    except ValueError as error:
        return {"note": f"the file's npy header is invalid: {error}"}
    header = {"shape": list(shape), "dtype": str(dtype), "rows": shape[0] if shape else 1}
    return {**header, "order": "Fortran"} if fortran and len(shape) > 1 else header


def _parse_numpy_header(version: tuple[int, ...], text: bytes) -> tuple[tuple[int, ...], bool, Any]:
    """Return the shape, True for Fortran order or False for C order, and the dtype.

    Raises ValueError if the header is invalid.
    """
    if version not in ((1, 0), (2, 0), (3, 0)):
        raise ValueError(f"the version is {'.'.join(map(str, version))}")
    if (usual := _USUAL_HEADER.fullmatch(text)) is not None:
        kind, fortran, shape = (part.decode() for part in usual.groups())
        return _parse_shape(shape), fortran == "True", _dtype_name(kind)
    from numpy.lib import format as npy  # takes longer than all else that describes a file

    if version == (3, 0):  # UTF-8; numpy has a public reader for 2.0 only, which expects latin-1
        text = text.decode().encode("ascii", "backslashreplace")
    file = io.BytesIO(len(text).to_bytes(4, "little") + text)
    return npy.read_array_header_2_0(file, **numpy_header_options())


def _parse_shape(text: str) -> tuple[int, ...]:
    return tuple(int(each) for each in text.split(",") if each)


def _dtype_name(kind: str) -> str:
    """Return numpy's name of a dtype: ``int32`` for ``i4``."""
    name = _KINDS[kind[0]]
    return name if name == "bool" else f"{name}{8 * int(kind[1:])}"


def _describe_table(
    name: str, separator: str, read: ReadFirstBytes, local: Path | None
) -> dict[str, Any]:
    description: dict[str, Any] = {}
    try:
        first = _read_first_row(read, separator)
        named = text_files.has_column_names(name, first)
        if named and first:
            description["columns"] = first
        if local is not None:
            with local.open(encoding=text_files.encoding_of(local), newline="") as file:
                rows = sum(1 for _ in text_files.rows_of(file, separator))
            description["rows"] = max(0, rows - named)
    except (csv.Error, ValueError) as error:
        description["note"] = f"the table cannot be read: {error}"
    return description


def _read_first_row(read: ReadFirstBytes, separator: str) -> list[str]:
    """Return the fields of a table's first row. Return [] if the row is missing or too long."""
    for length in (FIRST_READ_BYTES, MAX_HEADER_BYTES):
        raw = read(length)
        lines = io.StringIO(text_files.decode_beginning(raw), newline="")
        rows = list(islice(text_files.rows_of(lines, separator), 2))
        if len(rows) > 1 or len(raw) < length:
            return rows[0] if rows else []
    return []
