"""``POST /auth-token``, which returns a token for a user's name and password."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from flask import Request

from onefs.demo.rest.accounts import Accounts
from onefs.demo.rest.errors import ApiError, method_not_allowed

_FIELDS = ("username", "password")


def log_in(request: Request, accounts: Accounts) -> dict[str, str]:
    """Return ``{"token": ...}`` for the name and password in a request.

    Raises ApiError with one of these codes:

    - 400: the name or password is wrong; the text is Alyx's
    - 405: the method is not POST
    - 415: the body is neither a form nor JSON
    """
    if request.method != "POST":
        raise method_not_allowed(request.method)
    fields = _body(request)
    errors = {name: [text] for name in _FIELDS if (text := _complaint(fields, name)) is not None}
    if errors:
        raise ApiError(400, errors)
    token = accounts.token(str(fields["username"]).strip(), str(fields["password"]))
    if token is None:
        raise ApiError(400, {"non_field_errors": ["Unable to log in with provided credentials."]})
    return {"token": token}


def _body(request: Request) -> Mapping[str, Any]:
    kind = request.mimetype
    if kind in ("application/x-www-form-urlencoded", "multipart/form-data"):
        return request.form.to_dict()
    if kind == "application/json":
        return _json_object(request.get_data(as_text=True))
    if not kind and not request.get_data():
        return {}
    detail = f'Unsupported media type "{request.content_type or ""}" in request.'
    raise ApiError(415, {"detail": detail})


def _json_object(text: str) -> Mapping[str, Any]:
    try:
        body = json.loads(text)
    except ValueError as error:
        raise ApiError(400, {"detail": f"JSON parse error - {error}"}) from None
    if not isinstance(body, dict):
        kind = type(body).__name__
        message = f"Invalid data. Expected a dictionary, but got {kind}."
        raise ApiError(400, {"non_field_errors": [message]})
    return body


def _complaint(fields: Mapping[str, Any], name: str) -> str | None:
    if name not in fields:
        return "This field is required."
    value = fields[name]
    if value is None:
        return "This field may not be null."
    if isinstance(value, (bool, dict, list)):
        return "Not a valid string."
    if not str(value).strip():
        return "This field may not be blank."
    return None
