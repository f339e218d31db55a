"""Query values as Django and django-filter read them, with the same error texts.

Most functions take the name and the text of a parameter and return the value to look up. These
functions raise ApiError for a text that the real server refuses.
"""

from __future__ import annotations

import re
import uuid
from collections.abc import Callable
from datetime import date, datetime
from decimal import Decimal, InvalidOperation
from typing import TypeVar

from onefs.demo.rest.errors import failure, invalid

T = TypeVar("T")

#: Alyx's quality control outcomes and their numbers (CRITICAL is the worst)
QC = {"NOT_SET": 0, "PASS": 10, "WARNING": 30, "FAIL": 40, "CRITICAL": 50}
#: the provenances of a trajectory and their numbers in Alyx
PROVENANCES = {
    "Ephys aligned histology track": 70,
    "Histology track": 50,
    "Micro-manipulator": 30,
    "Planned": 10,
}

_DATE = re.compile(r"(\d{4})-(\d{1,2})-(\d{1,2})", re.ASCII)


def unchecked(_: str, value: str) -> str:
    """Return the text of a parameter without any check."""
    return value


def text(field: str, value: str) -> str:
    """Return the text of a parameter. Raises ApiError 400 if the text contains a NUL."""
    if "\x00" in value:
        raise invalid(field, "Null characters are not allowed.")
    return value


def number(field: str, value: str) -> int | float:
    """Return the number in the text of a parameter. For example, ``002`` gives 2.

    Raises ApiError 400 if the text is not a number.
    """
    try:
        parsed = Decimal(value)
    except InvalidOperation:
        raise invalid(field, "Enter a number.") from None
    if not parsed.is_finite():
        raise invalid(field, "Enter a number.")
    return int(parsed) if parsed == parsed.to_integral_value() else float(parsed)


def session_number(_: str, value: str) -> int:
    """Return the number in the text of a parameter, which is the number of a session.

    Raises ApiError 500 if the text is not a whole number.
    """
    try:
        return int(value)
    except ValueError:
        raise failure(f"Field 'number' expected a number but got '{value}'.") from None


def _parsed(parse: Callable[[str], T], field: str, value: str, message: str) -> T:
    try:
        return parse(value)
    except ValueError:
        raise invalid(field, message) from None


def uuid_text(field: str, value: str) -> str:
    """Return the UUID in the text of a parameter, in lower case with dashes.

    Raises ApiError 400 if the text is not a UUID.
    """
    return str(_parsed(uuid.UUID, field, value, "Enter a valid UUID."))


def key(field: str, value: str) -> str:
    """Return the UUID in a parameter's text, in lower case with dashes.

    ``field`` is the parameter, ``value`` is its text. Raises ApiError 400 if the text is not a
    UUID.
    """
    return str(_parsed(uuid.UUID, field, value, f"“{value}” is not a valid UUID."))


def unknown_choice(field: str) -> Exception:
    """Return ApiError 400 for the key of a row that does not exist."""
    message = "Select a valid choice. That choice is not one of the available choices."
    return invalid(field, message)


def timestamp(value: str) -> datetime:
    """Return the ISO date and time in a text, without the time zone.

    A date without time becomes midnight. Raises ValueError for an invalid text.
    """
    parsed = datetime.fromisoformat(value.strip().replace("Z", "+00:00"))
    return parsed.replace(tzinfo=None)


def moment(field: str, value: str) -> datetime:
    """Return the date and time in the text of a parameter.

    Raises ApiError 400 if the text is not a date and time.
    """
    return _parsed(timestamp, field, value, "Enter a valid date/time.")


def day(_: str, value: str) -> date:
    """Return the date in the text of a parameter. Raises ApiError 500 if the text is not a date."""
    match = _DATE.fullmatch(value)
    if match is None:
        raise failure(
            str([f"“{value}” value has an invalid date format. It must be in YYYY-MM-DD format."])
        )
    try:
        return date(*(int(part) for part in match.groups()))
    except ValueError:
        raise failure(
            str([f"“{value}” value has the correct format (YYYY-MM-DD) but it is an invalid date."])
        ) from None


def outcome(_: str, value: str) -> int:
    """Return the number of the QC outcome with the name ``value``, in upper or lower case.

    Raises ApiError 500 if no QC outcome has this name.
    """
    number = QC.get(value.upper())
    if number is None:
        raise failure("Invalidqc, choices are: CRITICAL, FAIL, WARNING, NOT_SET, PASS")
    return number


def worst_outcome(value: str) -> int:
    """Return the number of the QC outcome with the name or the number ``value``.

    Raises ApiError 500 if there is no such QC outcome.
    """
    if value.isascii() and value.isdigit() and int(value) in QC.values():
        return int(value)
    if value.upper() not in QC:
        raise failure(f"{value} is not a valid QC")
    return QC[value.upper()]


def boolean(_: str, value: str) -> bool | None:
    """Return True or False for ``true``, ``True``, ``false`` or ``False``, otherwise None."""
    return {"True": True, "true": True, "False": False, "false": False}.get(value)
