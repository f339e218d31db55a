"""Regular expressions for the parts of ALF paths, which are those of ONE-api (``one.alf.spec``)."""

from __future__ import annotations

import re
from functools import lru_cache

SESSION = "({lab}/Subjects/)?{subject}/{date}/{number}"
COLLECTION = "({collection}/)?(#{revision}#/)?"
FILE = r"_?{namespace}?_?{object}\.{attribute}(?:_{timescale})?(?:\.{extra})*\.{extension}$"

#: the name of each part, with the characters that it may have
_PARTS = {
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
_FIELD = re.compile(r"\{([a-z]+)\}")


@lru_cache(maxsize=64)
def pattern(text: str) -> re.Pattern[str]:
    """Return the compiled pattern in which ``{part}`` stands for a named group."""
    return re.compile(_FIELD.sub(lambda match: f"(?P<{match[1]}>{_PARTS[match[1]]})", text))


def is_dataset_name(name: str) -> bool:
    """Whether a file name has the form of a dataset's, such as ``spikes.times.npy``."""
    return pattern(FILE).match(name) is not None


def is_session_path(text: str) -> bool:
    """Whether a path with ``/`` ends with subject, date and number."""
    return pattern(f"{SESSION}$").search(text.strip("/")) is not None
