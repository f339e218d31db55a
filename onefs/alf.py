"""The ALF/ONE grammar: how sessions and datasets become paths, and back.

The layout is ONE's (``one.alf.spec``)::

    <lab>/[Subjects/]<subject>/<yyyy-mm-dd>/<nnn>/[<collection>/][#<revision>#/]<name>

Names come from a server and are data. What a file system cannot hold is written otherwise, by
rule, in :func:`path_component`; what would stand twice in one folder is told apart in
:func:`distinct`:

=============================  =====================================================
name                           becomes
=============================  =====================================================
``/``, NUL, control characters ``%2F``, ``%00``, ``%0A`` ... (percent and two hex digits)
``.`` and ``..``               ``%2E`` and ``%2E%2E``
a lone surrogate (no UTF-8)    its byte percent-encoded (``os.fsdecode``'s U+DCFF is ``%FF``)
more than 255 bytes            shortened, ``~`` and 8 hex digits of its hash before the extension
a name of ours                 its first character percent-encoded: a lab ``.x``, a subject
                               ``Subjects``, a file ``.session.json`` in a session's own folder
the second of two              ``~`` and 8 hex digits of its UUID before the extension
=============================  =====================================================

A session without number has no place in the layout (ONE's cache tables leave it out too).
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Iterator
from datetime import date
from functools import lru_cache
from string import ascii_lowercase
from typing import NamedTuple, TypeVar

from onefs.integers import parse_whole_number
from onefs.model import Dataset, Session

#: longest name that Linux file systems take, in bytes
NAME_MAX = 255
#: the unlisted alias of a lab's own folder, which ONE's paths contain
SUBJECTS = "Subjects"
#: files of ours in the root: ONE's tables
ROOT_FILES = frozenset({"sessions.pqt", "datasets.pqt"})
#: files of ours in a session's folder
SESSION_FILES = frozenset({".session.json", ".datasets.tsv"})

_UUID = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}")
_UUID_PART = re.compile(rf"\.({_UUID.pattern})(?=\.|\Z)", re.IGNORECASE)
_DATE = re.compile(r"\d{4}-\d{2}-\d{2}", re.ASCII)
#: digits of the longest session number that a path or a ref may have; Alyx keeps 32 bits
_NUMBER_DIGITS = 9
_REF = re.compile(r"(\d{4}-\d{2}-\d{2})_(\d{1,9})_(.+)", re.DOTALL | re.ASCII)
_UNSAFE_CHARACTERS = re.compile("[/\x00-\x1f\x7f]")
_SURROGATE = re.compile("[\ud800-\udfff]")
_ESCAPED_BYTE = re.compile("%([89A-F][0-9A-F])")
_DATASET_TYPE = re.compile(r"(?:_[a-zA-Z0-9]+_)?\w+\.[a-zA-Z0-9_]+")

#: labs and subjects whose folders are kept in mind
_NAME_CACHE_SIZE = 4096

T = TypeVar("T")


class Ref(NamedTuple):
    """ONE's short name of a session, taken apart. It names no lab, so two labs may share one."""

    date: str
    number: int
    subject: str


def is_uuid(text: str) -> bool:
    """Whether ``text`` is a UUID as Alyx writes it: lower-case, with dashes."""
    return _UUID.fullmatch(text) is not None


def names_with_uuid(name: str) -> list[tuple[str, str]]:
    """``(uuid, name without it)`` for each UUID that is a part of a file name; often none.

    FlatIron's names carry the dataset's UUID before the extension. It may be in upper case.
    """
    return [
        (match[1].lower(), name[: match.start()] + name[match.end() :])
        for match in _UUID_PART.finditer(name)
    ]


def is_date(text: str) -> bool:
    """Whether ``text`` has the form of a session's date folder, ``yyyy-mm-dd``."""
    return _DATE.fullmatch(text) is not None


def is_calendar_day(text: str) -> bool:
    """Whether ``text`` is a day of the calendar, written ``yyyy-mm-dd``."""
    try:
        return is_date(text) and bool(date.fromisoformat(text))
    except ValueError:
        return False


def is_revision_day(text: str) -> bool:
    """Whether a revision's name is a day, ``2021-07-05``, or a later one of it, ``2021-07-05a``."""
    letter = text[10:]
    return is_calendar_day(text[:10]) and (not letter or letter in tuple(ascii_lowercase))


def parse_ref(text: str) -> Ref | None:
    """``2019-12-10_1_KS023`` taken apart (``001`` is taken for ``1``), or None."""
    match = _REF.fullmatch(text)
    if match is None:
        return None
    return Ref(match.group(1), int(match.group(2)), match.group(3))


def parse_number_folder(name: str) -> int | None:
    """The number of a session's folder, which may have a mark (``001~0123abcd``); or None."""
    digits = name.partition("~")[0]
    return parse_whole_number(digits) if len(digits) <= _NUMBER_DIGITS else None


def number_folder(number: int) -> str:
    """A session number as its folder: three digits or more (ONE: ``%03d``)."""
    return f"{number:03d}"


def padded_number_folder(name: str) -> str | None:
    """The folder that ``1`` or ``01`` stands for (``001``); None when ``name`` is no alias."""
    number = parse_whole_number(name) if len(name) <= _NUMBER_DIGITS else None
    if number is None:
        return None
    folder = number_folder(number)
    return folder if folder != name else None


def dataset_type(name: str) -> str:
    """The type a file name implies: ``[_namespace_]object.attribute``, else ``unknown``.

    The attribute ends at the next dot: ``spikes.times.npy`` is ``spikes.times``. A name of two
    parts only (``notes.md``) has no attribute.
    """
    parts = name.split(".")
    candidate = ".".join(parts[:2])
    if len(parts) < 3 or not _DATASET_TYPE.fullmatch(candidate):
        return "unknown"
    return candidate


def valid_text(text: str) -> str:
    """``text`` without lone surrogates: what UTF-8 cannot say is percent-encoded."""
    return _SURROGATE.sub(_percent_encode, text)


def undo_valid_text(text: str) -> str:
    """What :func:`valid_text` may have been given: bytes that are no UTF-8 as ``os.fsdecode``'s."""
    return _ESCAPED_BYTE.sub(lambda match: chr(0xDC00 + int(match.group(1), 16)), text)


def path_component(text: str) -> str:
    """One path component that a file system holds, for a name that a server gave.

    ``text`` may be anything but the empty string. The result is never ``.``, ``..`` or longer
    than 255 bytes, and holds no ``/``, no NUL and no control character.
    """
    if text in (".", ".."):
        return "%2E" * len(text)
    safe = _UNSAFE_CHARACTERS.sub(_percent_encode, valid_text(text))
    if len(safe.encode()) > NAME_MAX:
        return with_mark(safe, name_digest(safe)[:8])
    return safe


def name_digest(name: str) -> str:
    """Hex digits that stand for a name, where there is no UUID to tell it from another."""
    return hashlib.sha1(name.encode("utf-8", "surrogatepass")).hexdigest()


def with_mark(name: str, mark: str) -> str:
    """``name`` with ``~mark`` before its extension, shortened where it would grow too long."""
    stem, dot, extension = name.rpartition(".")
    if not stem or len(extension.encode()) > 32:
        stem, dot, extension = name, "", ""
    tail = f"~{mark}{dot}{extension}"
    return _shorten(stem, NAME_MAX - len(tail.encode())) + tail


def escape_reserved(name: str) -> str:
    """A server's name that is one of ours, written so that it is not."""
    return f"%{ord(name[0]):02X}{name[1:]}"


@lru_cache(maxsize=_NAME_CACHE_SIZE)
def lab_folder(lab: str) -> str:
    """A lab's folder in the root, where every name that starts with a dot is ours, and two more."""
    name = path_component(lab)
    return escape_reserved(name) if name.startswith(".") or name in ROOT_FILES else name


@lru_cache(maxsize=_NAME_CACHE_SIZE)
def subject_folder(subject: str) -> str:
    """A subject's folder in its lab, where ``Subjects`` is ours."""
    name = path_component(subject)
    return escape_reserved(name) if name == SUBJECTS else name


def session_folder(session: Session) -> tuple[str, str, str, str]:
    """``(lab, subject, date, number)`` folders of a session."""
    return (
        lab_folder(session.lab),
        subject_folder(session.subject),
        session.date,
        number_folder(session.number),
    )


def collection_folder(dataset: Dataset) -> tuple[str, ...]:
    """The folders of a dataset's collection inside its session."""
    folders = [path_component(part) for part in dataset.collection.split("/") if part]
    if folders and folders[0] in SESSION_FILES:
        folders[0] = escape_reserved(folders[0])
    return tuple(folders)


def dataset_folder(dataset: Dataset) -> tuple[str, ...]:
    """The folders of a dataset inside its session: its collection's, then its revision's."""
    folders = collection_folder(dataset)
    if dataset.revision:
        return (*folders, path_component(f"#{dataset.revision}#"))
    return folders


def dataset_file(dataset: Dataset, folder: tuple[str, ...] | None = None) -> str:
    """The file name of a dataset in a folder inside its session, its own unless one is given."""
    name = path_component(dataset.name) if dataset.name else "%"
    if name in SESSION_FILES and not (dataset_folder(dataset) if folder is None else folder):
        return escape_reserved(name)
    return name


def unique_names(
    named: Iterable[tuple[str, str, T]], taken: Iterable[str] = ()
) -> Iterator[tuple[str, T]]:
    """Names for things that share a folder, each name once.

    ``named`` holds ``(name, uuid, thing)``, those with the better claim first; ``taken`` are
    names that stand already (folders go before files). Who comes second is marked with the
    first 8 digits of its UUID, and with all of them should even that stand already.
    """
    used = set(taken)
    for name, uuid, thing in named:
        choice = name
        if choice in used:
            choice = with_mark(name, uuid[:8])
        if choice in used:
            choice = with_mark(name, uuid)
        used.add(choice)
        yield choice, thing


def _percent_encode(match: re.Match[str]) -> str:
    errors = "surrogateescape" if "\udc80" <= match.group() <= "\udcff" else "surrogatepass"
    raw = match.group().encode("utf-8", errors)
    return "".join(f"%{byte:02X}" for byte in raw)


def _shorten(text: str, limit: int) -> str:
    """``text`` cut to at most ``limit`` bytes, never inside a character."""
    raw = text.encode()
    while len(raw) > limit:
        text = text[: max(1, len(text) - max(1, (len(raw) - limit) // 4))]
        raw = text.encode()
    return text
