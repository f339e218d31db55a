"""The errors of ONE-api's verbs for objects and datasets that are missing or not unique."""

from __future__ import annotations

from onefs.errors import Ambiguous, NotFound, OnefsError, SeveralDatasets

#: the class of error for each kind of failure
_ERROR_OF_KIND: dict[str, type[OnefsError]] = {
    "object_not_found": NotFound,
    "multiple_objects": SeveralDatasets,
    "multiple_collections": Ambiguous,
    "multiple_revisions": Ambiguous,
}


def alf_error(kind: str, message: str) -> OnefsError:
    """Return the error for a failure of one of ONE-api's verbs.

    ``kind`` is ``object_not_found``, ``multiple_objects``, ``multiple_collections`` or
    ``multiple_revisions``.
    """
    return _ERROR_OF_KIND[kind](message)
