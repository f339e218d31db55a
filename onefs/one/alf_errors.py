"""Errors of ``ONE``'s methods that are also the errors of ONE-api, for code that catches those.

``except ALFObjectNotFound`` of a script must also catch the NotFound of onefs. So an error belongs
to a class that inherits from both, if the process has imported ONE-api's module of errors. That
module is looked up among the imported modules, and is never imported here: code that catches its
errors has imported it, and all other code needs no module of another package. An error that is
pickled is made again when it is loaded, so that it can be loaded without ONE-api.
"""

from __future__ import annotations

import sys
from typing import Any, NamedTuple

from onefs.errors import NotFound, OnefsError, SeveralDatasets, UsageError
from onefs.printable import printable

#: ONE-api's module with the classes of its errors
_MODULE = "one.alf.exceptions"
#: by kind of error, the class in onefs and the name of the class in ONE-api
_CLASSES: dict[str, tuple[type[OnefsError], str]] = {
    "object_not_found": (NotFound, "ALFObjectNotFound"),
    "multiple_objects": (SeveralDatasets, "ALFMultipleObjectsFound"),
    "multiple_collections": (SeveralDatasets, "ALFMultipleCollectionsFound"),
    "multiple_revisions": (SeveralDatasets, "ALFMultipleRevisionsFound"),
    "invalid": (UsageError, "ALFInvalid"),
    "alf": (UsageError, "ALFError"),
}
#: the kind of an error that is also one of the package requests
_HTTP = "http"
#: the classes that were made, by kind of error and class in ONE-api
_COMBINED: dict[tuple[str, type[Exception]], type[OnefsError]] = {}


def alf_error(kind: str, message: str) -> OnefsError:
    """Return the error of a kind, which the caller raises.

    =========================  ===================  =============================
    kind                       class in onefs       class in ONE-api
    =========================  ===================  =============================
    ``object_not_found``       NotFound             ALFObjectNotFound
    ``multiple_objects``       SeveralDatasets      ALFMultipleObjectsFound
    ``multiple_collections``   SeveralDatasets      ALFMultipleCollectionsFound
    ``multiple_revisions``     SeveralDatasets      ALFMultipleRevisionsFound
    ``invalid``                UsageError           ALFInvalid
    ``alf``                    UsageError           ALFError
    =========================  ===================  =============================
    """
    own, name = _CLASSES[kind]
    other = getattr(sys.modules.get(_MODULE), name, None)
    if not isinstance(other, type):
        return own(message)
    error = _combined_class(kind, own, other)(message)
    # attributes of ONE-api's errors
    error.__dict__.update(message=message, terse=True)
    return error


def http_error(error: NotFound, status: int) -> OnefsError:
    """Return an error that is also a ``requests.HTTPError``, as one of ONE-api's REST client.

    Its ``response`` has the HTTP status. Return the error itself if the process has not imported
    requests: code that catches its errors has done so.
    """
    other = getattr(sys.modules.get("requests.exceptions"), "HTTPError", None)
    if not isinstance(other, type):
        return error
    combined = _combined_class(_HTTP, NotFound, other)(*error.args)
    combined.__dict__.update(response=HttpResponse(status, str(error)), request=None)
    return combined


class HttpResponse(NamedTuple):
    """What code reads of the answer that an HTTPError has."""

    status_code: int
    text: str


def _made_again(kind: str, args: tuple[Any, ...]) -> OnefsError:
    message = str(args[0]) if args else ""
    return http_error(NotFound(message), 404) if kind == _HTTP else alf_error(kind, message)


def _combined_class(kind: str, own: type[OnefsError], other: type[Exception]) -> type[OnefsError]:
    """Return a class that inherits from an error of onefs and from one of another package."""
    if (combined := _COMBINED.get((kind, other))) is not None:
        return combined

    def __str__(self: OnefsError) -> str:
        # not ONE-api's text, which has its explanation of the kind of error after the message
        return printable(BaseException.__str__(self))

    def __reduce__(self: OnefsError) -> tuple[Any, ...]:
        return _made_again, (kind, self.args)

    namespace = {
        "__module__": __name__,
        "__doc__": own.__doc__,
        "__str__": __str__,
        "__reduce__": __reduce__,
    }
    # of two threads that make the class, one class is kept
    return _COMBINED.setdefault((kind, other), type(other.__name__, (own, other), namespace))
