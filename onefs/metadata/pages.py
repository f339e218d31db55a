"""Lists of Alyx, whole: every row once, although its pages come in no order.

Lists are capped at 1,000 rows whatever limit is asked for; most have no order, so walking pages
loses and repeats rows while ``count`` stays right; ``next`` is built from the Host header and never
followed. A listing is whole here, or it is an error.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterator, Mapping
from itertools import pairwise

from onefs import alf
from onefs.errors import ServerError
from onefs.metadata import rows
from onefs.metadata.asking import Asker

#: Alyx's cap since July 2026; older servers give as many rows as are asked for
PAGE = 1000
#: the page sizes of the walks over a list whose distinct rows are fewer than its ``count``: sizes
#: that differ, so that what is lost between two pages of one walk lies inside a page of another
SIZES = (PAGE, 701, 491, 344)
#: rows of a list that one range of UUIDs is to hold: below PAGE, since ranges differ by chance
_RANGE = 900
#: a list that would take more of them is left to walks: nobody's session, but a count that lies
_MOST_RANGES = 32

#: what tells a row from others
Key = Callable[[rows.Row], str]


class Pages:
    """The lists of one Alyx. Thread-safe. Every method raises what :meth:`Asker.get` raises."""

    def __init__(self, asker: Asker) -> None:
        self._asker = asker
        self._url = asker.url

    def look_up(self, endpoint: str, query: Mapping[str, str], key: Key) -> dict[str, rows.Row]:
        """The rows that bear certain names, and others too: who asks must look at the names.

        Alyx strips blanks from what it is asked for, so a name that ends in one is never found:
        it is not asked for, and all that the other names leave comes. A name that is no UTF-8 is
        known here as :func:`alf.valid_text` writes it, and asked for as it is.
        """
        told = {name: value for name, value in query.items() if value == value.strip()}
        found = self.whole(endpoint, told, key)
        raw = {name: alf.unwritten(value) for name, value in told.items()}
        return found if found or raw == told else self.whole(endpoint, raw, key)

    def whole(self, endpoint: str, query: Mapping[str, str], key: Key) -> dict[str, rows.Row]:
        """Every row of a list once, by key.

        Pages by the rows received, never by the limit asked for; walks again with another page
        size while distinct rows are fewer than ``count``, since pages without order lose rows.
        Raises ServerError when rows stay missing: a listing is whole or it is none.
        """
        found: dict[str, rows.Row] = {}
        count = 0
        for size in SIZES:
            count = self._walk(endpoint, {**query, "limit": str(size)}, key, found)
            if len(found) >= count:
                return found
        raise ServerError(
            f"{self._url}/{endpoint}: {len(found)} of {count} rows came in {len(SIZES)} walks"
        )

    def whole_by_uuid(self, endpoint: str, query: Mapping[str, str]) -> dict[str, rows.Row]:
        """Every row once, by its UUID, of a list that has no order.

        When one page does not hold them all the rest comes by ranges of UUIDs, each of a page or
        less: these are spread evenly, so that no bound need be known. What ranges miss, and a
        server that does not know them, is left to :meth:`whole`.
        """
        first = {**query, "limit": str(PAGE)}
        page, count, more = self.page(endpoint, {**first, "offset": "0"})
        found = {_key_of(row, rows.identifier): row for row in page}
        parts = -(-count // _RANGE) if more else 0
        if not more and len(found) >= count:
            return found
        for span in _spans(parts if parts <= _MOST_RANGES else 0):
            try:
                page, _, _ = self.page(endpoint, {**first, "django": span, "offset": "0"})
            except ServerError:
                break
            if not page:
                break
            found.update((_key_of(row, rows.identifier), row) for row in page)
        if parts and len(found) >= count:
            return found
        return self.whole(endpoint, query, rows.identifier)

    def _walk(
        self,
        endpoint: str,
        query: Mapping[str, str],
        key: Key,
        found: dict[str, rows.Row],
    ) -> int:
        """One walk over all pages, adding to ``found``; the distinct rows there should be.

        A row that came twice within one page is a join's doing and inflates ``count``, so it is
        taken off; one that came on two pages is the missing order's doing, and is not.
        """
        received, doubled, count, more = 0, 0, 0, True
        seen: set[str] = set()
        while more:
            page, count, more = self.page(endpoint, {**query, "offset": str(received)})
            keys = [_key_of(row, key) for row in page]
            doubled += len(keys) - len(set(keys))
            found.update(zip(keys, page, strict=True))
            received += len(page)
            # a page without anything new: a server that says the same again and again
            more = more and not seen.issuperset(keys)
            seen.update(keys)
        return max(count - doubled, len(seen))

    def page(self, endpoint: str, query: dict[str, str]) -> tuple[list[rows.Row], int, bool]:
        """One page: its rows, the number of all rows, and whether there are more.

        Alyx's ``count`` is right where pages are not. Should it be too small for once, a full
        page whose ``next`` leads on tells.
        """
        reached, limit = int(query["offset"]), int(query["limit"])
        if query["offset"] == "0":
            del query["offset"]
        answer = self._asker.get(endpoint, query)
        body = answer.body
        if answer.status != 200:
            raise self._asker.unexpected(answer, endpoint)
        if isinstance(body, list):  # before mid-2019: the bare rows, all of them
            return _checked(body, endpoint), len(body), False
        if isinstance(body, dict) and isinstance(body.get("count"), int):
            page, count = _checked(body.get("results"), endpoint), body["count"]
            full = len(page) >= limit and body.get("next") is not None
            return page, count, bool(page) and (full or reached + len(page) < count)
        raise ServerError(f"{self._url}/{endpoint} did not answer with a list: is this an Alyx?")


def _spans(parts: int) -> Iterator[str]:
    """All UUIDs in so many ranges of one length, as look-ups."""
    bounds = [(part << 128) // parts for part in range(parts + 1)] if parts else []
    for low, high in pairwise(bounds):
        yield f"id__range,['{uuid.UUID(int=low)}','{uuid.UUID(int=high - 1)}']"


def _key_of(row: rows.Row, key: Key) -> str:
    """What tells a row from others; an odd row, which is left out later, counts all the same."""
    try:
        return key(row)
    except ServerError:
        return f"odd {row!r}"


def _checked(page: object, endpoint: str) -> list[rows.Row]:
    """The rows of a page. What is no row at all becomes one that can't be read."""
    if not isinstance(page, list):
        raise ServerError(f"Alyx's answer for {endpoint} holds no rows")
    return [row if isinstance(row, dict) else {"no row": row} for row in page]
