"""What a file holds, from its first bytes."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

#: bytes that are asked for first; nearly every header is in them
FIRST = 1024
#: no header is longer
LONGEST = 2**20

Read = Callable[[int], bytes]


def describe(name: str, read: Read, local: Path | None) -> dict[str, Any]:
    """Shape, dtype and rows of a ``.npy`` file, columns of a table, and its rows when it is here.

    ``read(n)`` gives the first n bytes. {} for what has no header that we know.
    """
    suffix = Path(name).suffix.lower()
    if suffix == ".npy":
        return _npy(read)
    if suffix in (".csv", ".tsv", ".htsv", ".ssv"):
        return _table(read, {".csv": ",", ".ssv": " "}.get(suffix, "\t"), local)
    return {}


def _npy(read: Read) -> dict[str, Any]:
    from numpy.lib import format as npy

    raw = read(FIRST)
    if raw[:6] != npy.MAGIC_PREFIX or len(raw) < 12:
        return {"note": "the file does not begin like an npy file"}
    long = raw[6] > 1
    length = int.from_bytes(raw[8 : 12 if long else 10], "little") + (12 if long else 10)
    if length > LONGEST:
        return {"note": "the file's npy header makes no sense"}
    file = io.BytesIO(raw if length <= len(raw) else read(length))
    try:
        version = npy.read_magic(file)
        header = npy.read_array_header_1_0 if version == (1, 0) else npy.read_array_header_2_0
        shape, fortran, dtype = header(file)
    except ValueError as error:
        return {"note": f"the file's npy header makes no sense: {error}"}
    found = {"shape": list(shape), "dtype": str(dtype), "rows": shape[0] if shape else 1}
    return {**found, "order": "Fortran"} if fortran and len(shape) > 1 else found


def _table(read: Read, separator: str, local: Path | None) -> dict[str, Any]:
    first, newline, _ = read(FIRST).partition(b"\n")
    found: dict[str, Any] = {}
    if newline:
        found["columns"] = first.decode("utf-8", "replace").rstrip("\r").split(separator)
    if local is not None:
        with local.open("rb") as file:
            found["rows"] = max(0, sum(1 for line in file if line.strip()) - 1)
    return found
