"""Columns of cache tables as Python values, a batch at a time.

Millions of rows go through here, and a call of Python for each value is what loading them would
mostly cost. So a column of texts that all have one length (ids, hashes) is decoded in one piece,
and one that repeats a few values (paths, qc) is converted value by value, not row by row. Whatever
does not have the usual form is looked at one by one.
"""

from __future__ import annotations

import math
import struct
from array import array
from binascii import unhexlify
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

T = TypeVar("T")

_INT64_PAIR = struct.Struct("<qq")
_UUID_LENGTH = 36
_DASH_POSITIONS = (8, 13, 18, 23)
_DIGIT_POSITIONS = [place for place in range(_UUID_LENGTH) if place not in _DASH_POSITIONS]
#: hexadecimal digits of an md5
_MD5_LENGTH = 32


def column_values(batch: Any, name: str) -> list[Any]:
    """A column as Python values; Nones when the table has no such column."""
    if name not in batch.schema.names:
        return [None] * int(batch.num_rows)
    found: list[Any] = batch.column(name).to_pylist()
    return found


def convert_column(batch: Any, name: str, convert: Callable[[Any], T]) -> list[T]:
    """A column's values converted, each distinct one once.

    As for None when there is no such column, or one of lists and the like.
    """
    nothing = convert(None)
    if name not in batch.schema.names:
        return [nothing] * int(batch.num_rows)
    column = batch.column(name)
    if not hasattr(column, "indices"):
        try:
            column = column.dictionary_encode()
        except NotImplementedError:
            return [nothing] * int(batch.num_rows)
    known = [convert(value) for value in column.dictionary.to_pylist()]
    return [nothing if index is None else known[index] for index in column.indices.to_pylist()]


def uuid_column(batch: Any, name: str) -> list[bytes | None]:
    """A column of UUIDs as their bytes; None for what is none."""
    if f"{name}_0" in batch.schema.names:
        pairs = zip(
            column_values(batch, f"{name}_0"), column_values(batch, f"{name}_1"), strict=True
        )
        return [
            None if low is None or high is None else _INT64_PAIR.pack(low, high)
            for low, high in pairs
        ]
    text = _fixed_length_text(batch, name, _UUID_LENGTH)
    if text is not None:
        dashes = all(set(text[place::_UUID_LENGTH]) == {ord("-")} for place in _DASH_POSITIONS)
        found = _decode_hex(text.replace(b"-", b""), 16) if dashes else None
        if found is not None and len(found) == batch.num_rows:
            return list(found)
    return [_parse_uuid(value) for value in column_values(batch, name)]


def digest_column(batch: Any, name: str) -> list[bytes | None]:
    """A column of md5s or sha1s as their bytes; None for what is neither."""
    text = _fixed_length_text(batch, name, _MD5_LENGTH)
    found = _decode_hex(text, _MD5_LENGTH // 2) if text is not None else None
    return (
        list(found)
        if found is not None
        else [_parse_digest(value) for value in column_values(batch, name)]
    )


def integer_column(batch: Any, name: str) -> list[int | None]:
    """A column of sizes, see :func:`integer`."""
    found = column_values(batch, name)
    if set(map(type, found)) == {int} and min(found) >= 0 and max(found) < 1 << 63:
        return found
    return [to_integer(value) for value in found]


def to_integer(value: Any) -> int | None:
    """A size or number; None for null, NaN, and what is below 0."""
    if value is None or (isinstance(value, float) and not math.isfinite(value)):
        return None
    try:
        found = int(value)
    except (TypeError, ValueError):
        return None
    return found if 0 <= found < 1 << 63 else None


def uuid_text_array(arrow: Any, raw: Sequence[bytes]) -> Any:
    """The UUIDs as pyarrow's array of texts."""
    digits = b"".join(raw).hex().encode()
    text = bytearray(b"-" * (_UUID_LENGTH * len(raw)))
    for number, place in enumerate(_DIGIT_POSITIONS):
        text[place::_UUID_LENGTH] = digits[number :: len(_DIGIT_POSITIONS)]
    ends = array("i", range(0, len(text) + 1, _UUID_LENGTH))
    return arrow.StringArray.from_buffers(len(raw), arrow.py_buffer(ends), arrow.py_buffer(text))


def _fixed_length_text(batch: Any, name: str, length: int) -> bytes | None:
    """All texts of a column after one another; None unless each has ``length`` bytes."""
    if name not in batch.schema.names or not batch.num_rows:
        return None
    column = batch.column(name)
    if column.null_count or str(column.type) != "string":
        return None
    _, ends, data = column.buffers()
    places = memoryview(ends).cast("i")[column.offset : column.offset + len(column) + 1].tolist()
    first, last = places[0], places[-1]
    if last - first != length * len(column) or places != list(range(first, last + 1, length)):
        return None
    return bytes(memoryview(data)[first:last])


def _decode_hex(text: bytes, length: int) -> list[bytes] | None:
    """Values of ``length`` bytes from their hexadecimal digits; None for other characters."""
    try:
        raw = unhexlify(text)
    except ValueError:
        return None
    return [value for (value,) in struct.iter_unpack(f"{length}s", raw)]


def _parse_uuid(text: object) -> bytes | None:
    if not isinstance(text, str) or len(text) != _UUID_LENGTH:
        return None
    try:
        found = bytes.fromhex(text.replace("-", ""))
    except ValueError:
        return None
    return found if len(found) == 16 else None


def _parse_digest(text: object) -> bytes | None:
    """An md5 or sha1; None for anything else."""
    if not isinstance(text, str) or len(text) not in (32, 40):
        return None
    try:
        found = bytes.fromhex(text)
    except ValueError:
        return None
    return found if len(found) * 2 == len(text) else None
