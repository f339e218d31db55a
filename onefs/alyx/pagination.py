"""Pagination: complete lists of Alyx, each row once, although its pages have no order.

Alyx returns at most 1,000 rows whatever the limit is. Most lists have no order, so that walking
pages loses and repeats rows, while ``count`` is right. ``next`` is built from the Host header and
never followed. A list is complete or an error; a list with more rows, pages or seconds than any
list of Alyx is an error too (TooLarge), also when no caller waits for it any more.
"""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from itertools import pairwise

from onefs import alf
from onefs.alyx import parsing
from onefs.alyx.request import RequestSender
from onefs.errors import ServerError, TooLarge
from onefs.http import MAX_JSON_BYTES, MAX_JSON_VALUES

#: Alyx's cap since July 2026; older servers return as many rows as the limit says
PAGE_ROWS = 1000
#: page sizes of the walks over a list whose distinct rows are fewer than its ``count``. They
#: differ, so that a row lost between two pages of one walk is inside a page of another
PAGE_SIZES = (PAGE_ROWS, 701, 491, 344)
#: intended rows of one range of UUIDs: below PAGE_ROWS, since ranges differ by chance
_ROWS_PER_RANGE = 900
#: most ranges of one list; a count that needs more is not a session's, and the list is walked
_MAX_RANGES = 32

#: rows of the largest list that is read; the largest Alyx has 20,000 sessions
MAX_LIST_ROWS = 200_000
#: requests for one list, all its walks together
MAX_LIST_PAGES = 1000
#: seconds after which no more pages of a list are asked for
MAX_LIST_SECONDS = 300.0
#: largest valid ``count``: joins repeat rows, so that it can exceed MAX_LIST_ROWS
_MAX_COUNT = 10**9

#: returns the text that identifies a row in its list
RowKey = Callable[[parsing.Row], str]


@dataclass(frozen=True, slots=True)
class ListPage:
    """One page of a list."""

    rows: list[parsing.Row]
    #: number of all rows of the list, by Alyx
    count: int
    #: whether there are more pages
    has_more: bool
    #: bytes of the answer, and its values
    size: int
    value_count: int


class ListCost:
    """Pages, rows and bytes of one list so far. Methods raise TooLarge beyond the bounds."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._end = time.monotonic() + MAX_LIST_SECONDS
        self._pages = 0
        self._size = self._value_count = 0.0

    def add_page(self) -> None:
        """Count a page that is about to be requested."""
        self._pages += 1
        if self._pages > MAX_LIST_PAGES:
            raise TooLarge(f"{self._name} does not end within {MAX_LIST_PAGES} pages")
        if time.monotonic() > self._end:
            raise TooLarge(f"{self._name} does not end within {MAX_LIST_SECONDS:g} s")

    def add_rows(self, rows: dict[str, parsing.Row], page: ListPage, key: RowKey) -> None:
        """Add the rows of a page to ``rows``, by key, and count those that are new."""
        before = len(rows)
        for row in page.rows:
            rows.setdefault(_key_of(row, key), row)
        new_share = (len(rows) - before) / max(1, len(page.rows))
        self._size += page.size * new_share
        self._value_count += page.value_count * new_share
        if len(rows) > MAX_LIST_ROWS:
            raise TooLarge(f"{self._name} has more than {MAX_LIST_ROWS:,} rows")
        if self._size > MAX_JSON_BYTES or self._value_count > MAX_JSON_VALUES:
            raise TooLarge(f"{self._name} is larger than {MAX_JSON_BYTES >> 20} MiB")


class Paginator:
    """The lists of one Alyx. Thread-safe. Every method also raises as :meth:`RequestSender.get`."""

    def __init__(self, sender: RequestSender) -> None:
        self._sender = sender
        self._url = sender.url

    def rows_by_name(
        self, endpoint: str, query: Mapping[str, str], key: RowKey
    ) -> dict[str, parsing.Row]:
        """The rows that ``query`` selects by names, and others: callers must compare the names.

        Alyx strips blanks from query values and never finds a name that ends in a blank: such a
        name is left out of the query. Names that are not UTF-8, which :func:`alf.valid_text` has
        escaped, are also requested in their original bytes.
        """
        sent = {name: value for name, value in query.items() if value == value.strip()}
        rows = self.all_rows(endpoint, sent, key)
        raw = {name: alf.undo_valid_text(value) for name, value in sent.items()}
        return rows if rows or raw == sent else self.all_rows(endpoint, raw, key)

    def all_rows(
        self, endpoint: str, query: Mapping[str, str], key: RowKey
    ) -> dict[str, parsing.Row]:
        """Every row of a list once, by key.

        Offsets count the rows received, never the limit. The list is walked again with another
        page size while distinct rows are fewer than ``count``, since pages without order lose
        rows. Raises ServerError when rows stay missing, and TooLarge.
        """
        return self._all_rows(endpoint, query, key, self.new_cost(endpoint))

    def new_cost(self, endpoint: str) -> ListCost:
        """The cost of a list that is about to be requested."""
        return ListCost(f"{self._url}/{endpoint}")

    def _all_rows(
        self, endpoint: str, query: Mapping[str, str], key: RowKey, cost: ListCost
    ) -> dict[str, parsing.Row]:
        rows: dict[str, parsing.Row] = {}
        count = 0
        for size in PAGE_SIZES:
            count = self._read_all_pages(endpoint, {**query, "limit": str(size)}, key, rows, cost)
            if len(rows) >= count:
                return rows
        raise ServerError(
            f"{self._url}/{endpoint}: {len(rows)} of {count} rows came in {len(PAGE_SIZES)} walks"
        )

    def all_rows_by_uuid(self, endpoint: str, query: Mapping[str, str]) -> dict[str, parsing.Row]:
        """Every row of a list without order once, by its UUID.

        When one page does not hold them all, the rest is requested by ranges of UUIDs, each of a
        page or less; UUIDs are distributed evenly. The list is walked as in :meth:`all_rows` when
        ranges miss rows, or the server does not support them.
        """
        cost = self.new_cost(endpoint)
        first = {**query, "limit": str(PAGE_ROWS)}
        page = self.fetch_page(endpoint, {**first, "offset": "0"}, cost)
        count = page.count
        rows: dict[str, parsing.Row] = {}
        cost.add_rows(rows, page, parsing.uuid_of)
        range_count = -(-count // _ROWS_PER_RANGE) if page.has_more else 0
        if not page.has_more and len(rows) >= count:
            return rows
        for span in _uuid_ranges(range_count if range_count <= _MAX_RANGES else 0):
            try:
                page = self.fetch_page(endpoint, {**first, "django": span, "offset": "0"}, cost)
            except ServerError:
                break
            if not page.rows:
                break
            cost.add_rows(rows, page, parsing.uuid_of)
        if range_count and len(rows) >= count:
            return rows
        return self._all_rows(endpoint, query, parsing.uuid_of, cost)

    def _read_all_pages(
        self,
        endpoint: str,
        query: Mapping[str, str],
        key: RowKey,
        rows: dict[str, parsing.Row],
        cost: ListCost,
    ) -> int:
        """Walk over all pages and add their rows to ``rows``; return the expected distinct rows.

        A row that is repeated within one page comes from a join, which inflates ``count``:
        repetitions are subtracted. A row repeated on two pages comes from the missing order, and
        does not inflate it.
        """
        received, repeated, count, has_more = 0, 0, 0, True
        seen: set[str] = set()
        while has_more:
            page = self.fetch_page(endpoint, {**query, "offset": str(received)}, cost)
            count = page.count
            keys = [_key_of(row, key) for row in page.rows]
            repeated += len(keys) - len(set(keys))
            cost.add_rows(rows, page, key)
            received += len(page.rows)
            # a page without new rows is from a server that sends the same page again and again
            has_more = page.has_more and not seen.issuperset(keys)
            seen.update(keys)
        return max(count - repeated, len(seen))

    def fetch_page(self, endpoint: str, query: dict[str, str], cost: ListCost) -> ListPage:
        """One page of the list that ``cost`` counts.

        Alyx's ``count`` is reliable where pages are not. If it is too small, a full page with a
        ``next`` shows that there are more rows.
        """
        offset, limit = int(query["offset"]), int(query["limit"])
        if query["offset"] == "0":
            del query["offset"]
        cost.add_page()
        answer = self._sender.get(endpoint, query)
        body, size, value_count = answer.body, answer.size, answer.value_count
        if answer.status != 200:
            raise self._sender.unexpected_answer_error(answer, endpoint)
        if isinstance(body, list):  # servers before mid-2019 send all rows, without a page
            return ListPage(_checked_rows(body, endpoint), len(body), False, size, value_count)
        count = body.get("count") if isinstance(body, dict) else None
        if isinstance(body, dict) and type(count) is int:
            if not 0 <= count <= _MAX_COUNT:
                raise ServerError(f"{self._url}/{endpoint} counts its rows as {count}")
            rows = _checked_rows(body.get("results"), endpoint)
            is_full = len(rows) >= limit and body.get("next") is not None
            has_more = bool(rows) and (is_full or offset + len(rows) < count)
            return ListPage(rows, count, has_more, size, value_count)
        raise ServerError(f"{self._url}/{endpoint} did not answer with a list: is this an Alyx?")


def _uuid_ranges(parts: int) -> Iterator[str]:
    """Django look-ups that divide all UUIDs into ``parts`` ranges of equal length."""
    bounds = [(part << 128) // parts for part in range(parts + 1)] if parts else []
    for low, high in pairwise(bounds):
        yield f"id__range,['{uuid.UUID(int=low)}','{uuid.UUID(int=high - 1)}']"


def _key_of(row: parsing.Row, key: RowKey) -> str:
    """The key of a row; an invalid row, which parsing leaves out later, has a key too."""
    try:
        return key(row)
    except ServerError:
        return f"invalid {row!r}"


def _checked_rows(page: object, endpoint: str) -> list[parsing.Row]:
    """The rows of a page; a value that is no row becomes a row that parsing leaves out."""
    if not isinstance(page, list):
        raise ServerError(f"Alyx's answer for {endpoint} holds no rows")
    return [row if isinstance(row, dict) else {"no row": row} for row in page]
