"""The vocabulary of searches: the terms, and their valid values. No I/O.

If Alyx does not know a filter, or if the filter has no value, Alyx ignores the filter and answers
with the whole table. For an invalid value Alyx often answers with status 500
(docs/ONE-SEMANTICS.md). So each query is checked here before it is sent. An unknown term or an
invalid value raises a UsageError that names the term.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import date
from enum import Enum
from itertools import islice
from operator import index
from typing import Any, NamedTuple
from urllib.parse import quote, unquote_to_bytes

from onefs.errors import UsageError
from onefs.qc import QC

#: largest number of values for one term
MAX_VALUES_PER_TERM = 100
#: largest number of characters in one value
MAX_VALUE_CHARACTERS = 500
#: the dates for an open begin and an open end of ``date_range``: Alyx always needs two dates
FIRST_DAY, LAST_DAY = "1900-01-01", "2999-12-31"
#: outcomes of quality control, from best to worst
QC_OUTCOMES = tuple(QC.__members__)

#: the term for the largest number of sessions, in a query that is written as text
_LIMIT_TERM = "limit"
_DATE = re.compile(r"\d{4}-\d{2}-\d{2}", re.ASCII)
_CONTROL_CHARACTERS = re.compile("[\x00-\x1f\x7f\ud800-\udfff]")
_INTEGER = re.compile(r"\s*\d{1,10}\s*", re.ASCII)
_LOOKUP = re.compile(r"~?[a-zA-Z]\w*", re.ASCII)


class MultipleValues(Enum):
    """Whether a search term may have several values, and whether a session must have all."""

    #: the session must have all values; Alyx takes the values joined by commas
    ALL = "all"
    #: the session must have one of the values; Alyx takes one value, so each value needs a request
    ANY = "any"
    #: the values are two dates: the first and the last day
    RANGE = "range"
    #: the term takes only one value
    NONE = "none"


class Term(NamedTuple):
    """One term of a search, without its values."""

    name: str
    multiple_values: MultipleValues
    #: parses one value, or raises UsageError; the first argument is the term's name
    read: Callable[[str, object], str]
    #: whether Alyx needs a join for the term; a join may repeat sessions
    needs_join: bool = False


@dataclass(frozen=True, slots=True)
class Query:
    """A parsed search: names of terms with their values, in the order of VOCABULARY."""

    values: tuple[tuple[str, tuple[str, ...]], ...]
    #: the largest number of sessions, if the query was written as text with a limit. Otherwise None
    limit: int | None = None

    def get(self, name: str) -> tuple[str, ...]:
        """Return the values of a term. Return () if the query does not have the term."""
        return dict(self.values).get(name, ())

    def __contains__(self, name: str) -> bool:
        return any(name == known for known, _ in self.values)

    def __str__(self) -> str:
        """Return the query as the name of a folder in ``.search``.

        :func:`parse_text` parses this name.
        """
        parts = [
            f"{name}={','.join(_percent_encoded(name, value) for value in values)}"
            for name, values in self.values
        ]
        return "&".join(parts if self.limit is None else [*parts, f"{_LIMIT_TERM}={self.limit}"])


def parse_terms(terms: Mapping[str, object], *, complete_names: bool = False) -> Query:
    """Return the query for search terms. ``terms`` has the value of each term, by the term's name.

    With ``complete_names``, a name may be the beginning of a term's name (:func:`complete_name`).

    Raises UsageError if a term is unknown or given twice, or if a value is invalid.
    """
    parsed: dict[str, tuple[str, ...]] = {}
    for given, value in terms.items():
        term = find_term(complete_name(given) if complete_names else given)
        if term.name in parsed:
            raise UsageError(f"{given}: the term {term.name} is given twice")
        parsed[term.name] = _read_values(term, value)
    return Query(tuple((name, parsed[name]) for name in VOCABULARY if name in parsed))


def parse_text(text: str) -> Query:
    """Return the query for a percent-encoded text ``term=value,value&term=value``.

    ``date_range=2018-08-24,`` has an open end. ``limit=3`` selects the latest three sessions.
    Raises UsageError if the text is invalid.
    """
    terms: dict[str, object] = {}
    limits: list[str] = []
    for part in text.split("&"):
        name, equals, value = part.partition("=")
        if not equals or not name:
            raise UsageError(f"{part!r} is not term=value; separate several terms with &")
        if name in terms or (name == _LIMIT_TERM and limits):
            raise UsageError(f"the term {name} is given twice")
        if name == _LIMIT_TERM:
            limits.append(_percent_decoded(name, value))
            continue
        term = find_term(name)
        if term.name == "django" or (
            term.multiple_values is MultipleValues.RANGE and "," not in value
        ):
            terms[name] = _percent_decoded(name, value)
        elif term.multiple_values is MultipleValues.RANGE:
            terms[name] = [_percent_decoded(name, end) or None for end in value.split(",")]
        else:
            terms[name] = [_percent_decoded(name, piece) for piece in value.split(",")]
    return replace(parse_terms(terms), limit=parse_limit(limits[0] if limits else None))


def find_term(given: str) -> Term:
    """Return the term for a name or alias.

    Raises UsageError, which suggests the most similar term, if there is no such term.
    """
    name = given.replace("-", "_")
    term = VOCABULARY.get(ALIASES.get(name, name))
    if term is None:
        from onefs.search.similar_names import most_similar  # slow, and needed here only

        near = most_similar(name, [*VOCABULARY, *ALIASES])
        hint = f" (did you mean {ALIASES.get(near, near)!r}?)" if near else ""
        raise UsageError(
            f"there is no search term {_quoted(given)}{hint}; search_terms(all=True) lists them"
        )
    return term


def complete_name(given: str) -> str:
    """Return the name of ONE-api's term that a part of a name begins, as ``subj``.

    Return ``given`` itself if it is a whole name, or if none of ONE-api's terms begins with it.
    Raises UsageError if several of them begin with it.
    """
    name = given.replace("-", "_")
    if not name or name in VOCABULARY or name in ALIASES:
        return given
    found = sorted(term for term in ONE_API_TERMS if term.startswith(name))
    if len(found) > 1:
        raise UsageError(
            f"the search term {_quoted(given)} may be {' or '.join(found)}: give a longer part of "
            "the name"
        )
    return found[0] if found else given


def nearest_name_hint(given: str, known: Iterable[str]) -> str:
    """Return the hint `` (did you mean 'x'?)`` with the most similar known name.

    Return '' if no known name is similar.
    """
    from onefs.search.similar_names import most_similar  # slow, and needed here only

    by_folded = {name.casefold(): name for name in known}
    near = most_similar(given, by_folded)
    return f" (did you mean {by_folded[near]!r}?)" if near else ""


def _read_values(term: Term, value: object) -> tuple[str, ...]:
    if term.multiple_values is MultipleValues.RANGE:
        return _read_date_range(term.name, value)
    if isinstance(value, str) and term.multiple_values is MultipleValues.ALL:
        value = value.split(",")  # as Alyx does: names in this term cannot contain a comma
    if isinstance(value, (str, bytes, Mapping)) or not isinstance(value, Iterable):
        value = [value]
    given = _take_items(term.name, value, MAX_VALUES_PER_TERM + 1)
    if not given:
        raise UsageError(
            f"the search term {term.name} is an empty list, which would match every session"
        )
    if len(given) > MAX_VALUES_PER_TERM:
        raise UsageError(f"the search term {term.name} has more than {MAX_VALUES_PER_TERM} values")
    # without duplicates: Alyx counts the names, so that no session would match duplicates
    read = tuple(dict.fromkeys(term.read(term.name, each) for each in given))
    if len(read) > 1 and term.multiple_values is MultipleValues.NONE:
        raise UsageError(f"the search term {term.name} takes one value, not {len(read)}")
    return read


def _read_date_range(name: str, value: object) -> tuple[str, ...]:
    """Return the first and the last day of a date range, as ``yyyy-mm-dd``.

    A single date is a range of one day. Raises UsageError if ``value`` is invalid.
    """
    if isinstance(value, str) and "," in value:
        value = [end.strip() or None for end in value.split(",")]
    ends = _take_items(name, value, 3) if _is_sequence(value) else [value]
    if _is_sequence(value) and len(ends) == 1 and ends[0] is not None:
        day = _read_day(name, ends[0])
        raise UsageError(
            f"the search term {name} is a list of one date, which ONE reads as an open end: give "
            f"{day!r} for that day, or [{day!r}, None] for all from that day on"
        )
    if len(ends) == 1:
        ends = ends * 2
    if len(ends) != 2 or ends == [None, None]:
        raise UsageError(
            f"the search term {name} must be one date, or a list of two dates, of which one may "
            "be None"
        )
    first = FIRST_DAY if ends[0] is None else _read_day(name, ends[0])
    last = LAST_DAY if ends[1] is None else _read_day(name, ends[1])
    if first > last:
        raise UsageError(f"the search term {name} ends ({last}) before it begins ({first})")
    return first, last


def _take_items(name: str, value: Any, most: int) -> list[object]:
    try:
        return list(islice(value, most))
    except Exception as error:  # the caller's object may raise any exception
        raise UsageError(f"{name}: {_quoted(value)} cannot be read as a list") from error


def _is_sequence(value: object) -> bool:
    scalar = isinstance(value, (str, bytes, Mapping)) or getattr(value, "shape", None) == ()
    return isinstance(value, Iterable) and not scalar


def _read_day(name: str, value: object) -> str:
    if isinstance(value, date):  # a datetime is a date too
        try:
            return f"{value.year:04d}-{value.month:02d}-{value.day:02d}"
        except (TypeError, ValueError):  # the value is not-a-time (NaT)
            raise UsageError(f"{name}: {_quoted(value)} is not a date") from None
    text = str(value) if isinstance(value, str) or type(value).__name__ == "datetime64" else ""
    if type(value).__name__ == "datetime64":
        text = text[:10]
    elif not isinstance(value, str):
        raise UsageError(f"{name}: {_quoted(value)} is not a date: give text, a date or a datetime")
    text = text.strip()
    try:
        if _DATE.fullmatch(text):
            return date.fromisoformat(text).isoformat()
    except ValueError:
        pass
    raise UsageError(f"{name}: {_quoted(text)} is not a date like 2018-08-24")


def _read_text(name: str, value: object) -> str:
    if not isinstance(value, str):
        raise UsageError(f"{name}: {_quoted(value)} is not text")
    text = str(value).strip()  # Alyx strips blanks, and an empty value matches every session
    if not text.strip(" ,"):
        raise UsageError(f"the search term {name} is empty, which would match every session")
    if _CONTROL_CHARACTERS.search(text):
        raise UsageError(f"{name}: {_quoted(text)} contains characters that are invalid in names")
    if len(text) > MAX_VALUE_CHARACTERS:
        raise UsageError(f"the search term {name} is longer than {MAX_VALUE_CHARACTERS} characters")
    return text


def _read_name(name: str, value: object) -> str:
    """Return ``value`` as a text that can be an item of a comma-separated list for Alyx.

    Raises UsageError if ``value`` contains a comma or is invalid.
    """
    text = _read_text(name, value)
    if "," in text:
        raise UsageError(f"{name}: {_quoted(text)} contains a comma: give a list of names")
    return text


def _integer_reader(largest: int) -> Callable[[str, object], str]:
    def read(name: str, value: object) -> str:
        if isinstance(value, str) and _INTEGER.fullmatch(value):
            value = int(value)
        try:
            number = -1 if isinstance(value, bool) else index(value)  # type: ignore[arg-type]
        except Exception:  # the caller's object may raise any exception
            number = -1
        if not 0 <= number <= largest:
            raise UsageError(f"{name}: {_quoted(value)} is not a whole number from 0 to {largest}")
        return str(number)

    return read


def _read_percent(name: str, value: object) -> str:
    """Return a percentage from 0 to 100 as text. As in Alyx, 0.9 means 0.9 %."""
    try:
        if isinstance(value, bool):
            raise TypeError
        number = float(value)  # type: ignore[arg-type]
    except Exception:  # the caller's object may raise any exception
        number = float("nan")
    if not 0 <= number <= 100:
        raise UsageError(f"{name}: {_quoted(value)} is not a percentage from 0 to 100")
    return f"{number:.6f}".rstrip("0").rstrip(".")


def _read_outcome(name: str, value: object) -> str:
    text = _read_text(name, value).upper().replace(" ", "_")
    if text not in QC_OUTCOMES:
        raise UsageError(
            f"{name}: {_quoted(value)} is not one of "
            f"{', '.join(QC_OUTCOMES)}{nearest_name_hint(text, QC_OUTCOMES)}"
        )
    return text


def _read_lookups(name: str, value: object) -> str:
    """Return Django look-ups as text for Alyx: ``field__lookup,value``, repeated with commas.

    Raises UsageError if ``value`` does not have this form.
    """
    text = _read_text(name, value)
    parts = _split_outside_brackets(text)
    if len(parts) % 2:
        raise UsageError(f"{name}: {_quoted(text)} is not field,value[,field,value...]")
    for field, given in zip(parts[::2], parts[1::2], strict=True):
        if not _LOOKUP.fullmatch(field):
            raise UsageError(f"{name}: {_quoted(field)} is not a field of Alyx")
        if given[:1] in ("[", "(") and not _is_literal(given):
            raise UsageError(f"{name}: {_quoted(given)} is not a list of values")
    return text


def _split_outside_brackets(text: str) -> list[str]:
    """Split a text at the commas that are outside brackets."""
    parts, start, closing = [], 0, ""
    for at, char in enumerate(text):
        if char == "," and not closing:
            parts.append(text[start:at])
            start = at + 1
        elif char == closing:
            closing = ""
        elif not closing:
            closing = {"[": "]", "(": ")"}.get(char, "")
    return [*parts, text[start:]]


def _is_literal(text: str) -> bool:
    """Whether a text is a Python literal. Alyx evaluates text in brackets as a literal."""
    try:
        ast.literal_eval(text)
    except (ValueError, SyntaxError, MemoryError, RecursionError):
        return False
    return True


def _quoted(value: object) -> str:
    try:
        text = ascii(value)
    except Exception:  # a failing __repr__ must not replace the error message
        text = f"a {type(value).__name__}"
    return text if len(text) <= 80 else text[:77] + "..."


def _percent_encoded(name: str, value: str) -> str:
    return quote(value, safe=" ,[]'()~:@$!*;" if name == "django" else " ~:@$!*;()'[]")


def _percent_decoded(name: str, text: str) -> str:
    try:
        return unquote_to_bytes(text).decode()
    except UnicodeError:
        raise UsageError(f"{name}: {_quoted(text)} is not percent-encoded UTF-8") from None


#: all terms; the first ten terms are the terms of the tutorial, in the order of the tutorial
_TERMS = (
    Term("dataset_types", MultipleValues.ALL, _read_name, needs_join=True),
    Term("date_range", MultipleValues.RANGE, _read_day),
    Term("lab", MultipleValues.ANY, _read_text),
    Term("location", MultipleValues.ANY, _read_text),
    Term("number", MultipleValues.ANY, _integer_reader(2**31 - 1)),
    Term("performance_gte", MultipleValues.NONE, _read_percent),
    Term("performance_lte", MultipleValues.NONE, _read_percent),
    Term("subject", MultipleValues.ANY, _read_text),
    Term("task_protocol", MultipleValues.ANY, _read_text),
    Term("users", MultipleValues.ALL, _read_name),
    Term("project", MultipleValues.ANY, _read_text, needs_join=True),
    Term("tag", MultipleValues.ANY, _read_text, needs_join=True),
    Term("qc", MultipleValues.ANY, _read_outcome),
    Term("dataset_names", MultipleValues.ALL, _read_name, needs_join=True),
    Term("dataset_qc_lte", MultipleValues.NONE, _read_outcome, needs_join=True),
    Term("probe", MultipleValues.NONE, _read_name, needs_join=True),
    Term("atlas_acronym", MultipleValues.NONE, _read_text, needs_join=True),
    Term("atlas_name", MultipleValues.NONE, _read_text, needs_join=True),
    Term("atlas_id", MultipleValues.NONE, _integer_reader(2**31 - 1), needs_join=True),
    Term("django", MultipleValues.NONE, _read_lookups, needs_join=True),
)
VOCABULARY: Mapping[str, Term] = {term.name: term for term in _TERMS}
#: the terms of the tutorial
TUTORIAL_TERMS = tuple(VOCABULARY)[:10]
#: the terms of ONE-api of which the first letters are enough
ONE_API_TERMS = (
    "datasets", "date_range", "laboratory", "number", "projects", "subject", "task_protocol",
    "dataset_qc_lte",
)  # fmt: skip
#: other names of terms: names in the old and the current ONE, and singular and plural forms
ALIASES: Mapping[str, str] = {
    **dict.fromkeys(("data", "dataset_type"), "dataset_types"),
    **dict.fromkeys(("date", "dates"), "date_range"),
    **dict.fromkeys(("labs", "laboratory"), "lab"),
    **dict.fromkeys(("lab_location", "locations"), "location"),
    "numbers": "number",
    **dict.fromkeys(("subjects", "nickname"), "subject"),
    **dict.fromkeys(("task", "tasks", "task_protocols"), "task_protocol"),
    "user": "users",
    "projects": "project",
    "tags": "tag",
    **dict.fromkeys(("dataset", "datasets", "dataset_name"), "dataset_names"),
    **dict.fromkeys(("probes", "probe_name"), "probe"),
}


def parse_limit(limit: object) -> int | None:
    """Return ``limit``, the largest number of sessions to find, as an integer. None means all.

    Raises UsageError if ``limit`` is invalid.
    """
    if limit is None:
        return None
    number = int(_integer_reader(2**31 - 1)("limit", limit))
    if number == 0:
        raise UsageError("the limit is 0: give 1 or more, or leave the limit out")
    return number
