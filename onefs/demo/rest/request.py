"""One request, parsed: its filters and its page."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from onefs.demo.rest.database import DemoDatabase
from onefs.demo.rest.pagination import PageRequest, envelope, page_of

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class ApiRequest:
    """What a view reads of a request."""

    db: DemoDatabase
    #: the server's address as the client wrote it, without trailing slash
    base: str
    path: str
    #: the query as it was received; of a repeated name the last value counts
    query: Mapping[str, Sequence[str]]

    @property
    def args(self) -> dict[str, str]:
        """The filters: values stripped, empty ones left out."""
        last = {name: texts[-1].strip() for name, texts in self.query.items()}
        return {name: text for name, text in last.items() if text}

    def link(self, path: str) -> str:
        """Return the address of a path; ``?format=`` is handed on, as by DRF."""
        form = self.query.get("format")
        return f"{self.base}{path}?format={form[-1]}" if form else f"{self.base}{path}"

    @property
    def page(self) -> PageRequest:
        """The requested page."""
        return page_of(self.args)

    def paginate(
        self,
        rows: Sequence[T],
        row: Callable[[T], Any],
        cut: Callable[[Sequence[T], PageRequest], Sequence[T]],
    ) -> dict[str, Any]:
        """Return one page of ``rows``, cut out by ``cut`` and converted by ``row``."""
        page = self.page
        shown = [row(each) for each in cut(rows, page)]
        return envelope(page, len(rows), shown, self.base + self.path, self.query)
