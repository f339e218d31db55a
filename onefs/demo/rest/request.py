"""One parsed request: its filters and its page."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from onefs.demo.rest.database import DemoDatabase
from onefs.demo.rest.pagination import PageRequest, envelope, page_of

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class ApiRequest:
    """The parts of a request that a view reads."""

    db: DemoDatabase
    #: the server's address as the client wrote it, without a slash at the end
    base: str
    path: str
    #: the query as it was received. If a name is repeated, its last value is used
    query: Mapping[str, Sequence[str]]

    @property
    def args(self) -> dict[str, str]:
        """Return the filters. Values are stripped, and filters with an empty value are left out."""
        last = {name: texts[-1].strip() for name, texts in self.query.items()}
        return {name: text for name, text in last.items() if text}

    def link(self, path: str) -> str:
        """Return the address of a path on the server.

        As in Django REST framework, the parameter ``format`` of the request is added to the
        address.
        """
        form = self.query.get("format")
        return f"{self.base}{path}?format={form[-1]}" if form else f"{self.base}{path}"

    @property
    def page(self) -> PageRequest:
        """Return the requested page."""
        return page_of(self.args)

    def paginate(
        self,
        rows: Sequence[T],
        row: Callable[[T], Any],
        cut: Callable[[Sequence[T], PageRequest], Sequence[T]],
    ) -> dict[str, Any]:
        """Return the JSON of the requested page of ``rows``.

        ``cut`` selects the rows of the page. ``row`` converts each of these rows to JSON.
        """
        page = self.page
        shown = [row(each) for each in cut(rows, page)]
        return envelope(page, len(rows), shown, self.base + self.path, self.query)
