"""Recognises answers that redirect a request, and returns their targets."""

from __future__ import annotations

from urllib.parse import urljoin, urlsplit

from onefs.config.secret import excerpt
from onefs.config.urls import MAX_URL_LENGTH, host_of, origin
from onefs.errors import ServerError

REDIRECT_STATUSES = frozenset({301, 302, 303, 307, 308})


def redirect_target(url: str, location: str, status: int) -> str:
    """Return the absolute URL of a redirect from ``url`` to ``location``.

    Raises ServerError, with this HTTP status, if ``location`` is invalid.
    """
    try:
        if len(location) > MAX_URL_LENGTH:
            raise ValueError
        target = urljoin(url, location)
        if "@" in urlsplit(target).netloc:
            raise ServerError(
                f"{host_of(url)} redirects to an address that contains a user name", status
            )
        origin(target)
    except ValueError:  # includes UsageError
        shown = excerpt(location)
        raise ServerError(
            f"{host_of(url)} redirects to {shown!r}, which is not an http:// or https:// address",
            status,
        ) from None
    return target
