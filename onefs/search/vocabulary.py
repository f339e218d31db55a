"""The words of a search: which terms there are, and what their values may be. No I/O.

Alyx ignores a filter that it does not know, and one without a value, and answers with the whole
table; a value of the wrong form is often an error 500 (docs/ONE-SEMANTICS.md). So nothing is sent
that was not read here: an unknown term or a value that makes no sense is a UsageError which names
the term.
"""

from __future__ import annotations

import ast
import difflib
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import date
from enum import Enum
from itertools import islice
from operator import index
from typing import Any
from urllib.parse import quote, unquote_to_bytes

from onefs.errors import UsageError

#: values of one term
MAX_VALUES_PER_TERM = 100
#: characters of one value
MAX_VALUE_CHARACTERS = 500
#: what stands for an open end of ``date_range``: Alyx wants two dates, always
FIRST_DAY, LAST_DAY = "1900-01-01", "2999-12-31"
#: from best to worst
QC_OUTCOMES = ("NOT_SET", "PASS", "WARNING", "FAIL", "CRITICAL")

#: what stands for a number of sessions in a search that is written as a text
_LIMIT_TERM = "limit"
_DATE = re.compile(r"\d{4}-\d{2}-\d{2}", re.ASCII)
_CONTROL_CHARACTERS = re.compile("[\x00-\x1f\x7f\ud800-\udfff]")
_INTEGER = re.compile(r"\s*\d{1,10}\s*", re.ASCII)
_LOOKUP = re.compile(r"~?[a-zA-Z]\w*", re.ASCII)


class MultipleValues(Enum):
    """What several values of a term mean."""

    #: the session has all of them; Alyx takes them joined by commas
    ALL = "all"
    #: the session has one of them; Alyx takes one, so each is a query
    ANY = "any"
    #: two dates, the first and the last day
    RANGE = "range"
    #: a term takes one value
    NONE = "none"


@dataclass(frozen=True, slots=True)
class Term:
    """One term of a search."""

    name: str
    multiple_values: MultipleValues
    #: reads one value, or raises UsageError; the term's name is the first argument
    read: Callable[[str, object], str]
    #: Alyx reads it over a join, so that it may count and repeat sessions
    needs_join: bool = False


@dataclass(frozen=True, slots=True)
class Query:
    """A search as it was understood: terms by name, in the order of the vocabulary."""

    values: tuple[tuple[str, tuple[str, ...]], ...]
    #: how many sessions a search that is written as a text asks for; None for all
    limit: int | None = None

    def get(self, name: str) -> tuple[str, ...]:
        """The values of a term, () when it is not asked for."""
        return dict(self.values).get(name, ())

    def __contains__(self, name: str) -> bool:
        return any(name == known for known, _ in self.values)

    def __str__(self) -> str:
        """The query as the name of a folder in ``.search``; :func:`parse_text` reads it."""
        parts = [
            f"{name}={','.join(_percent_encoded(name, value) for value in values)}"
            for name, values in self.values
        ]
        return "&".join(parts if self.limit is None else [*parts, f"{_LIMIT_TERM}={self.limit}"])


def parse_terms(terms: Mapping[str, object]) -> Query:
    """The query for terms and their values, as Python gives them. Raises UsageError."""
    found: dict[str, tuple[str, ...]] = {}
    for given, value in terms.items():
        term = find_term(given)
        if term.name in found:
            raise UsageError(f"{given}: the term {term.name} is given twice")
        found[term.name] = _read_values(term, value)
    return Query(tuple((name, found[name]) for name in VOCABULARY if name in found))


def parse_text(text: str) -> Query:
    """The query that ``term=value,value&term=value`` stands for, percent-encoded.

    ``date_range=2018-08-24,`` has an open end; ``limit=3`` asks for the latest three. Raises
    UsageError.
    """
    terms: dict[str, object] = {}
    limits: list[str] = []
    for part in text.split("&"):
        name, equals, value = part.partition("=")
        if not equals or not name:
            raise UsageError(f"{part!r} is no term=value; several go with & between them")
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
    """The term of that name or alias. Raises UsageError with the nearest one."""
    name = given.replace("-", "_")
    term = VOCABULARY.get(ALIASES.get(name, name))
    if term is None:
        near = difflib.get_close_matches(name.casefold(), [*VOCABULARY, *ALIASES], 1)
        hint = f" (did you mean {ALIASES.get(near[0], near[0])!r}?)" if near else ""
        raise UsageError(
            f"there is no search term {_quoted(given)}{hint}; search_terms(all=True) lists them"
        )
    return term


def nearest_name_hint(given: str, known: Iterable[str]) -> str:
    """`` (did you mean 'x'?)``, or nothing when nothing is near."""
    by_folded = {name.casefold(): name for name in known}
    found = difflib.get_close_matches(given.casefold(), by_folded, 1)
    return f" (did you mean {by_folded[found[0]]!r}?)" if found else ""


def _read_values(term: Term, value: object) -> tuple[str, ...]:
    if term.multiple_values is MultipleValues.RANGE:
        return _read_date_range(term.name, value)
    if isinstance(value, str) and term.multiple_values is MultipleValues.ALL:
        value = value.split(",")  # as Alyx does: a comma cannot be a part of these names
    if isinstance(value, (str, bytes, Mapping)) or not isinstance(value, Iterable):
        value = [value]
    given = _take_items(term.name, value, MAX_VALUES_PER_TERM + 1)
    if not given:
        raise UsageError(f"{term.name} is an empty list, which would match every session")
    if len(given) > MAX_VALUES_PER_TERM:
        raise UsageError(f"{term.name} has more than {MAX_VALUES_PER_TERM} values")
    # doubled names find nothing where Alyx counts them
    read = tuple(dict.fromkeys(term.read(term.name, each) for each in given))
    if len(read) > 1 and term.multiple_values is MultipleValues.NONE:
        raise UsageError(f"{term.name} takes one value, not {len(read)}")
    return read


def _read_date_range(name: str, value: object) -> tuple[str, ...]:
    """The first and the last day; one date stands for that day."""
    if isinstance(value, str) and "," in value:
        value = [end.strip() or None for end in value.split(",")]
    ends = _take_items(name, value, 3) if _is_sequence(value) else [value]
    if _is_sequence(value) and len(ends) == 1 and ends[0] is not None:
        day = _read_day(name, ends[0])
        raise UsageError(
            f"{name} is a list of one date, which ONE reads as an open end: give {day!r} for that "
            f"day, or [{day!r}, None] for all from that day on"
        )
    if len(ends) == 1:
        ends = ends * 2
    if len(ends) != 2 or ends == [None, None]:
        raise UsageError(f"{name} is one date, or two of which one may be None")
    first = FIRST_DAY if ends[0] is None else _read_day(name, ends[0])
    last = LAST_DAY if ends[1] is None else _read_day(name, ends[1])
    if first > last:
        raise UsageError(f"{name} ends ({last}) before it begins ({first})")
    return first, last


def _take_items(name: str, value: Any, most: int) -> list[object]:
    try:
        return list(islice(value, most))
    except Exception as error:  # whatever the caller's object raises
        raise UsageError(f"{name}: {_quoted(value)} cannot be read as a list") from error


def _is_sequence(value: object) -> bool:
    scalar = isinstance(value, (str, bytes, Mapping)) or getattr(value, "shape", None) == ()
    return isinstance(value, Iterable) and not scalar


def _read_day(name: str, value: object) -> str:
    if isinstance(value, date):  # a datetime is one too
        try:
            return f"{value.year:04d}-{value.month:02d}-{value.day:02d}"
        except (TypeError, ValueError):  # not-a-time
            raise UsageError(f"{name}: {_quoted(value)} is no date") from None
    text = str(value) if isinstance(value, str) or type(value).__name__ == "datetime64" else ""
    if type(value).__name__ == "datetime64":
        text = text[:10]
    elif not isinstance(value, str):
        raise UsageError(f"{name}: {_quoted(value)} is no date: give text, a date or a datetime")
    text = text.strip()
    try:
        if _DATE.fullmatch(text):
            return date.fromisoformat(text).isoformat()
    except ValueError:
        pass
    raise UsageError(f"{name}: {_quoted(text)} is no date like 2018-08-24")


def _read_text(name: str, value: object) -> str:
    if not isinstance(value, str):
        raise UsageError(f"{name}: {_quoted(value)} is no text")
    text = str(value).strip()  # Alyx strips blanks, and an empty value filters nothing
    if not text.strip(" ,"):
        raise UsageError(f"{name} is empty, which would match every session")
    if _CONTROL_CHARACTERS.search(text):
        raise UsageError(f"{name}: {_quoted(text)} holds characters that no name has")
    if len(text) > MAX_VALUE_CHARACTERS:
        raise UsageError(f"{name} is longer than {MAX_VALUE_CHARACTERS} characters")
    return text


def _read_name(name: str, value: object) -> str:
    """A name that Alyx takes in a list with commas."""
    text = _read_text(name, value)
    if "," in text:
        raise UsageError(f"{name}: {_quoted(text)} holds a comma: give a list of names")
    return text


def _integer_reader(largest: int) -> Callable[[str, object], str]:
    def read(name: str, value: object) -> str:
        if isinstance(value, str) and _INTEGER.fullmatch(value):
            value = int(value)
        try:
            number = -1 if isinstance(value, bool) else index(value)  # type: ignore[arg-type]
        except Exception:  # whatever the caller's object raises
            number = -1
        if not 0 <= number <= largest:
            raise UsageError(f"{name}: {_quoted(value)} is no whole number from 0 to {largest}")
        return str(number)

    return read


def _read_percent(name: str, value: object) -> str:
    """Per cent, 0 to 100; 0.9 means 0.9 % to Alyx too."""
    try:
        if isinstance(value, bool):
            raise TypeError
        number = float(value)  # type: ignore[arg-type]
    except Exception:  # whatever the caller's object raises
        number = float("nan")
    if not 0 <= number <= 100:
        raise UsageError(f"{name}: {_quoted(value)} is no number of per cent from 0 to 100")
    return f"{number:.6f}".rstrip("0").rstrip(".")


def _read_outcome(name: str, value: object) -> str:
    text = _read_text(name, value).upper().replace(" ", "_")
    if text not in QC_OUTCOMES:
        raise UsageError(
            f"{name}: {_quoted(value)} is none of "
            f"{', '.join(QC_OUTCOMES)}{nearest_name_hint(text, QC_OUTCOMES)}"
        )
    return text


def _read_lookups(name: str, value: object) -> str:
    """Django look-ups as they go to Alyx: ``field__lookup,value``, and more of such pairs."""
    text = _read_text(name, value)
    parts = _split_outside_brackets(text)
    if len(parts) % 2:
        raise UsageError(f"{name}: {_quoted(text)} is not field,value[,field,value...]")
    for field, given in zip(parts[::2], parts[1::2], strict=True):
        if not _LOOKUP.fullmatch(field):
            raise UsageError(f"{name}: {_quoted(field)} is no field of Alyx")
        if given[:1] in ("[", "(") and not _is_literal(given):
            raise UsageError(f"{name}: {_quoted(given)} is no list of values")
    return text


def _split_outside_brackets(text: str) -> list[str]:
    """The parts between commas that are not in brackets."""
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
    """Whether a list can be sent: Alyx evaluates what stands in brackets."""
    try:
        ast.literal_eval(text)
    except (ValueError, SyntaxError, MemoryError, RecursionError):
        return False
    return True


def _quoted(value: object) -> str:
    try:
        text = ascii(value)
    except Exception:  # a hostile __repr__ must not hide our own message
        text = f"a {type(value).__name__}"
    return text if len(text) <= 80 else text[:77] + "..."


def _percent_encoded(name: str, value: str) -> str:
    return quote(value, safe=" ,[]'()~:@$!*;" if name == "django" else " ~:@$!*;()'[]")


def _percent_decoded(name: str, text: str) -> str:
    try:
        return unquote_to_bytes(text).decode()
    except UnicodeError:
        raise UsageError(f"{name}: {_quoted(text)} is no percent-encoded UTF-8") from None


def _terms_by_name(*terms: Term) -> Mapping[str, Term]:
    return {term.name: term for term in terms}


#: every term; the first ten are the tutorial's, in its order
VOCABULARY: Mapping[str, Term] = _terms_by_name(
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
#: the tutorial's own
TUTORIAL_TERMS = tuple(VOCABULARY)[:10]
#: other names of terms: those of the old ONE, singular and plural forms, today's ONE
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
    """A number of sessions, or None for all. Raises UsageError."""
    if limit is None:
        return None
    number = int(_integer_reader(2**31 - 1)("limit", limit))
    if number == 0:
        raise UsageError("limit is 0: give 1 or more, or leave it out")
    return number
