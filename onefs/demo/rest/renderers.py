"""Responses like those of Django REST framework: media types, JSON, and pages for browsers."""

from __future__ import annotations

import html
import json
from collections.abc import Sequence
from typing import Any

from flask import Response

from onefs.demo.rest.errors import ApiError

JSON = "application/json"
HTML = "text/html; charset=utf-8"
#: (format name, media type) of each format of all views except the schema, the preferred first
RENDERERS = (("json", JSON), ("api", "text/html"))

_PAGE = """<!DOCTYPE html>
<html>
  <head><title>{title} – Django REST framework</title></head>
  <body><h1>{title}</h1><pre>{text}</pre></body>
</html>
"""
_ERROR_PAGE = """
<!doctype html>
<html lang="en">
<head>
  <title>{title}</title>
</head>
<body>
  <h1>{title}</h1><p>{text}</p>
</body>
</html>
"""


def negotiate(accept: str | None, wanted: str | None, renderers: Sequence[tuple[str, str]]) -> str:
    """Return the media type of the response.

    - ``accept``: the header ``Accept``
    - ``wanted``: the value of ``?format=``
    - ``renderers``: pairs of a format and its media type

    Raises ApiError 406 if ``accept`` includes no media type, and 404 for an unknown format.
    """
    if wanted:
        renderers = [offered for offered in renderers if offered[0] == wanted]
        if not renderers:
            raise ApiError(404, {"detail": "Not found."}, {"Vary": "Accept"})
    accepted = "*/*" if accept is None else accept
    ranges = [part.split(";")[0].strip() for part in accepted.split(",")]
    # the more specific media range first, as in RFC 9110. Weights (``q=``) are ignored
    for media_range in sorted(ranges, key=lambda text: text.count("*")):
        for _, media_type in renderers:
            if _matches(media_type, media_range):
                return media_type
    detail = "Could not satisfy the request Accept header."
    raise ApiError(406, {"detail": detail}, {"Vary": "Accept"})


def _matches(media_type: str, media_range: str) -> bool:
    if media_range in ("*/*", media_type):
        return True
    kind, _, subtype = media_range.partition("/")
    return subtype == "*" and media_type.startswith(f"{kind}/")


def dumps(body: Any) -> str:
    """Return ``body`` as JSON without blanks. The text can always be encoded as UTF-8."""
    # characters that are not ASCII are escaped only if a file name is not UTF-8
    text = json.dumps(body, ensure_ascii=False, separators=(",", ":"))
    try:
        text.encode()
    except UnicodeEncodeError:
        return json.dumps(body, separators=(",", ":"))
    return text


def rendered(body: Any, media_type: str, title: str, status: int = 200) -> Response:
    """Return a response with ``body`` as JSON, or with an HTML page that shows the JSON."""
    if media_type != "text/html":
        return Response(dumps(body), status, content_type=media_type)
    text = html.escape(json.dumps(body, indent=4))
    return Response(_PAGE.format(title=title, text=text), status, content_type=HTML)


def error_page(status: int, title: str, text: str = "") -> Response:
    """Return an error page like Django's, for an error outside the REST views."""
    return Response(_ERROR_PAGE.format(title=title, text=text), status, content_type=HTML)
