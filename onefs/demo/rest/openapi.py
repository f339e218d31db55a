"""The OpenAPI document of the server's routes. ONE-api reads it before all other requests."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any

from onefs.demo.rest.endpoints import View

#: (format name, media type) of each format of ``/api/schema``, the preferred format first
RENDERERS = (
    ("openapi", "application/vnd.oai.openapi"),
    ("yaml", "application/yaml"),
    ("openapi-json", "application/vnd.oai.openapi+json"),
    ("json", "application/json"),
)

_PARAMETER = re.compile(r"<(?:\w+:)?(\w+)>")
_WRITING = ("post", "put", "patch", "delete")
#: the name of the schema for a row that a client sends. It does not describe the row's fields
_ANY_ROW = "Row"
_PAGING = ("limit", "offset")


def openapi(views: Iterable[View]) -> dict[str, Any]:
    """Return an OpenAPI 3.0.3 document with the methods, parameters and filters of each view.

    The document includes methods that write, which the server refuses.
    """
    # ONE-api makes its requests as the document says. Every JSON text is also valid YAML.
    return {
        "openapi": "3.0.3",
        "info": {"title": "Alyx", "version": "3.6.1", "description": "Embedded laboratory"},
        "paths": {path_of(view): _operations(view) for view in views},
        "components": {
            "schemas": {_ANY_ROW: {"type": "object", "properties": {}}},
            "securitySchemes": {
                "tokenAuth": {"type": "apiKey", "in": "header", "name": "Authorization"}
            },
        },
    }


def path_of(view: View) -> str:
    """Return the path of a view as OpenAPI writes it, such as ``/sessions/{eid}``."""
    return _PARAMETER.sub(r"{\1}", view.rule)


def _operations(view: View) -> dict[str, Any]:
    """Return OpenAPI's description of each HTTP method of a view, by method.

    POST, PUT and PATCH have a body in which any field is allowed.
    """
    read = _operation(view)
    reference = {"$ref": f"#/components/schemas/{_ANY_ROW}"}
    body = {"requestBody": {"content": {"application/json": {"schema": reference}}}}
    in_path = [each for each in read["parameters"] if each["in"] == "path"]
    operations = {"get": read}
    for method in _WRITING:
        if method.upper() in view.allow:
            named = {**read, "operationId": f"{read['operationId']}_{method}"}
            sent = body if method != "delete" else {}
            operations[method] = {**named, "parameters": in_path, **sent}
    return operations


def _operation(view: View) -> dict[str, Any]:
    in_path = [_parameter(name, "path") for name in _PARAMETER.findall(view.rule)]
    names = () if in_path else (*view.filters, *_PAGING)
    return {
        "operationId": view.title.lower().replace(" ", "_"),
        "parameters": in_path + [_parameter(name, "query") for name in names],
        "security": [{"tokenAuth": []}],
        "responses": {"200": {"description": "", "content": {"application/json": {"schema": {}}}}},
    }


def _parameter(name: str, place: str) -> dict[str, Any]:
    kind = "integer" if name in _PAGING else "string"
    parameter: dict[str, Any] = {"in": place, "name": name, "schema": {"type": kind}}
    return {**parameter, "required": True} if place == "path" else parameter
