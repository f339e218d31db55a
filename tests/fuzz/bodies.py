"""Odd bodies: JSON with one odd value, bytes that were damaged, cache tables with an odd column."""

from __future__ import annotations

import gzip
import io
import json
import zipfile
import zlib
from collections.abc import Iterator
from typing import Any

from tests.fuzz.specs import RAW, Json, text, value

#: no body is longer than this before it is packed
LONGEST = 80 << 20


def damaged(body: bytes, how: Json) -> bytes:
    """``body`` as ``how["how"]`` says: see :data:`HOWS`."""
    kind = how["how"]
    if kind == "text":
        return text(how["text"])[:LONGEST].encode("utf-8", "surrogatepass")
    if kind == "field":
        return _with_field(body, how)
    if kind == "tables":
        return _with_column(body, how)
    at = how.get("offset", 0) % (len(body) + 1)
    if kind == "cut":
        return body[:at]
    if kind == "flip":
        return body[:at] + bytes(byte ^ how["mask"] for byte in body[at : at + 1]) + body[at + 1 :]
    if kind == "insert":
        piece = text(how["text"])[:LONGEST].encode("utf-8", "surrogatepass")
        return body[:at] + piece + body[at + how.get("removed", 0) :]
    if kind == "twice":
        return body * int(how["copies"])
    raise ValueError(f"there is no way {kind!r} to damage a body")


#: how a body is encoded, and what the header says
def encoded(body: bytes, encoding: str) -> bytes:
    """``body`` in an HTTP content encoding; as it is in one that there is not."""
    if encoding == "gzip":
        return gzip.compress(body, 1)
    if encoding == "deflate":
        return zlib.compress(body, 1)
    return body


def _with_field(body: bytes, how: Json) -> bytes:
    """The JSON of ``body`` with the value of one field, in one of the rows that has it, changed."""
    try:
        found = json.loads(body)
    except ValueError:
        return body
    places = list(_places(found))
    if not places:
        return dumped(value(how["value"], found))
    named = [place for place in places if place[1] == how["key"]] or places
    holder, key = named[how["row"] % len(named)]
    if how["change"] == "delete":
        del holder[key]
    elif how["change"] == "add":
        if isinstance(holder, list):
            holder.insert(key, value(how["value"], holder[key]))
        else:
            holder[how["key"]] = value(how["value"])
    elif how["change"] == "double" and isinstance(holder, list):
        holder.append(holder[key])
    else:
        holder[key] = value(how["value"], holder[key])
    return dumped(found)


def _places(found: Any) -> Iterator[tuple[Any, Any]]:
    """Every (container, key or index) in a JSON value, outermost first."""
    keys = list(found) if isinstance(found, dict) else range(len(found))
    for key in keys:
        yield found, key
    for key in keys:
        if isinstance(found[key], (dict, list)):
            yield from _places(found[key])


def dumped(found: Json) -> bytes:
    """JSON in which texts that begin with :data:`RAW` stand for what follows."""
    written = json.dumps(found)
    mark = json.dumps(RAW)[1:-1]
    while (start := written.find(f'"{mark}')) >= 0:
        end = written.index('"', start + 1)
        written = written[:start] + written[start + 1 + len(mark) : end] + written[end + 1 :]
    return written.encode()


def _with_column(body: bytes, how: Json) -> bytes:
    """The archive of cache tables with one column of one of them changed."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        with zipfile.ZipFile(io.BytesIO(body)) as archive:
            files = {name: archive.read(name) for name in archive.namelist()}
    except zipfile.BadZipFile:
        return body
    tables = sorted(name for name in files if name.endswith(".pqt"))
    if not tables:
        return body
    name = tables[how["table"] % len(tables)]
    table = pq.read_table(io.BytesIO(files[name]))
    index = how["column"] % table.num_columns
    if how["change"] == "delete":
        table = table.remove_column(index)
    elif how["change"] == "rename":
        names = list(table.column_names)
        names[index] = text(how["text"])
        table = table.rename_columns(names)
    elif table.num_rows:
        values = [value(each) for each in how["values"]]
        cells = [values[row % len(values)] for row in range(table.num_rows)]
        try:
            column = pa.array(cells)
        except (pa.ArrowException, OverflowError, UnicodeError):
            column = pa.array([ascii(cell)[:1000] for cell in cells])
        table = table.set_column(index, table.column_names[index], column)
    files[name] = _parquet(table)
    target = io.BytesIO()
    with zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED) as archive:
        for each, data in files.items():
            archive.writestr(each, data)
    return target.getvalue()


def _parquet(table: Any) -> bytes:
    import pyarrow.parquet as pq

    target = io.BytesIO()
    pq.write_table(table, target)
    return target.getvalue()
