"""The look-ups of ``django=``: a test of rows for each ``field__field__lookup,value``."""

from __future__ import annotations

import operator
import re
import uuid
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from onefs.demo.rest.database import DemoDatabase
from onefs.demo.rest.errors import failure
from onefs.demo.rest.model_fields import MODELS, Field, Leaf, Relation
from onefs.demo.rest.query_values import day, timestamp
from onefs.integers import parse_whole_number

Test = Callable[[Any], bool]

_COMPARE: Mapping[str, Callable[[Any, Any], bool]] = {
    "exact": operator.eq,
    "gt": operator.gt,
    "gte": operator.ge,
    "lt": operator.lt,
    "lte": operator.le,
}
#: look-ups of texts. With an ``i`` before the name, upper and lower case are equal
_TEXT: Mapping[str, Callable[[str, str], bool]] = {
    "exact": operator.eq,
    "contains": operator.contains,
    "startswith": str.startswith,
    "endswith": str.endswith,
}
_PARTS = ("year", "month", "day", "hour", "minute", "second")
_LOOKUPS = frozenset(
    {*_COMPARE, *_TEXT, *(f"i{name}" for name in _TEXT), "in", "isnull", "range", "regex", "iregex"}
)
_NO_KIND = Leaf("text", lambda row: None)


def lookup_test(db: DemoDatabase, model: str, path: str, value: Any) -> Test:
    """Return a function that tests whether a row fulfils the look-up ``path`` with ``value``.

    The row is one of the table ``model``. If the look-up goes through a relation, one related row
    that fulfils the look-up is enough. Raises ApiError 500 for an invalid field or value.
    """
    steps, transforms = _walk(model, path.split("__"))
    name = transforms.pop() if transforms and transforms[-1] in _LOOKUPS else "exact"
    leaf, transform = _transformed(steps, transforms)
    if name == "isnull" or (name == "exact" and value is None):
        return _null_test(db, steps, transform, wanted=name == "exact" or bool(value))
    matches = _matcher(leaf, name, value)

    # As in Alyx, each look-up is tested separately: two look-ups may be fulfilled by two different
    # related rows.
    def test(row: Any) -> bool:
        values = map(transform, _values(db, steps, row))
        return any(value is not None and matches(value) for value in values)

    return test


def _walk(model: str, parts: Sequence[str]) -> tuple[list[Field], list[str]]:
    """Return the fields in a look-up's path, and the other parts, such as ``date`` and ``gte``.

    Raises ApiError 500 if a part is unknown.
    """
    steps: list[Field] = []
    for index, part in enumerate(parts):
        fields = MODELS[model]
        field = fields.get("id" if part == "pk" else part)
        if field is None:
            if steps and part in _LOOKUPS:
                return steps, list(parts[index:])
            raise failure(
                f"Cannot resolve keyword '{part}' into field. "
                f"Choices are: {', '.join(sorted(fields))}"
            )
        steps.append(field)
        if isinstance(field, Leaf):
            return steps, list(parts[index + 1 :])
        model = field.model
    return steps, []


def _transformed(
    steps: Sequence[Field], transforms: Sequence[str]
) -> tuple[Leaf, Callable[[Any], Any]]:
    """Return the column to compare, and a function that converts a stored value before the test.

    ``transforms`` are names such as ``date``. Raises ApiError 500 for an unknown name.
    """
    last = steps[-1]
    if isinstance(last, Relation):
        last = _key_leaf(last.model)
    if last.kind == "json":
        return last, lambda value: _inside(value, transforms)
    if last.kind == "datetime" and transforms in ([], ["date"], *([name] for name in _PARTS)):
        kind = "datetime" if not transforms else "date" if transforms == ["date"] else "number"
        return Leaf(kind, last.get), lambda value: _moment(value, *transforms)
    if not transforms:
        return last, lambda value: value
    raise failure(
        f"Unsupported lookup '{transforms[0]}' for {last.kind} field "
        "or join on the field not permitted."
    )


def _key_leaf(model: str) -> Leaf:
    field = MODELS[model].get("id", _NO_KIND)
    return field if isinstance(field, Leaf) else _NO_KIND


def _values(db: DemoDatabase, steps: Sequence[Field], row: Any) -> Sequence[Any]:
    rows = [row]
    for step in steps:
        if isinstance(step, Leaf):
            return [step.get(each) for each in rows]
        rows = [related for each in rows for related in step.get(db, each)]
    last = steps[-1]
    assert isinstance(last, Relation)
    key = _key_leaf(last.model)
    return [key.get(each) for each in rows]


def _null_test(
    db: DemoDatabase, steps: Sequence[Field], transform: Callable[[Any], Any], wanted: bool
) -> Test:
    ends_in_rows = isinstance(steps[-1], Relation)

    def is_null(row: Any) -> bool:
        values = _values(db, steps, row)
        if ends_in_rows:
            return not values
        return not values or any(transform(value) is None for value in values)

    return is_null if wanted else lambda row: not is_null(row)


def _matcher(leaf: Leaf, name: str, value: Any) -> Test:
    if name in ("regex", "iregex"):
        try:
            pattern = re.compile(str(value), re.IGNORECASE if name == "iregex" else 0)
        except re.error as error:
            raise failure(f"invalid regular expression: {error}") from None
        return lambda found: pattern.search(str(found)) is not None
    if name in ("in", "range"):
        return _several(leaf, name, value)
    if name in _COMPARE:
        compare, coerced = _COMPARE[name], _coerced(leaf, value)
        return lambda found: _compared(compare, found, coerced)
    if name in _TEXT:
        matches, text = _TEXT[name], str(value)
        return lambda found: matches(str(found), text)
    matches, text = _TEXT[name.removeprefix("i")], str(value).casefold()
    return lambda found: matches(str(found).casefold(), text)


def _several(leaf: Leaf, name: str, value: Any) -> Test:
    values = [_coerced(leaf, item) for item in _listed(leaf, value)]
    if name == "range":
        if len(values) != 2:
            raise failure("not enough values to unpack")
        low, high = values
        return lambda found: (
            _compared(operator.ge, found, low) and _compared(operator.le, found, high)
        )
    if leaf.kind == "json":
        return lambda found: found in values
    chosen = frozenset(values)
    return lambda found: found in chosen


def _listed(leaf: Leaf, value: Any) -> Sequence[Any]:
    if isinstance(value, (list, tuple)):
        return value
    if isinstance(value, str):
        return list(value) if leaf.kind != "uuid" else [value]
    raise failure(f"'{type(value).__name__}' object is not iterable")


def _compared(compare: Callable[[Any, Any], bool], found: Any, wanted: Any) -> bool:
    if isinstance(found, bool) is not isinstance(wanted, bool):
        return False
    try:
        return compare(found, wanted)
    except TypeError:
        return False


def _coerced(leaf: Leaf, value: Any) -> Any:
    """Return ``value`` converted to the type of the column.

    Raises ApiError 500 with Django's text if ``value`` cannot be converted.
    """
    if value is None or leaf.kind == "json":
        return value
    if leaf.kind == "text":
        return str(value)
    if leaf.kind == "uuid":
        try:
            return str(uuid.UUID(str(value)))
        except ValueError:
            raise failure(str([f"“{value}” is not a valid UUID."])) from None
    if leaf.kind == "number":
        return _number(value)
    if leaf.kind == "bool":
        if value in (True, False):
            return bool(value)
        raise failure(str([f"“{value}” value must be either True or False."]))
    if leaf.kind == "date":
        return day("", str(value))
    try:
        return timestamp(str(value))
    except ValueError:
        form = "YYYY-MM-DD HH:MM[:ss[.uuuuuu]][TZ]"
        text = f"“{value}” value has an invalid format. It must be in {form} format."
        raise failure(str([text])) from None


def _number(value: Any) -> float:
    try:
        return float(value)
    except (TypeError, ValueError, OverflowError):
        raise failure(f"Field expected a number but got '{value}'.") from None


def _moment(value: str | None, part: str = "") -> Any:
    """Return a stored time. If ``part`` is given, return only this part, such as ``date``.

    Return None if no time is stored.
    """
    if not value:
        return None
    moment = timestamp(value)
    if part == "date":
        return moment.date()
    return getattr(moment, part) if part else moment


def _inside(value: Any, keys: Sequence[str]) -> Any:
    for key in keys:
        if isinstance(value, Mapping):
            value = value.get(key)
        elif (
            isinstance(value, list)
            and (at := parse_whole_number(key)) is not None
            and at < len(value)
        ):
            value = value[at]
        else:
            return None
    return value
