"""Alyx's error responses: JSON with a ``status_code`` in the body."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


class ApiError(Exception):
    """A response that is not 200.

    ``body`` is the JSON body without its ``status_code``; ``headers`` are added to the response.
    """

    def __init__(
        self, status: int, body: Mapping[str, Any], headers: Mapping[str, str] | None = None
    ) -> None:
        super().__init__(status, body)
        self.status = status
        self.body: dict[str, Any] = {**body, "status_code": status}
        self.headers = dict(headers or {})


def failure(detail: str) -> ApiError:
    """500 with the text of an exception: Alyx's answer to most bad filter values."""
    return ApiError(500, {"detail": detail})


def invalid(field: str, message: str) -> ApiError:
    """400 for a value that a typed filter cannot take."""
    return ApiError(400, {field: [message]})


def forbidden(detail: str) -> ApiError:
    """403; Alyx never answers 401."""
    return ApiError(403, {"detail": detail})


def not_found(model: str) -> ApiError:
    """404 of a detail view."""
    return ApiError(404, {"detail": f"No {model} matches the given query."})


def method_not_allowed(method: str) -> ApiError:
    """405."""
    return ApiError(405, {"detail": f'Method "{method}" not allowed.'})
