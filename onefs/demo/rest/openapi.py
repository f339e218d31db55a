"""The OpenAPI document of the server's own routes, which ONE-api reads before anything else."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any

from onefs.demo.rest.endpoints import View

#: (format name, media type) that ``/api/schema`` offers, the preferred first
RENDERERS = (
    ("openapi", "application/vnd.oai.openapi"),
    ("yaml", "application/yaml"),
    ("openapi-json", "application/vnd.oai.openapi+json"),
    ("json", "application/json"),
)

_PARAMETER = re.compile(r"<(?:\w+:)?(\w+)>")
_WRITING = ("post", "put", "patch", "delete")
#: the schema of rows that are sent, without a description of their fields
_ANY_ROW = "Row"
_PAGING = ("limit", "offset")


def openapi(views: Iterable[View]) -> dict[str, Any]:
    """Return an OpenAPI 3.0.3 document with the methods of each view, its parameters and filters.

    ONE-api derives its requests from it. Methods that write are in it, though the server refuses
    them. The document is also the YAML form: every JSON text is YAML.
    """
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
    """A route as OpenAPI writes it: ``/sessions/{eid}``."""
    return _PARAMETER.sub(r"{\1}", view.rule)


def _operations(view: View) -> dict[str, Any]:
    """The operations of a path by method; those that write have a body of unspecified fields."""
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
