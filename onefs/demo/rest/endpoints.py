"""Views (one route each) and endpoints (two views: a list of rows, and each row's detail)."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from onefs.demo.rest import pagination
from onefs.demo.rest.database import DemoDatabase, Row
from onefs.demo.rest.errors import not_found
from onefs.demo.rest.request import ApiRequest
from onefs.demo.rest.serializers import Link

LIST_METHODS = ("GET", "POST", "HEAD", "OPTIONS")
DETAIL_METHODS = ("GET", "PUT", "PATCH", "DELETE", "HEAD", "OPTIONS")
READ_METHODS = ("GET", "HEAD", "OPTIONS")


@dataclass(frozen=True, slots=True)
class View:
    """One route: its path, its title in the browsable page, and the function that answers GET."""

    rule: str
    title: str
    get: Callable[..., Any]
    allow: tuple[str, ...] = LIST_METHODS
    filters: tuple[str, ...] = ()
    #: whether OPTIONS fails, as it does in Alyx for some serializers
    options_fail: bool = False
    #: whether HEAD fails, as it does in Alyx for the list of sessions
    head_fails: bool = False


@dataclass(frozen=True, slots=True)
class Endpoint:
    """An endpoint of Alyx: its list of rows, and the full JSON of each row (the row's detail)."""

    #: the path without the slash at the start
    name: str
    #: the name of a row in the browsable page
    title: str
    #: returns the rows that fulfil the filters of a query
    select: Callable[[DemoDatabase, Mapping[str, str]], Sequence[Any]]
    #: returns the JSON of a row in the list
    row: Callable[[DemoDatabase, Any, Link], Any]
    filters: tuple[str, ...] = ()
    #: returns the JSON of a row in its detail. If it is None, the JSON is the same as in the list
    detail: Callable[[DemoDatabase, Any, Link], Any] | None = None
    #: returns the row for a key, or None for an unknown key. If this field is None, the row is
    #: read from the table ``name``
    find: Callable[[DemoDatabase, Any], Any] | None = None
    #: the name of a row in the error for an unknown key. '' stands for the title without blanks
    model: str = ""
    #: the variable in the path of the detail, with its URL converter
    key: str = "key:row_id"
    #: returns the rows of one page from all rows
    cut: Callable[..., Sequence[Any]] = pagination.unordered
    list_methods: tuple[str, ...] = LIST_METHODS
    detail_methods: tuple[str, ...] = DETAIL_METHODS
    #: ``options_fail`` of :class:`View` for the list, and for the detail
    options_fail: tuple[bool, bool] = (False, False)
    head_fails: bool = False

    def views(self) -> Iterator[View]:
        """Yield the view of the list and the view of the detail."""
        yield View(
            f"/{self.name}",
            f"{self.title} List",
            self._list,
            self.list_methods,
            self.filters,
            self.options_fail[0],
            self.head_fails,
        )
        yield View(
            f"/{self.name}/<{self.key}>",
            f"{self.title} Detail",
            self._read,
            self.detail_methods,
            options_fail=self.options_fail[1],
        )

    def _list(self, call: ApiRequest) -> Any:
        rows = self.select(call.db, call.args)
        return call.paginate(rows, lambda row: self.row(call.db, row, call.link), self.cut)

    def _read(self, call: ApiRequest, **keys: Any) -> Any:
        (key,) = keys.values()
        row = self.find(call.db, key) if self.find else call.db.row(self.name, key)
        if row is None:
            raise not_found(self.model or self.title.replace(" ", ""))
        return (self.detail or self.row)(call.db, row, call.link)


def unchanged(db: DemoDatabase, row: Row, link: Link) -> Row:
    """Return ``row`` without change, because rows of small tables are already JSON."""
    return row
