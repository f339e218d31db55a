"""Pagination: reads complete lists from Alyx, and each row once, although pages have no order.

Alyx returns at most 1,000 rows per page, even if the request asks for more. Most lists have no
order. Therefore a row may be on two pages, and another row may be on no page. But the number of
rows in ``count`` is right. The URL in ``next`` is never requested, because the server builds this
URL from the Host header. If some rows of a list are still missing at the end, an error is raised.
If a list needs more rows, pages or seconds than any real list of Alyx, TooLarge is raised, so that
reading a list always ends.
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

#: largest number of rows in a page of Alyx since July 2026; older servers return any number
PAGE_ROWS = 1000
#: rows per page of each walk over a list; another walk starts if rows are missing after a walk.
#: The sizes differ, so that a row lost between two pages of one walk is inside a page of another
#: walk
PAGE_SIZES = (PAGE_ROWS, 701, 491, 344)
#: planned number of rows in one range of UUIDs; less than PAGE_ROWS, because the actual number
#: varies by chance
_ROWS_PER_RANGE = 900
#: largest number of ranges for one list; a list that needs more ranges is read page by page
_MAX_RANGES = 32

#: largest number of rows in a list; the largest Alyx has 20,000 sessions
MAX_LIST_ROWS = 200_000
#: largest number of requests for one list, in all walks together
MAX_LIST_PAGES = 1000
#: seconds after which no more pages of a list are requested
MAX_LIST_SECONDS = 300.0
#: largest valid ``count``, which can be larger than MAX_LIST_ROWS because joins repeat rows
_MAX_COUNT = 10**9

#: returns the text that identifies a row in its list
RowKey = Callable[[parsing.Row], str]


@dataclass(frozen=True, slots=True)
class ListPage:
    """One page of a list."""

    rows: list[parsing.Row]
    #: number of rows in the whole list, as Alyx counts them
    count: int
    #: whether there are more pages
    has_more: bool
    #: number of bytes, and number of values, in the answer
    size: int
    value_count: int


class ListCost:
    """Counts the pages, rows and bytes of one list. Methods raise TooLarge if a count is too
    large."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._end = time.monotonic() + MAX_LIST_SECONDS
        self._pages = 0
        self._size = self._value_count = 0.0

    def add_page(self) -> None:
        """Count a page that is about to be requested.

        Raises TooLarge for more than MAX_LIST_PAGES pages, or after MAX_LIST_SECONDS.
        """
        self._pages += 1
        if self._pages > MAX_LIST_PAGES:
            raise TooLarge(
                f"the list {self._name} has more than {MAX_LIST_PAGES} pages, too many for onefs"
            )
        if time.monotonic() > self._end:
            raise TooLarge(
                f"the list {self._name} takes longer than {MAX_LIST_SECONDS:g} s, too long for "
                "onefs"
            )

    def add_rows(self, rows: dict[str, parsing.Row], page: ListPage, key: RowKey) -> None:
        """Add the rows of a page to ``rows``, which is a dictionary by row key.

        Rows that were not in ``rows`` before are counted, with their bytes.
        """
        before = len(rows)
        for row in page.rows:
            rows.setdefault(_key_of(row, key), row)
        new_share = (len(rows) - before) / max(1, len(page.rows))
        self._size += page.size * new_share
        self._value_count += page.value_count * new_share
        if len(rows) > MAX_LIST_ROWS:
            raise TooLarge(
                f"the list {self._name} has more than {MAX_LIST_ROWS:,} rows, too many for onefs"
            )
        if self._size > MAX_JSON_BYTES or self._value_count > MAX_JSON_VALUES:
            raise TooLarge(
                f"the list {self._name} is larger than {MAX_JSON_BYTES >> 20} MiB, too large for "
                "onefs"
            )


class Paginator:
    """Reads lists from one Alyx. Thread-safe.

    Every method also raises what :meth:`RequestSender.get` raises.
    """

    def __init__(self, sender: RequestSender) -> None:
        self._sender = sender
        self._url = sender.url

    def rows_by_name(
        self, endpoint: str, query: Mapping[str, str], key: RowKey
    ) -> dict[str, parsing.Row]:
        """Return all rows that may match the names in ``query``, as a dictionary by key.

        The caller must compare the names, because rows with other names may be included.
        """
        # Alyx removes blanks at the ends of a name from the query, and then does not find the name
        sent = {name: value for name, value in query.items() if value == value.strip()}
        rows = self.all_rows(endpoint, sent, key)
        raw = {name: alf.undo_valid_text(value) for name, value in sent.items()}
        # alf.valid_text has escaped names that are not UTF-8: ask for their original bytes too
        return rows if rows or raw == sent else self.all_rows(endpoint, raw, key)

    def all_rows(
        self, endpoint: str, query: Mapping[str, str], key: RowKey
    ) -> dict[str, parsing.Row]:
        """Return every row of a list once, as a dictionary by key.

        Raises ServerError if rows are missing, and TooLarge if the list is too large.
        """
        return self._all_rows(endpoint, query, key, self.new_cost(endpoint))

    def new_cost(self, endpoint: str) -> ListCost:
        """Return a new :class:`ListCost` for a list that is about to be requested."""
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
            f"{self._url}/{endpoint} sent only {len(rows)} of {count} rows in {len(PAGE_SIZES)} "
            "attempts: try again later"
        )

    def all_rows_by_uuid(self, endpoint: str, query: Mapping[str, str]) -> dict[str, parsing.Row]:
        """Return every row of an unordered list once, as a dictionary by UUID.

        Raises ServerError if rows are missing, and TooLarge if the list is too large.
        """
        cost = self.new_cost(endpoint)
        first = {**query, "limit": str(PAGE_ROWS)}
        page = self.fetch_page(endpoint, {**first, "offset": "0"}, cost)
        count = page.count
        rows: dict[str, parsing.Row] = {}
        cost.add_rows(rows, page, parsing.uuid_of)
        # rows of one range of UUIDs fit into a page, because UUIDs are distributed evenly
        range_count = -(-count // _ROWS_PER_RANGE) if page.has_more else 0
        if not page.has_more and len(rows) >= count:
            return rows
        for span in _uuid_ranges(range_count if range_count <= _MAX_RANGES else 0):
            try:
                lookups = f"{query['django']},{span}" if "django" in query else span
                page = self.fetch_page(endpoint, {**first, "django": lookups, "offset": "0"}, cost)
            except ServerError:
                break
            if not page.rows:
                break
            cost.add_rows(rows, page, parsing.uuid_of)
        if range_count and len(rows) >= count:
            return rows
        # rows are missing, or the server does not support ranges
        return self._all_rows(endpoint, query, parsing.uuid_of, cost)

    def _read_all_pages(
        self,
        endpoint: str,
        query: Mapping[str, str],
        key: RowKey,
        rows: dict[str, parsing.Row],
        cost: ListCost,
    ) -> int:
        """Read all pages and add their rows to ``rows``. Return how many rows to expect."""
        received, repeated, count, has_more = 0, 0, 0, True
        seen: set[str] = set()
        while has_more:
            page = self.fetch_page(endpoint, {**query, "offset": str(received)}, cost)
            count = page.count
            keys = [_key_of(row, key) for row in page.rows]
            # a join in the database repeats rows within a page, and Alyx's ``count`` includes
            # these; a row on two pages, which have no order, is in ``count`` only once
            repeated += len(keys) - len(set(keys))
            cost.add_rows(rows, page, key)
            received += len(page.rows)
            # a page without new rows comes from a server that always sends the same page
            has_more = page.has_more and not seen.issuperset(keys)
            seen.update(keys)
        return max(count - repeated, len(seen))

    def fetch_page(self, endpoint: str, query: dict[str, str], cost: ListCost) -> ListPage:
        """Request one page of the list, and count the page in ``cost``.

        Raises ServerError if the answer is not a list.
        """
        offset, limit = int(query["offset"]), int(query["limit"])
        if query["offset"] == "0":
            del query["offset"]
        cost.add_page()
        answer = self._sender.get(endpoint, query)
        body, size, value_count = answer.body, answer.size, answer.value_count
        if answer.status != 200:
            raise self._sender.unexpected_answer_error(answer, endpoint)
        if isinstance(body, list):  # servers before mid-2019 send all rows at once
            return ListPage(_checked_rows(body, endpoint), len(body), False, size, value_count)
        count = body.get("count") if isinstance(body, dict) else None
        if isinstance(body, dict) and type(count) is int:
            if not 0 <= count <= _MAX_COUNT:
                raise ServerError(
                    f"{self._url}/{endpoint} states an invalid number of rows: {count}"
                )
            rows = _checked_rows(body.get("results"), endpoint)
            # a full page with a ``next`` has more rows, even if ``count`` is too small
            is_full = len(rows) >= limit and body.get("next") is not None
            has_more = bool(rows) and (is_full or offset + len(rows) < count)
            return ListPage(rows, count, has_more, size, value_count)
        raise ServerError(
            f"{self._url}/{endpoint} did not answer with a list: check that the URL belongs to "
            "an Alyx server"
        )


def _uuid_ranges(parts: int) -> Iterator[str]:
    """Yield Django filters that divide all UUIDs into ``parts`` ranges of equal length."""
    bounds = [(part << 128) // parts for part in range(parts + 1)] if parts else []
    for low, high in pairwise(bounds):
        yield f"id__range,['{uuid.UUID(int=low)}','{uuid.UUID(int=high - 1)}']"


def _key_of(row: parsing.Row, key: RowKey) -> str:
    """Return the key of a row. An invalid row also gets a key, and is left out later."""
    try:
        return key(row)
    except ServerError:
        return f"invalid {row!r}"


def _checked_rows(page: object, endpoint: str) -> list[parsing.Row]:
    """Return the rows of a page. A value that is not a row becomes an invalid row.

    Invalid rows are left out later, when rows are parsed.
    """
    if not isinstance(page, list):
        raise ServerError(f"Alyx's answer for {endpoint} is not a list of rows")
    return [row if isinstance(row, dict) else {"no row": row} for row in page]
