"""Query parameters that are short forms of ``django=`` look-ups."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from onefs.demo.rest import query_values
from onefs.demo.rest.database import DemoDatabase, Row
from onefs.demo.rest.django_filter import django_test, read_lookups
from onefs.demo.rest.lookups import Test, lookup_test

#: (database, parameter's name, parameter's text) -> the test of one row. Raises ApiError if Alyx
#: refuses the text
Filter = Callable[[DemoDatabase, str, str], Test]


def lookup_filter(
    model: str, path: str, read: Callable[[str, str], Any] = query_values.text
) -> Filter:
    """Return a filter of the rows of ``model`` by the look-up ``path``.

    ``read`` computes the value to look up from the parameter's name and text. If ``read`` returns
    None, the filter accepts every row.
    """

    def make(db: DemoDatabase, name: str, value: str) -> Test:
        wanted = read(name, value)
        return accept_all if wanted is None else lookup_test(db, model, path, wanted)

    return make


def choice_filter(model: str, path: str, table: str, column: str = "id") -> Filter:
    """Return a filter of the rows of ``model`` by the UUID of a related row.

    The related row is in ``table``, with the UUID in ``column``. The filter raises ApiError 400 if
    no row has the UUID.
    """

    def make(db: DemoDatabase, name: str, value: str) -> Test:
        key = query_values.key(name, value)
        if not any(row.get(column) == key for row in db.table(table)):
            raise query_values.unknown_choice(name)
        return lookup_test(db, model, path, key)

    return make


def accept_all(row: Any) -> bool:
    """Return True. This is the test for a parameter that does not filter."""
    return True


def never(db: DemoDatabase, name: str, value: str) -> Test:
    """Return a test that no row fulfils, for a column that is always empty in Alyx."""
    return lambda row: False


def filter_tests(
    db: DemoDatabase, filters: Mapping[str, Filter], args: Mapping[str, str]
) -> list[Test]:
    """Return a test for each of ``filters`` that the request's parameters ``args`` contain."""
    return [make(db, name, args[name]) for name, make in filters.items() if name in args]


def django_tests(db: DemoDatabase, model: str, args: Mapping[str, str]) -> list[Test]:
    """Return the tests for ``django=``. The slow tests, which list datasets, are last."""
    lookups = read_lookups(args["django"]) if "django" in args else []
    lookups.sort(key=lambda lookup: "datasets" in lookup.path.split("__"))
    return [django_test(db, model, lookup) for lookup in lookups]


def select_rows(
    table: str,
    filters: Mapping[str, Filter],
    db: DemoDatabase,
    args: Mapping[str, str],
    *,
    django: bool = True,
) -> list[Row]:
    """Return the rows of ``table`` that match the request's filters ``args``, in table order."""
    tests = filter_tests(db, filters, args) + (django_tests(db, table, args) if django else [])
    return [row for row in db.table(table) if all(test(row) for test in tests)]
