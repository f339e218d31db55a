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
    """Return a text without any check."""
    return value


def text(field: str, value: str) -> str:
    """Return a text. Raises ApiError 400 if it contains a NUL."""
    if "\x00" in value:
        raise invalid(field, "Null characters are not allowed.")
    return value


def number(field: str, value: str) -> int | float:
    """Return a number, 2 for ``002``. Raises ApiError 400 for any other text."""
    try:
        parsed = Decimal(value)
    except InvalidOperation:
        raise invalid(field, "Enter a number.") from None
    if not parsed.is_finite():
        raise invalid(field, "Enter a number.")
    return int(parsed) if parsed == parsed.to_integral_value() else float(parsed)


def session_number(_: str, value: str) -> int:
    """Return the number of a session. Raises ApiError 500 for any other text."""
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
    """Return a UUID in lower case with dashes. Raises ApiError 400 for any other text."""
    return str(_parsed(uuid.UUID, field, value, "Enter a valid UUID."))


def key(field: str, value: str) -> str:
    """Return the UUID of a related row. Raises ApiError 400 for any other text."""
    return str(_parsed(uuid.UUID, field, value, f"“{value}” is not a valid UUID."))


def unknown_choice(field: str) -> Exception:
    """Return ApiError 400 for the key of a row that does not exist."""
    message = "Select a valid choice. That choice is not one of the available choices."
    return invalid(field, message)


def timestamp(value: str) -> datetime:
    """Return an ISO date and time without its zone. For a date alone the time is midnight.

    Raises ValueError for any other text.
    """
    parsed = datetime.fromisoformat(value.strip().replace("Z", "+00:00"))
    return parsed.replace(tzinfo=None)


def moment(field: str, value: str) -> datetime:
    """Return a date and time. Raises ApiError 400 for any other text."""
    return _parsed(timestamp, field, value, "Enter a valid date/time.")


def day(_: str, value: str) -> date:
    """Return a date. Raises ApiError 500 for any other text."""
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
    """Return the number of a QC outcome, given by name. Raises ApiError 500 if unknown."""
    number = QC.get(value.upper())
    if number is None:
        raise failure("Invalidqc, choices are: CRITICAL, FAIL, WARNING, NOT_SET, PASS")
    return number


def worst_outcome(value: str) -> int:
    """Return the number of a QC outcome, given by name or number. ApiError 500 if unknown."""
    if value.isascii() and value.isdigit() and int(value) in QC.values():
        return int(value)
    if value.upper() not in QC:
        raise failure(f"{value} is not a valid QC")
    return QC[value.upper()]


def boolean(_: str, value: str) -> bool | None:
    """Return True or False for a text that Alyx accepts. Return None for any other text."""
    return {"True": True, "true": True, "False": False, "false": False}.get(value)
