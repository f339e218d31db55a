"""Convert columns of cache tables to Python values, one batch of rows at a time.

Tables have millions of rows. If a Python function were called for each row, these calls would take
most of the loading time. So a column of texts with equal lengths (ids, hashes) is decoded as a
whole. In a column with repeated values (paths, qc), each distinct value is converted once. Other
columns are converted row by row.
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
#: number of hexadecimal digits in an md5
_MD5_LENGTH = 32


def column_values(batch: Any, name: str) -> list[Any]:
    """Return the values of a column. Each value is None if the table has no such column."""
    if name not in batch.schema.names:
        return [None] * int(batch.num_rows)
    values: list[Any] = batch.column(name).to_pylist()
    return values


def convert_column(batch: Any, name: str, convert: Callable[[Any], T]) -> list[T]:
    """Return the values of a column, each converted by ``convert``.

    ``convert`` is called once for each distinct value. If the column is missing or has nested
    values, each result is ``convert(None)``.
    """
    empty = convert(None)
    if name not in batch.schema.names:
        return [empty] * int(batch.num_rows)
    column = batch.column(name)
    if not hasattr(column, "indices"):
        try:
            column = column.dictionary_encode()
        except NotImplementedError:
            return [empty] * int(batch.num_rows)
    values = [convert(value) for value in column.dictionary.to_pylist()]
    return [empty if index is None else values[index] for index in column.indices.to_pylist()]


def uuid_column(batch: Any, name: str) -> list[bytes | None]:
    """Return the UUIDs in a column, each as 16 bytes. A value that is no UUID becomes None."""
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
        uuids = _decode_hex(text.replace(b"-", b""), 16) if dashes else None
        if uuids is not None and len(uuids) == batch.num_rows:
            return list(uuids)
    return [_parse_uuid(value) for value in column_values(batch, name)]


def digest_column(batch: Any, name: str) -> list[bytes | None]:
    """Return the hashes in a column: an md5 as 16 bytes, a sha1 as 20 bytes.

    Any other value becomes None.
    """
    text = _fixed_length_text(batch, name, _MD5_LENGTH)
    md5s = _decode_hex(text, _MD5_LENGTH // 2) if text is not None else None
    if md5s is not None:
        return list(md5s)
    return [_parse_digest(value) for value in column_values(batch, name)]


def integer_column(batch: Any, name: str) -> list[int | None]:
    """Return the values of a column of sizes in bytes, each converted by :func:`to_integer`."""
    values = column_values(batch, name)
    if set(map(type, values)) == {int} and min(values) >= 0 and max(values) < 1 << 63:
        return values
    return [to_integer(value) for value in values]


def to_integer(value: Any) -> int | None:
    """Return a value as an integer from 0 to 2**63 - 1.

    Return None for null, NaN, numbers outside this range, and values that ``int`` cannot convert.
    """
    if value is None or (isinstance(value, float) and not math.isfinite(value)):
        return None
    try:
        number = int(value)
    except (TypeError, ValueError):
        return None
    return number if 0 <= number < 1 << 63 else None


def uuid_text_array(arrow: Any, raw: Sequence[bytes]) -> Any:
    """Return an array of UUIDs as texts, from UUIDs of 16 bytes each.

    ``arrow`` is the module pyarrow, which is imported by the caller.
    """
    digits = b"".join(raw).hex().encode()
    text = bytearray(b"-" * (_UUID_LENGTH * len(raw)))
    for number, place in enumerate(_DIGIT_POSITIONS):
        text[place::_UUID_LENGTH] = digits[number :: len(_DIGIT_POSITIONS)]
    ends = array("i", range(0, len(text) + 1, _UUID_LENGTH))
    return arrow.StringArray.from_buffers(len(raw), arrow.py_buffer(ends), arrow.py_buffer(text))


def _fixed_length_text(batch: Any, name: str, length: int) -> bytes | None:
    """Return the texts of a column, concatenated, if each text has ``length`` bytes.

    Otherwise return None.
    """
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
    """Decode hexadecimal digits. Return values of ``length`` bytes each.

    Return None if ``text`` contains characters that are not hexadecimal digits.
    """
    try:
        raw = unhexlify(text)
    except ValueError:
        return None
    return [value for (value,) in struct.iter_unpack(f"{length}s", raw)]


def _parse_uuid(text: object) -> bytes | None:
    if not isinstance(text, str) or len(text) != _UUID_LENGTH:
        return None
    raw = _parse_hex(text.replace("-", ""))
    return raw if raw is not None and len(raw) == 16 else None


def _parse_digest(text: object) -> bytes | None:
    """Return an md5 or sha1 as bytes. Return None if ``text`` is neither."""
    if not isinstance(text, str) or len(text) not in (32, 40):
        return None
    raw = _parse_hex(text)
    return raw if raw is not None and len(raw) * 2 == len(text) else None


def _parse_hex(digits: str) -> bytes | None:
    try:
        return bytes.fromhex(digits)
    except ValueError:
        return None
