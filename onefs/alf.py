"""The ALF/ONE grammar: paths of sessions and datasets, and parsing of names.

The layout is ONE's (``one.alf.spec``)::

    <lab>/[Subjects/]<subject>/<yyyy-mm-dd>/<nnn>/[<collection>/][#<revision>#/]<name>

Names come from a server and may hold any text. :func:`path_component` rewrites names that a file
system cannot store, and :func:`unique_names` rewrites names that occur twice in one folder:

=============================  =====================================================
name                           becomes
=============================  =====================================================
``/``, NUL, control characters ``%2F``, ``%00``, ``%0A`` ... (percent and two hex digits)
``.`` and ``..``               ``%2E`` and ``%2E%2E``
a lone surrogate (no UTF-8)    its byte percent-encoded (``os.fsdecode``'s U+DCFF is ``%FF``)
more than 255 bytes            shortened, ``~`` and 8 hex digits of its hash before the extension
a name that onefs uses itself  its first character percent-encoded: a lab ``.x``, a subject
                               ``Subjects``, a file ``.session.json`` in a session's own folder
the second of two equal names  ``~`` and 8 hex digits of its UUID before the extension
=============================  =====================================================

A session without a number has no path (ONE's cache tables leave out such sessions, too).
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Iterator, Sequence
from datetime import date
from functools import lru_cache
from itertools import count
from string import ascii_lowercase
from typing import NamedTuple, TypeVar

from onefs.integers import parse_whole_number
from onefs.model import Dataset, Session

#: bytes of the longest file name on Linux
NAME_MAX = 255
#: the folder in each lab that leads to the lab itself, as in ONE's paths; the lab's listing does
#: not show this folder
SUBJECTS = "Subjects"
#: the folder of datasets that belong to no session
AGGREGATES = "aggregates"
#: files that onefs adds to the root: ONE's tables
ROOT_FILES = frozenset({"sessions.pqt", "datasets.pqt"})
#: files that onefs adds to a session's folder
SESSION_FILES = frozenset({".session.json", ".datasets.tsv"})

_UUID = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}")
_UUID_PART = re.compile(rf"\.({_UUID.pattern})(?=\.|\Z)", re.IGNORECASE)
_DATE = re.compile(r"\d{4}-\d{2}-\d{2}", re.ASCII)
#: most digits of a session number in a path or a ref; Alyx stores the number in 32 bits
_NUMBER_DIGITS = 9
_REF = re.compile(r"(\d{4}-\d{2}-\d{2})_(\d{1,9})_(.+)", re.DOTALL | re.ASCII)
_UNSAFE_CHARACTERS = re.compile("[/\x00-\x1f\x7f]")
_SURROGATE = re.compile("[\ud800-\udfff]")
_ESCAPED_BYTE = re.compile("%([89A-F][0-9A-F])")
_DATASET_TYPE = re.compile(r"(?:_[a-zA-Z0-9]+_)?\w+\.[a-zA-Z0-9_]+")

#: number of labs, and of subjects, whose folder names are cached
_NAME_CACHE_SIZE = 4096

T = TypeVar("T")


class Ref(NamedTuple):
    """The date, number and subject in ONE's short name for a session, like ``2019-12-10_1_KS023``.

    Sessions of two labs may have the same short name.
    """

    date: str
    number: int
    subject: str


def is_uuid(text: str) -> bool:
    """Whether ``text`` is a UUID as Alyx writes it: lower-case, with dashes."""
    return _UUID.fullmatch(text) is not None


def parts_in_tree(parts: Sequence[str]) -> tuple[str, ...]:
    """Return the names in the tree's path for those in a path in the cache folder.

    The cache folder has ``Subjects`` below each lab. Below ``aggregates`` both paths are the same.
    """
    if tuple(parts[:1]) == (AGGREGATES,):
        return tuple(parts)
    return tuple(part for index, part in enumerate(parts) if (index, part) != (1, SUBJECTS))


def names_with_uuid(name: str) -> list[tuple[str, str]]:
    """Return ``(uuid, name without this UUID)`` for each UUID in a file name.

    FlatIron's names have the dataset's UUID before the extension. The UUID is returned in lower
    case.
    """
    return [
        (match[1].lower(), name[: match.start()] + name[match.end() :])
        for match in _UUID_PART.finditer(name)
    ]


def is_date(text: str) -> bool:
    """Whether ``text`` has the form of a session's date folder, ``yyyy-mm-dd``."""
    return _DATE.fullmatch(text) is not None


def is_calendar_day(text: str) -> bool:
    """Whether ``text`` is a valid date, written ``yyyy-mm-dd``."""
    try:
        return is_date(text) and bool(date.fromisoformat(text))
    except ValueError:
        return False


def is_revision_day(text: str) -> bool:
    """Whether a revision's name is a date like ``2021-07-05``, or a date with a letter at the end.

    The letter must be lower-case, as in ``2021-07-05a``.
    """
    letter = text[10:]
    return is_calendar_day(text[:10]) and (not letter or letter in tuple(ascii_lowercase))


def parse_ref(text: str) -> Ref | None:
    """Return the parts of a ref like ``2019-12-10_1_KS023`` or ``2019-12-10_001_KS023``.

    Returns None if ``text`` has another form.
    """
    match = _REF.fullmatch(text)
    if match is None:
        return None
    return Ref(match.group(1), int(match.group(2)), match.group(3))


def parse_number_folder(name: str) -> int | None:
    """Return the session number in the name of a session's folder. Return None for other names.

    The text that :func:`unique_names` adds to a number is allowed, as in ``001~0123abcd``.
    """
    digits = name.partition("~")[0]
    return parse_whole_number(digits) if len(digits) <= _NUMBER_DIGITS else None


def number_folder(number: int) -> str:
    """Return the folder name for a session number: at least three digits (ONE: ``%03d``)."""
    return f"{number:03d}"


def padded_number_folder(name: str) -> str | None:
    """Return the folder name ``001`` for a session number that is written ``1`` or ``01``.

    Return None if ``name`` is not a number, or already has the form of the folder name.
    """
    number = parse_whole_number(name) if len(name) <= _NUMBER_DIGITS else None
    if number is None:
        return None
    folder = number_folder(number)
    return folder if folder != name else None


def dataset_type(name: str) -> str:
    """Return the dataset type in a file name: ``spikes.times`` for ``spikes.times.npy``.

    Its form is ``[_namespace_]object.attribute``. The type of any other name is ``unknown``, also
    of names with only one dot (``notes.md``).
    """
    parts = name.split(".")
    candidate = ".".join(parts[:2])
    if len(parts) < 3 or not _DATASET_TYPE.fullmatch(candidate):
        return "unknown"
    return candidate


def valid_text(text: str) -> str:
    """Return ``text`` with percent-codes for lone surrogates, because UTF-8 cannot encode them."""
    return _SURROGATE.sub(_percent_encode, text)


def undo_valid_text(text: str) -> str:
    """Replace each percent-code of a byte above 127 by the character that os.fsdecode gives for it.

    This is the reverse of :func:`valid_text`.
    """
    return _ESCAPED_BYTE.sub(lambda match: chr(0xDC00 + int(match.group(1), 16)), text)


def path_component(text: str) -> str:
    """Return a valid file name for ``text``, a name from a server. ``text`` must not be ''.

    The file name is never ``.`` or ``..``, has at most 255 bytes, and has no ``/``, NUL or control
    character.
    """
    if text in (".", ".."):
        return "%2E" * len(text)
    safe = _UNSAFE_CHARACTERS.sub(_percent_encode, valid_text(text))
    if len(safe.encode()) > NAME_MAX:
        return with_mark(safe, name_digest(safe)[:8])
    return safe


def name_digest(name: str) -> str:
    """Return the sha1 of a name, as hex digits.

    The digits mark names without a UUID, such as names of labs (see :func:`with_mark`).
    """
    return hashlib.sha1(name.encode("utf-8", "surrogatepass")).hexdigest()


def with_mark(name: str, mark: str) -> str:
    """Return ``name`` with ``~mark`` before its extension, shortened to at most 255 bytes."""
    stem, dot, extension = name.rpartition(".")
    if not stem or len(extension.encode()) > 32:
        stem, dot, extension = name, "", ""
    tail = f"~{mark}{dot}{extension}"
    return _shorten(stem, NAME_MAX - len(tail.encode())) + tail


def escape_reserved(name: str) -> str:
    """Return ``name`` with its first character percent-encoded.

    Then a name from the database differs from each name that onefs itself uses in the tree.
    """
    return f"%{ord(name[0]):02X}{name[1:]}"


@lru_cache(maxsize=_NAME_CACHE_SIZE)
def lab_folder(lab: str) -> str:
    """Return the folder name of a lab.

    Names that onefs itself uses in the root folder are escaped: names in ROOT_FILES, and names that
    begin with a dot.
    """
    name = path_component(lab)
    return escape_reserved(name) if name.startswith(".") or name in ROOT_FILES else name


@lru_cache(maxsize=_NAME_CACHE_SIZE)
def subject_folder(subject: str) -> str:
    """Return the folder name of a subject.

    A subject named ``Subjects`` is escaped, because onefs adds a folder ``Subjects`` to each lab.
    """
    name = path_component(subject)
    return escape_reserved(name) if name == SUBJECTS else name


def session_folder(session: Session) -> tuple[str, str, str, str]:
    """Return the names of a session's folders: ``(lab, subject, date, number)``."""
    return (
        lab_folder(session.lab),
        subject_folder(session.subject),
        session.date,
        number_folder(session.number),
    )


def collection_folder(dataset: Dataset) -> tuple[str, ...]:
    """Return the names of the folders of a dataset's collection inside its session."""
    folders = [path_component(part) for part in dataset.collection.split("/") if part]
    if folders and folders[0] in SESSION_FILES:
        folders[0] = escape_reserved(folders[0])
    return tuple(folders)


def dataset_folder(dataset: Dataset) -> tuple[str, ...]:
    """Return the names of a dataset's folders inside its session.

    These are the folders of the collection, and the folder of the revision, if any.
    """
    folders = collection_folder(dataset)
    if dataset.revision:
        return (*folders, path_component(f"#{dataset.revision}#"))
    return folders


def dataset_file(dataset: Dataset, folder: tuple[str, ...] | None = None) -> str:
    """Return the file name of a dataset in ``folder``, a folder inside its session.

    If ``folder`` is None, the folder of :func:`dataset_folder` is used.
    """
    name = path_component(dataset.name) if dataset.name else "%"
    if name in SESSION_FILES and not (dataset_folder(dataset) if folder is None else folder):
        return escape_reserved(name)
    return name


def unique_names(
    entries: Iterable[tuple[str, str, T]], taken: Iterable[str] = ()
) -> Iterator[tuple[str, T]]:
    """Yield each entry of a folder with a name that no other entry has.

    ``entries`` are ``(name, uuid, entry)``. ``taken`` has names that are in use already. If a name
    is in use, the first 8 digits of the entry's UUID are added to the name. If this name is in use
    too, the whole UUID is added, and then the whole UUID with a number.
    """
    used = set(taken)
    for name, uuid, entry in entries:
        if name in used:
            name = next(other for other in _marked_names(name, uuid) if other not in used)
        used.add(name)
        yield name, entry


def _marked_names(name: str, uuid: str) -> Iterator[str]:
    yield with_mark(name, uuid[:8])
    yield with_mark(name, uuid)
    for number in count(2):
        yield with_mark(name, f"{uuid}-{number}")


def _percent_encode(match: re.Match[str]) -> str:
    errors = "surrogateescape" if "\udc80" <= match.group() <= "\udcff" else "surrogatepass"
    raw = match.group().encode("utf-8", errors)
    return "".join(f"%{byte:02X}" for byte in raw)


def _shorten(text: str, limit: int) -> str:
    """Return ``text`` cut to at most ``limit`` bytes, but not inside a character."""
    return text.encode()[:limit].decode(errors="ignore")
