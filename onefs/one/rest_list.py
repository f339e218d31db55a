"""Lists of Alyx's rows that are requested page by page, when they are needed."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence, Set
from operator import index
from typing import Any, overload

from onefs.alyx.parsing import any_key

Row = Mapping[str, Any]


class RestList(Sequence[Any]):
    """A list of Alyx's rows. Its first rows are known, and the others are requested in pages.

    The length is known at once. ``rows[3]``, ``rows[-1]`` and ``rows[10:20]`` request only the
    pages with these rows. Most lists of Alyx have no order, so that a row may be on two pages, and
    another row on none. Iteration returns each row once, and requests those that are missing.
    """

    def __init__(
        self,
        rows: Sequence[Row],
        count: int,
        fetch_page: Callable[[Mapping[str, str]], Mapping[str, Any]],
        fetch_missing: Callable[[Set[str]], Sequence[Row]],
        *,
        page_rows: int,
    ) -> None:
        self._first_rows = len(rows)
        self._rows: list[Row | None] = [*rows, *[None] * (count - len(rows))]
        self._fetch_page, self._fetch_missing = fetch_page, fetch_missing
        self._page_rows = page_rows
        #: the rows that were on no page, once they are known
        self._missing: Sequence[Row] | None = None
        self._repeated = 0
        self._note_repeats(rows)

    def __len__(self) -> int:
        return len(self._rows)

    def __repr__(self) -> str:
        return f"<RestList: {len(self)} rows>"

    @overload
    def __getitem__(self, item: int) -> Row: ...
    @overload
    def __getitem__(self, item: slice) -> list[Row]: ...

    def __getitem__(self, item: int | slice) -> Row | list[Row]:
        if isinstance(item, slice):
            found = map(self._row, range(*item.indices(len(self))))
            return [row for row in found if row is not None]
        at = index(item)
        at = at + len(self) if at < 0 else at
        if not 0 <= at < len(self):
            raise IndexError(f"the list has {len(self)} rows, and no row {item}")
        row = self._row(at)
        if row is None:
            raise IndexError(f"Alyx has no row {at} any more: the list has changed")
        return row

    def __iter__(self) -> Iterator[Row]:
        seen: set[str] = set()
        for at in range(len(self)):
            row = self._row(at)
            if row is None:  # rows were deleted since the first page
                break
            if (key := any_key(row)) not in seen:
                seen.add(key)
                yield row
        if len(seen) < len(self) - self._repeated:
            if self._missing is None:
                self._missing = self._fetch_missing(seen)
            yield from (row for row in self._missing if any_key(row) not in seen)

    def __reversed__(self) -> Iterator[Row]:
        found = map(self._row, reversed(range(len(self))))
        return (row for row in found if row is not None)

    def _row(self, at: int) -> Row | None:
        """Return a row, or None if Alyx does not have it any more. Request its page if needed."""
        if self._rows[at] is None:
            first = self._first_rows
            offset = first + (at - first) // self._page_rows * self._page_rows
            self._load(offset)
            if self._rows[at] is None and offset != at:  # the server's pages are shorter
                self._load(at)
        return self._rows[at]

    def _note_repeats(self, rows: Sequence[Row]) -> None:
        """Count rows that a page has twice. Alyx's count of all rows includes these."""
        self._repeated += len(rows) - len(set(map(any_key, rows)))

    def _load(self, offset: int) -> None:
        page = self._fetch_page({"limit": str(self._page_rows), "offset": str(offset)})
        rows = page["results"][: len(self) - offset]
        self._rows[offset : offset + len(rows)] = rows
        self._note_repeats(rows)
