"""Regular expressions for the parts of ALF paths, which are those of ONE-api (``one.alf.spec``)."""

from __future__ import annotations

import datetime
import re
from collections import OrderedDict
from collections.abc import Mapping
from functools import lru_cache
from uuid import UUID

from onefs import alf

SESSION = "({lab}/Subjects/)?{subject}/{date}/{number}"
COLLECTION = "({collection}/)?(#{revision}#/)?"
FILE = r"_?{namespace}?_?{object}\.{attribute}(?:_{timescale})?(?:\.{extra})*\.{extension}$"

#: the name of each part, with the pattern of its text
PARTS: Mapping[str, str] = {
    "lab": r"\w+",
    "subject": r"[\w.-]+",
    "date": r"\d{4}-\d{2}-\d{2}",
    "number": r"\d{1,3}",
    "collection": r"[\w./-]+",
    "revision": r"[\w.-]+",
    "namespace": r"(?<=_)[a-zA-Z0-9]+",
    "object": r"\w+",
    "attribute": r"(?:_[a-z]+_)?[a-zA-Z0-9]+(?:_times(?=[_.])|_intervals(?=[_.]))?",
    "timescale": r"\w+",
    "extra": r"[.\w-]+",
    "extension": r"\w+",
}
#: the versions of UUIDs that ONE-api knows
_UUID_VERSIONS = (3, 4, 5)
_FIELD = re.compile(r"\{([a-z]+)\}")


@lru_cache(maxsize=64)
def pattern(text: str) -> re.Pattern[str]:
    """Return the compiled pattern in which ``{part}`` stands for a named group."""
    return re.compile(_FIELD.sub(lambda match: f"(?P<{match[1]}>{PARTS[match[1]]})", text))


def is_dataset_name(name: str) -> bool:
    """Whether a file name has the form of a dataset's, such as ``spikes.times.npy``."""
    return pattern(FILE).match(name) is not None


def is_session_path(text: str) -> bool:
    """Whether a path with ``/`` ends with subject, date and number."""
    return pattern(f"{SESSION}$").search(text.strip("/")) is not None


def optional_parts(text: str, path: str, whole: bool = True) -> OrderedDict[str, str | None]:
    """Return the groups of a pattern in a path, by name. All are None if the path has no match.

    With ``whole``, the match must be at the beginning of the path.
    """
    compiled = pattern(text)
    match = compiled.match(path) if whole else compiled.search(path)
    if match is None:
        return OrderedDict.fromkeys(compiled.groupindex)
    return OrderedDict(match.groupdict())


def parts_of(text: str, path: str, whole: bool = True) -> tuple[str, ...]:
    """Return the groups of a pattern in a path, in their order. An absent group is ''."""
    return tuple(part or "" for part in optional_parts(text, path, whole).values())


def with_slash(text: str) -> str:
    """Return a path with a slash at its end. An empty path stays empty."""
    return text if not text or text.endswith("/") else f"{text}/"


def is_uuid(text: str) -> bool:
    """Whether a part of a name is a UUID, in any form that Python reads."""
    try:
        return UUID(text).version in _UUID_VERSIONS[:2]
    except ValueError:
        return False


def is_uuid_text(text: str) -> bool:
    """Whether a part of a name is a UUID in lower case, with dashes."""
    return alf.is_uuid(text) and UUID(text).version in _UUID_VERSIONS


def is_day(text: str) -> bool:
    """Whether a folder's name is a date. As in ONE-api, zeros may be left out."""
    try:
        datetime.datetime.strptime(text, "%Y-%m-%d")
    except ValueError:
        return False
    return True
