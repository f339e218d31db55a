"""Decoding a column as a whole gives the same values as decoding each value separately."""

from __future__ import annotations

from typing import Any
from uuid import UUID

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from onefs.cache_tables.columns import (
    convert_column,
    digest_column,
    integer_column,
    uuid_column,
    uuid_text_array,
)

UUID_TEXT = "cf264653-2deb-44cb-aa84-89b82507028a"
MD5 = "0123456789abcdef0123456789abcdef"
#: texts that are not UUIDs; some are as long as a UUID
NO_UUIDS = (
    "cf264653-2deb-44cb-aa84-89b8250702 a",
    "cf264653a2deb-44cb-aa84-89b82507028-",
    "cf26465-32deb-44cb-aa84-89b82507028g",
    "------------------------------------",
    "",
    "cf264653",
)


def batch(**columns: Any) -> Any:
    return pa.RecordBatch.from_pydict(columns)


def one(text: str | None) -> bytes | None:
    """Return the value for ``text`` in a column that is decoded value by value.

    The column is decoded in this way because it also contains a None.
    """
    return uuid_column(batch(id=pa.array([text, None], pa.string())), "id")[0]


uuids = st.uuids().map(str)
odd = st.one_of(st.none(), st.sampled_from(NO_UUIDS), st.text(max_size=40), uuids.map(str.upper))


@given(st.lists(uuids, min_size=1, max_size=40))
def test_ids_in_one_piece(texts: list[str]) -> None:
    found = uuid_column(batch(id=texts), "id")
    assert found == [UUID(text).bytes for text in texts]
    assert uuid_text_array(pa, [raw for raw in found if raw]).to_pylist() == texts


@given(st.lists(st.one_of(uuids, odd), min_size=1, max_size=20))
def test_ids_among_which_some_are_none(texts: list[str | None]) -> None:
    texts = [None if text is None else text.encode("utf-8", "replace").decode() for text in texts]
    assert uuid_column(batch(id=pa.array(texts, pa.string())), "id") == [
        one(text) for text in texts
    ]


@pytest.mark.parametrize("text", NO_UUIDS)
def test_one_that_is_no_uuid_among_many(text: str) -> None:
    texts = [UUID_TEXT] * 5 + [text] + [UUID_TEXT] * 5
    found = uuid_column(batch(id=texts), "id")
    assert found == [UUID(UUID_TEXT).bytes] * 5 + [one(text)] + [UUID(UUID_TEXT).bytes] * 5
    assert len(found[0] or b"") == 16


def test_a_slice_is_read_from_its_offset() -> None:
    whole = batch(id=["x", *[str(UUID(int=number)) for number in range(9)]])
    found = uuid_column(whole.slice(3, 4), "id")
    assert found == [UUID(int=number).bytes for number in range(2, 6)]


@pytest.mark.parametrize(
    ("texts", "found"),
    [
        ([MD5, MD5], [bytes.fromhex(MD5)] * 2),
        ([MD5, MD5[:-1] + "g"], [bytes.fromhex(MD5), None]),
        ([MD5, None, "", MD5 + "01234567"], [*map(bytes.fromhex, [MD5]), None, None, MD5 + "4"]),
        ([], []),
    ],
)
def test_digests(texts: list[str | None], found: list[Any]) -> None:
    told = digest_column(batch(hash=pa.array(texts, pa.string())), "hash")
    wanted = [bytes.fromhex(MD5 + "01234567") if value == MD5 + "4" else value for value in found]
    assert told == wanted


@pytest.mark.parametrize(
    ("values", "found"),
    [
        (pa.array([1, 2**40], pa.uint64()), [1, 2**40]),
        (pa.array([1, None, 2**64 - 1], pa.uint64()), [1, None, None]),
        (pa.array([-1, 5], pa.int64()), [None, 5]),
        (pa.array([1.0, float("nan"), None]), [1, None, None]),
        (pa.array([], pa.uint64()), []),
    ],
)
def test_sizes(values: Any, found: list[int | None]) -> None:
    assert integer_column(batch(file_size=values), "file_size") == found


@pytest.mark.parametrize(
    ("values", "found"),
    [
        (pa.array(["a", None, "a"]), ["a", None, "a"]),
        (pa.array(["a", None, "a"]).dictionary_encode(), ["a", None, "a"]),
        (pa.array(["a", "b"], pa.large_string()), ["a", "b"]),
        (pa.array([True, None, False]), [True, None, False]),
        (pa.nulls(2), [None, None]),
        (pa.array([["a"], []]), [None, None]),
    ],
    ids=["texts", "categories", "large", "flags", "nothing", "lists"],
)
def test_values_that_repeat_are_converted_once(values: Any, found: list[Any]) -> None:
    seen: list[Any] = []

    def convert(value: Any) -> Any:
        seen.append(value)
        return value

    assert convert_column(batch(x=values), "x", convert) == found
    assert len(seen) <= len(set(found)) + 1
    assert convert_column(batch(y=values), "x", convert) == [None] * len(values)
