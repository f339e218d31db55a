"""The endpoints of Alyx that can be read, and the names of their filters."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from onefs.errors import UsageError
from onefs.one.rest_query import ENDPOINTS, check_endpoint


class RestSchemes:
    """Describes Alyx's endpoints, as ONE-api's ``rest_schemes`` does. Alyx's schema is requested.

    Args:
        fetch_schema: Returns Alyx's description of its interface, in the format OpenAPI.
    """

    def __init__(self, fetch_schema: Callable[[], Any]) -> None:
        self._fetch_schema = fetch_schema

    @property
    def endpoints(self) -> list[str]:
        """The names of the endpoints that can be read."""
        return list(ENDPOINTS)

    def actions(self, endpoint: str) -> list[str]:
        """Return the actions of an endpoint that only read."""
        check_endpoint(endpoint)
        return ["list", "read"]

    def fields(self, endpoint: str, action: str = "list") -> list[dict[str, Any]]:
        """Return the descriptions of an endpoint's filters."""
        check_endpoint(endpoint)
        if action not in ("list", "read"):
            raise UsageError(f"{action!a} is not an action that onefs has: give 'list' or 'read'")
        schema = self._fetch_schema()
        paths = schema.get("paths", {}) if isinstance(schema, dict) else {}
        wanted = [
            path
            for path in paths
            if path.strip("/").split("/")[0] == endpoint and ("{" in path) == (action == "read")
        ]
        operation = paths[wanted[0]].get("get", {}) if wanted else {}
        return list(operation.get("parameters", []))

    def field_names(self, endpoint: str, action: str = "list") -> list[str]:
        """Return the names of an endpoint's filters."""
        return [str(field.get("name")) for field in self.fields(endpoint, action)]
