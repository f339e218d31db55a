"""Queries of Alyx's REST interface: checked endpoints, and filters as text."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlencode

from onefs.errors import ReadOnly, UsageError
from onefs.integers import parse_whole_number
from onefs.search.vocabulary import nearest_name_hint

#: the endpoints of which a GET request changes nothing
ENDPOINTS = (
    "brain-regions", "cache", "channels", "chronic-insertions", "data-formats", "data-notices",
    "data-repository", "data-repository-type", "dataset-types", "datasets", "downloads",
    "fields-of-view", "files", "fov-location", "imaging-stack", "insertions", "labs", "locations",
    "me", "notes", "procedures", "projects", "revisions", "sessions", "subjects", "surgeries",
    "tags", "tasks", "trajectories", "users", "water-administrations", "water-requirement",
    "water-restricted-subjects", "water-restriction", "water-type", "weighings",
)  # fmt: skip
#: the endpoints that change Alyx, some also by a GET request
_WRITING_ENDPOINTS = frozenset(
    {"auth-token", "check-protected", "sync-file-status", "register-file", "new-download"}
)
_WRITING_ACTIONS = ("create", "update", "partial_update", "delete")
#: filters of all lists
_COMMON_FILTERS = frozenset({"limit", "offset", "django", "id"})
#: by endpoint, the filters that scripts use most; the names of all others are in Alyx's schema
_USUAL_FILTERS: Mapping[str, frozenset[str]] = {
    "sessions": frozenset(
        {"subject", "lab", "users", "date_range", "number", "task_protocol", "location", "project"}
        | {"projects", "type", "dataset_types", "datasets", "dataset_qc_lte", "qc", "tag", "json"}
        | {"extended_qc", "atlas_acronym", "atlas_name", "atlas_id", "histology", "procedures"}
        | {"performance_gte", "performance_lte", "nickname"}
    ),
    "datasets": frozenset(
        {"session", "subject", "lab", "name", "dataset_type", "collection", "revision", "tag"}
        | {"exists", "probe_insertion", "created_by", "hash", "qc", "default_dataset", "date"}
        | {"file_size", "public", "protected", "created_date_gte", "created_date_lte"}
    ),
    "insertions": frozenset(
        {"session", "subject", "lab", "name", "date", "project", "task_protocol", "tag", "datasets"}
        | {"dataset_types", "atlas_acronym", "atlas_name", "atlas_id", "experiment_number"}
    ),
    "trajectories": frozenset(
        {"probe_insertion", "session", "probe", "provenance", "subject", "project", "date"}
        | {"experiment_number"}
    ),
    "channels": frozenset(
        {"session", "probe_insertion", "trajectory_estimate", "subject", "lab", "brain_region"}
    ),
    "subjects": frozenset({"nickname", "lab", "alive", "stock", "responsible_user", "project"}),
    "data-repository": frozenset({"name", "globus_is_personal"}),
    "tags": frozenset({"name"}),
    "revisions": frozenset({"name"}),
}
#: filters for which Alyx may repeat a row, once for each dataset, project or region that matches
_REPEATING_FILTERS = frozenset(
    {"project", "projects", "dataset_qc_lte", "atlas_acronym", "atlas_name", "atlas_id", "exists"}
)
#: a look-up that selects all rows; with any look-up, Alyx sends each row only once
_DISTINCT = "id__isnull,False"
#: most rows in a page after the first
_PAGE_ROWS = 1000


@dataclass(frozen=True, slots=True)
class RestQuery:
    """A GET request to Alyx: a path, and filters as text."""

    path: str
    filters: Mapping[str, str]

    def __str__(self) -> str:
        """Return the query as in a URL."""
        return f"{self.path}?{urlencode(self.filters)}" if self.filters else self.path

    @classmethod
    def of_list(
        cls, endpoint: str, filters: Mapping[str, str], id: Any, given: Mapping[str, Any]
    ) -> RestQuery:
        """Return the query for a list with the filters of a URL, an id and keyword arguments."""
        named = {name: filter_text(name, value) for name, value in given.items()}
        if given.get("django", "") is None:
            del named["django"]
        if id is not None and str(id) != "":
            key = f"pk,{id}"
            named["django"] = f"{named['django']},{key}" if "django" in named else key
        return cls(endpoint, {**filters, **named})

    @property
    def sent_filters(self) -> Mapping[str, str]:
        """The filters that are sent, with a look-up that makes Alyx send each row only once."""
        if self.filters.get("django") or self.filters.keys().isdisjoint(_REPEATING_FILTERS):
            return self.filters
        return {**self.filters, "django": _DISTINCT}

    @property
    def page_rows(self) -> int:
        """The number of rows in a page after the first."""
        limit = parse_whole_number(self.filters.get("limit", "")) or 0
        return limit if 0 < limit <= _PAGE_ROWS else _PAGE_ROWS

    def with_filters(self, filters: Mapping[str, str]) -> RestQuery:
        """Return the query with more filters, or other values of its filters."""
        return RestQuery(self.path, {**self.filters, **filters})

    def unusual_filters(self, given: Iterable[str]) -> list[str]:
        """Return the filters in ``given`` of which it is not known that Alyx has them."""
        usual = _COMMON_FILTERS | _USUAL_FILTERS.get(self.path, frozenset())
        return [name for name in given if name not in usual]


def check_endpoint(endpoint: str) -> str:
    """Return an endpoint that can be read.

    Raises ReadOnly for an endpoint that changes Alyx, and UsageError for an unknown endpoint.
    """
    if endpoint in _WRITING_ENDPOINTS:
        raise ReadOnly(
            f"the endpoint {endpoint} changes Alyx, also by a GET request, and onefs does not write"
        )
    if endpoint not in ENDPOINTS:
        raise UsageError(
            f"Alyx has no endpoint {endpoint!a} that onefs reads"
            f"{nearest_name_hint(endpoint, ENDPOINTS)}; one.alyx.list_endpoints() lists them"
        )
    return endpoint


def check_action(action: object) -> str | None:
    """Return the action ``list`` or ``read``, or None if there is none.

    Raises ReadOnly for an action that writes, and UsageError for an unknown action.
    """
    if not action:
        return None
    name = str(action).replace("-", "_")
    if name in _WRITING_ACTIONS:
        raise ReadOnly(f"onefs does not write to Alyx, so the action {name} is refused")
    if name not in ("list", "read"):
        raise UsageError(f"{name!a} is not an action of Alyx: give 'list' or 'read'")
    return name


def filter_text(name: str, value: Any) -> str:
    """Return the value of a filter as Alyx takes it: the items of a list, joined with commas."""
    if isinstance(value, Mapping) and name == "django":
        value = [part for pair in value.items() for part in pair]
    read = _day_text if name == "date_range" else _text
    if isinstance(value, (str, bytes, Mapping)) or not isinstance(value, Iterable):
        return read(value)
    return ",".join(map(read, value))


def _text(value: Any) -> str:
    isoformat = getattr(value, "isoformat", None)
    text = isoformat() if callable(isoformat) else value
    # a list as the value of a Django look-up, in which a UUID is a text
    if isinstance(text, (list, tuple, set, frozenset)):
        return "[" + ",".join(repr(each if _is_plain(each) else str(each)) for each in text) + "]"
    return str(text)


def _day_text(value: Any) -> str:
    """Return a day as text. Alyx fails for a day with a time."""
    return value if isinstance(value, str) else _text(value)[:10]


def _is_plain(value: object) -> bool:
    return isinstance(value, (str, int, float, bool, type(None)))
