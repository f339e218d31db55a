"""ONE-api's references of sessions, such as ``2018-08-24_1_clns0730``. No I/O.

A reference is a text, or a dict with the keys ``subject``, ``date`` and ``sequence``.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from datetime import date, datetime
from pathlib import PurePath
from typing import Any, TypeVar
from uuid import UUID

from onefs.errors import UsageError
from onefs.one.bunch import Bunch

_REF = re.compile(r"[0-9]{4}(-[0-9]{2}){2}_([0-9]{1,3})_\w+")
_IN_PATH = re.compile(
    r"(?<![\w.-])(?P<subject>[\w.-]+)([\\/])(?P<date>[0-9]{4}-[0-9]{2}-[0-9]{2})(\2)"
    r"(?P<sequence>[0-9]{1,3})"
)
_TWO_DIGITS = re.compile(r"0[0-9]\Z")
_KEYS = {"subject", "date", "sequence"}

T = TypeVar("T")


def is_list(value: object) -> bool:
    """Whether an argument is a list of names, rather than one name or one record."""
    if isinstance(value, (str, bytes, Mapping, PurePath, UUID)) or hasattr(value, "iterrows"):
        return False
    return isinstance(value, Iterable)


def for_each(values: Any, convert: Callable[[Any], T]) -> T | list[T]:
    """Return the result for a name, or the list of the results for a list of names."""
    return [convert(value) for value in values] if is_list(values) else convert(values)


def is_exp_ref(ref: object) -> bool:
    """Whether a value is a reference of a session."""
    if isinstance(ref, Mapping):
        if not ref.keys() >= _KEYS:
            return False
        ref = "{date}_{sequence}_{subject}".format(**ref)
    return isinstance(ref, str) and _REF.match(ref) is not None


def ref_to_dict(ref: object, parse: bool = True) -> Bunch:
    """Return a reference as a dict. With ``parse``, its date is a date, its sequence an int.

    Raises UsageError for an invalid reference. Without ``parse``, a text has the parts that it has,
    as in ONE-api.
    """
    if isinstance(ref, Mapping):
        found = Bunch(ref)
    elif isinstance(ref, str):
        found = Bunch(zip(("date", "sequence", "subject"), ref.split("_", 2), strict=False))
    else:
        raise _invalid(ref)
    if not parse:
        return found
    if not found.keys() >= _KEYS:
        raise _invalid(ref)
    return parsed(found)


def parsed(ref: Bunch) -> Bunch:
    """Return a reference with a date and a number instead of texts.

    Raises UsageError for an invalid date or number.
    """
    day = ref["date"]
    try:
        if isinstance(day, str):
            day = date.fromisoformat(day) if len(day) == 10 else _day_of(day)
        number = int(ref["sequence"])
    except (TypeError, ValueError):
        raise _invalid(ref) from None
    ref.update(date=day, sequence=number)
    return ref


def dict_to_ref(ref: Mapping[str, Any] | None) -> str | None:
    """Return a reference as text. Return None if there is no reference.

    ``number`` and ``start_time`` of a session's record count as ``sequence`` and ``date``. Raises
    UsageError for an invalid reference.
    """
    if not ref:
        return None
    try:
        number = ref["sequence"] if "sequence" in ref else ref["number"]
        day = ref["date"] if "date" in ref else ref["start_time"]
        if "date" not in ref:
            day = day[:10] if isinstance(day, str) else day.date()
        values = {**ref, "sequence": number, "date": day}.values()
        if all(isinstance(value, str) for value in values):
            return f"{day}_{number}_{ref['subject']}"
        day = day[:10] if isinstance(day, str) else f"{day:%Y-%m-%d}"
        return f"{day}_{int(number)}_{ref['subject']}"
    except (KeyError, TypeError, ValueError, AttributeError):
        raise _invalid(ref) from None


def path_to_ref(path: object, as_dict: bool = True, parse: bool = True) -> Bunch | str | None:
    """Return the reference of the session in a path. Return None if there is none."""
    match = _IN_PATH.search(str(path))
    if match is None or _TWO_DIGITS.match(match["sequence"]):
        return None
    ref = Bunch(match.groupdict())
    if as_dict:
        return parsed(ref) if parse else ref
    return f"{ref['date']}_{ref['sequence']}_{ref['subject']}"


def _day_of(text: str) -> date:
    return datetime.fromisoformat(text).date()


def _invalid(ref: object) -> UsageError:
    return UsageError(
        f"{ascii(ref)[:80]} is not a reference of a session: give a text like "
        "2018-08-24_1_clns0730, or a dict with subject, date and sequence"
    )
