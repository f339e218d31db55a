"""``ONE.describe``: the metadata of one dataset, from the database and the file's header.

This needs none of the modules that load datasets, and takes less time than their import.
"""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from pathlib import PurePath
from typing import TYPE_CHECKING, Any

from onefs.errors import UsageError
from onefs.model import shown_url
from onefs.one import headers

if TYPE_CHECKING:
    from onefs.one.laboratory import Laboratory
    from onefs.one.resolver import SessionResolver


def describe(
    laboratory: Laboratory, resolver: SessionResolver, path: str | PurePath, *, offline: bool
) -> dict[str, Any]:
    """Return the metadata of the dataset at a path (see ``ONE.describe``)."""
    if not isinstance(path, (str, PurePath)):
        raise UsageError(f"the path is {type(path).__name__}: give a text or a pathlib.Path")
    session, place, dataset = resolver.dataset(path)
    content = laboratory.content
    local = content.cached_path(dataset, place)
    if dataset.size is None and local is None and not offline:
        dataset = replace(dataset, size=content.probe_size(dataset))
        laboratory.catalogue.remember_size(dataset, dataset.size or 0)
    state, reason = content.state(dataset, place)
    description: dict[str, Any] = {
        "path": str(resolver.paths.file_path(place)),
        "dataset_type": dataset.dataset_type,
        "eid": dataset.eid,
        "ref": session.ref,
        "dataset_id": dataset.uuid,
        "collection": dataset.collection,
        "revision": dataset.revision,
        "size": dataset.size,
        "md5": dataset.md5,
        "qc": dataset.qc,
        "state": state,
        "url": shown_url(dataset.replicas),
    }
    if local is not None and content.cached_path(dataset) is None:
        description["source"] = str(local)
    if reason:
        description["error"] = reason
    if local is None and offline:
        return description
    read_head = partial(laboratory.read_head, dataset, place=place)
    return description | headers.describe_file(dataset.name, read_head, local)
