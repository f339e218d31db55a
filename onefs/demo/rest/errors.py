"""Alyx's error responses: JSON with a ``status_code`` in the body."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


class ApiError(Exception):
    """A response with an error status.

    ``body`` is the JSON body, to which ``status_code`` is added. ``headers`` are added to the
    response.
    """

    def __init__(
        self, status: int, body: Mapping[str, Any], headers: Mapping[str, str] | None = None
    ) -> None:
        super().__init__(status, body)
        self.status = status
        self.body: dict[str, Any] = {**body, "status_code": status}
        self.headers = dict(headers or {})


def failure(detail: str) -> ApiError:
    """Return ApiError 500 with the text of an exception, as Alyx does for most bad values."""
    return ApiError(500, {"detail": detail})


def invalid(field: str, message: str) -> ApiError:
    """Return ApiError 400 for a value that the filter ``field`` does not accept."""
    return ApiError(400, {field: [message]})


def forbidden(detail: str) -> ApiError:
    """Return ApiError 403. Alyx never returns 401."""
    return ApiError(403, {"detail": detail})


def not_found(model: str) -> ApiError:
    """Return ApiError 404 for an unknown key in a detail view."""
    return ApiError(404, {"detail": f"No {model} matches the given query."})


def method_not_allowed(method: str) -> ApiError:
    """Return ApiError 405 for a method that a view does not accept."""
    return ApiError(405, {"detail": f'Method "{method}" not allowed.'})
