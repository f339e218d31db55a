"""Lists of Alyx, whole: every row once, although its pages come in no order.

Lists are capped at 1,000 rows whatever limit is asked for; most have no order, so walking pages
loses and repeats rows while ``count`` stays right; ``next`` is built from the Host header and never
followed. A listing is whole here, or it is an error; one that takes more rows, pages or time than
any list of Alyx is one too (TooLarge), also when no caller waits for it any more.
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

#: Alyx's cap since July 2026; older servers give as many rows as are asked for
PAGE_ROWS = 1000
#: the page sizes of the walks over a list whose distinct rows are fewer than its ``count``: sizes
#: that differ, so that what is lost between two pages of one walk lies inside a page of another
PAGE_SIZES = (PAGE_ROWS, 701, 491, 344)
#: rows of a list that one range of UUIDs is to hold: below PAGE, since ranges differ by chance
_ROWS_PER_RANGE = 900
#: a list that would take more of them is left to walks: nobody's session, but a count that lies
_MAX_RANGES = 32

#: rows of the largest list that is read; the largest Alyx has 20,000 sessions
MAX_LIST_ROWS = 200_000
#: requests for one list, all its walks together
MAX_LIST_PAGES = 1000
#: seconds after which no more pages of a list are asked for
MAX_LIST_SECONDS = 300.0
#: the largest ``count`` that can be one: joins repeat rows, so that it may be above MAX_LIST_ROWS
_MAX_COUNT = 10**9

#: what tells a row from others
RowKey = Callable[[parsing.Row], str]


@dataclass(frozen=True, slots=True)
class ListPage:
    """One page of a list."""

    rows: list[parsing.Row]
    #: the number of all rows of the list, as Alyx says
    count: int
    #: whether there are more pages
    has_more: bool
    #: bytes of the answer, and its values
    size: int
    value_count: int


class ListCost:
    """What one list has cost so far. Its methods raise TooLarge beyond the bounds of a list."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._end = time.monotonic() + MAX_LIST_SECONDS
        self._pages = 0
        self._size = self._value_count = 0.0

    def add_page(self) -> None:
        """Count a page that is about to be asked for."""
        self._pages += 1
        if self._pages > MAX_LIST_PAGES:
            raise TooLarge(f"{self._name} does not end within {MAX_LIST_PAGES} pages")
        if time.monotonic() > self._end:
            raise TooLarge(f"{self._name} does not end within {MAX_LIST_SECONDS:g} s")

    def add_rows(self, found: dict[str, parsing.Row], page: ListPage, key: RowKey) -> None:
        """Add the rows of a page to ``found`` and count those that are new."""
        known = len(found)
        for row in page.rows:
            found.setdefault(_key_of(row, key), row)
        share = (len(found) - known) / max(1, len(page.rows))
        self._size += page.size * share
        self._value_count += page.value_count * share
        if len(found) > MAX_LIST_ROWS:
            raise TooLarge(f"{self._name} has more than {MAX_LIST_ROWS:,} rows")
        if self._size > MAX_JSON_BYTES or self._value_count > MAX_JSON_VALUES:
            raise TooLarge(f"{self._name} is larger than {MAX_JSON_BYTES >> 20} MiB")


class Paginator:
    """The lists of one Alyx. Thread-safe. Every method raises what :meth:`RequestSender.get`
    raises.
    """

    def __init__(self, asker: RequestSender) -> None:
        self._sender = asker
        self._url = asker.url

    def rows_by_name(
        self, endpoint: str, query: Mapping[str, str], key: RowKey
    ) -> dict[str, parsing.Row]:
        """The rows that bear certain names, and others too: who asks must look at the names.

        Alyx strips blanks from what it is asked for, so a name that ends in one is never found:
        it is not asked for, and all that the other names leave comes. A name that is no UTF-8 is
        known here as :func:`alf.valid_text` writes it, and asked for as it is.
        """
        told = {name: value for name, value in query.items() if value == value.strip()}
        found = self.all_rows(endpoint, told, key)
        raw = {name: alf.undo_valid_text(value) for name, value in told.items()}
        return found if found or raw == told else self.all_rows(endpoint, raw, key)

    def all_rows(
        self, endpoint: str, query: Mapping[str, str], key: RowKey
    ) -> dict[str, parsing.Row]:
        """Every row of a list once, by key.

        Pages by the rows received, never by the limit asked for; walks again with another page
        size while distinct rows are fewer than ``count``, since pages without order lose rows.
        Raises ServerError when rows stay missing: a listing is whole or it is none; TooLarge.
        """
        return self._all_rows(endpoint, query, key, self.new_cost(endpoint))

    def new_cost(self, endpoint: str) -> ListCost:
        """The cost of a list that is about to be asked for."""
        return ListCost(f"{self._url}/{endpoint}")

    def _all_rows(
        self, endpoint: str, query: Mapping[str, str], key: RowKey, cost: ListCost
    ) -> dict[str, parsing.Row]:
        found: dict[str, parsing.Row] = {}
        count = 0
        for size in PAGE_SIZES:
            count = self._read_all_pages(endpoint, {**query, "limit": str(size)}, key, found, cost)
            if len(found) >= count:
                return found
        raise ServerError(
            f"{self._url}/{endpoint}: {len(found)} of {count} rows came in {len(PAGE_SIZES)} walks"
        )

    def all_rows_by_uuid(self, endpoint: str, query: Mapping[str, str]) -> dict[str, parsing.Row]:
        """Every row once, by its UUID, of a list that has no order.

        When one page does not hold them all the rest comes by ranges of UUIDs, each of a page or
        less: these are spread evenly, so that no bound need be known. What ranges miss, and a
        server that does not know them, is left to :meth:`whole`.
        """
        cost = self.new_cost(endpoint)
        first = {**query, "limit": str(PAGE_ROWS)}
        page = self.fetch_page(endpoint, {**first, "offset": "0"}, cost)
        count = page.count
        found: dict[str, parsing.Row] = {}
        cost.add_rows(found, page, parsing.uuid_of)
        parts = -(-count // _ROWS_PER_RANGE) if page.has_more else 0
        if not page.has_more and len(found) >= count:
            return found
        for span in _uuid_ranges(parts if parts <= _MAX_RANGES else 0):
            try:
                page = self.fetch_page(endpoint, {**first, "django": span, "offset": "0"}, cost)
            except ServerError:
                break
            if not page.rows:
                break
            cost.add_rows(found, page, parsing.uuid_of)
        if parts and len(found) >= count:
            return found
        return self._all_rows(endpoint, query, parsing.uuid_of, cost)

    def _read_all_pages(
        self,
        endpoint: str,
        query: Mapping[str, str],
        key: RowKey,
        found: dict[str, parsing.Row],
        cost: ListCost,
    ) -> int:
        """One walk over all pages, adding to ``found``; the distinct rows there should be.

        A row that came twice within one page is a join's doing and inflates ``count``, so it is
        taken off; one that came on two pages is the missing order's doing, and is not.
        """
        received, doubled, count, more = 0, 0, 0, True
        seen: set[str] = set()
        while more:
            page = self.fetch_page(endpoint, {**query, "offset": str(received)}, cost)
            count, more = page.count, page.has_more
            keys = [_key_of(row, key) for row in page.rows]
            doubled += len(keys) - len(set(keys))
            cost.add_rows(found, page, key)
            received += len(page.rows)
            # a page without anything new: a server that says the same again and again
            more = more and not seen.issuperset(keys)
            seen.update(keys)
        return max(count - doubled, len(seen))

    def fetch_page(self, endpoint: str, query: dict[str, str], cost: ListCost) -> ListPage:
        """One page, of the list that has cost ``cost`` so far.

        Alyx's ``count`` is right where pages are not. Should it be too small for once, a full
        page whose ``next`` leads on tells.
        """
        reached, limit = int(query["offset"]), int(query["limit"])
        if query["offset"] == "0":
            del query["offset"]
        cost.add_page()
        answer = self._sender.get(endpoint, query)
        body, size, parts = answer.body, answer.size, answer.value_count
        if answer.status != 200:
            raise self._sender.unexpected_answer_error(answer, endpoint)
        if isinstance(body, list):  # before mid-2019: the bare rows, all of them
            return ListPage(_checked_rows(body, endpoint), len(body), False, size, parts)
        count = body.get("count") if isinstance(body, dict) else None
        if isinstance(body, dict) and type(count) is int:
            if not 0 <= count <= _MAX_COUNT:
                raise ServerError(f"{self._url}/{endpoint} counts its rows as {count}")
            page = _checked_rows(body.get("results"), endpoint)
            full = len(page) >= limit and body.get("next") is not None
            more = bool(page) and (full or reached + len(page) < count)
            return ListPage(page, count, more, size, parts)
        raise ServerError(f"{self._url}/{endpoint} did not answer with a list: is this an Alyx?")


def _uuid_ranges(parts: int) -> Iterator[str]:
    """All UUIDs in so many ranges of one length, as look-ups."""
    bounds = [(part << 128) // parts for part in range(parts + 1)] if parts else []
    for low, high in pairwise(bounds):
        yield f"id__range,['{uuid.UUID(int=low)}','{uuid.UUID(int=high - 1)}']"


def _key_of(row: parsing.Row, key: RowKey) -> str:
    """What tells a row from others; an odd row, which is left out later, counts all the same."""
    try:
        return key(row)
    except ServerError:
        return f"odd {row!r}"


def _checked_rows(page: object, endpoint: str) -> list[parsing.Row]:
    """The rows of a page. What is no row at all becomes one that can't be read."""
    if not isinstance(page, list):
        raise ServerError(f"Alyx's answer for {endpoint} holds no rows")
    return [row if isinstance(row, dict) else {"no row": row} for row in page]
