"""Search for the datasets that a command's paths name, and for cached files of these datasets."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import suppress
from fnmatch import fnmatchcase
from pathlib import PurePosixPath
from typing import TYPE_CHECKING

from onefs import alf
from onefs.access import Access
from onefs.cache.folder import Place
from onefs.config.cache_owner import PRIVATE_FOLDER
from onefs.errors import NotFound, OnefsError
from onefs.model import Dataset
from onefs.tree.path_patterns import BY_EID
from onefs.tree.variant import FULL_TREE, Variant

if TYPE_CHECKING:
    from onefs.content.admin import CacheItem


def cached_files_at(
    access: Access, patterns: Iterable[str], *, on_disks: bool = False
) -> list[CacheItem]:
    """Return the cached items at and below the paths that match ``patterns``.

    ``patterns`` are paths in the tree, with or without wildcards. Without patterns, return all
    cached items. With ``on_disks``, also return files that are read in place on a disk. Raises
    NotFound if nothing is cached for a pattern.
    """
    items = access.content.admin.list_items()
    if on_disks:
        items += access.content.admin.list_disk_items()
    all_ids = {item.dataset_id for item in items}
    chosen: set[str] = set()
    for pattern in (patterns := list(patterns)):
        ids = {item.dataset_id for item in items if _is_at_or_below(item.path, pattern)}
        # links and bad files have no path in the tree: they are found by their dataset ids
        ids |= _dataset_ids_at(access, pattern) & all_ids
        if not ids:
            raise NotFound(f"no file of {pattern} is cached")
        chosen |= ids
    return [item for item in items if item.dataset_id in chosen] if patterns else items


def find_dataset(access: Access, dataset_id: str) -> tuple[Dataset, Place] | None:
    """Return the dataset with this id, and its place in the tree.

    Return None if the catalogue lacks the dataset, or if its session cannot be listed.
    """
    eid = access.catalogue.session_id_of_dataset(dataset_id)
    if eid is None:
        return None
    try:
        datasets = access.tree.find_datasets(f"{BY_EID}/{eid}")
        return next((pair for pair in datasets if pair[0].id == dataset_id), None)
    except OnefsError:
        return None


def display_path(access: Access, item: CacheItem) -> str:
    """Return the path of a cached item as ONE writes it: ``lab/Subjects/subject/...``.

    If this path is not known, return the path where the file is stored, or the dataset's id.
    """
    if item.path and not item.path.startswith(PRIVATE_FOLDER):
        return item.path
    dataset = find_dataset(access, item.dataset_id)
    if dataset is None:
        return item.path or item.dataset_id
    store = access.content.store
    return str(store.final_path(dataset[1]).relative_to(store.root))


def clear_rejections(access: Access, path: Place, variant: Variant = FULL_TREE) -> None:
    """Forget which files at and below ``path`` contradict the database.

    The next read fetches these files again. ``path`` is a path in a mount, and () means all files.
    ``variant`` tells whether the mount shows all revisions, one day (``--as-of``) or a flat tree.
    """
    store = access.content.store
    bad = {entry.dataset_id: entry for entry in store.entries() if entry.state == "bad"}
    rejected = {*bad, *store.mismatches.dataset_ids()}
    # the catalogue has the session of each dataset that Alyx has listed
    is_full = variant.is_full_tree and access.without_alyx.has_alyx
    ids: set[str] = set()
    if rejected and path and (not is_full or path[0] == alf.AGGREGATES):
        ids = _dataset_ids_at(access, variant.path_in_full_tree("/".join(path)))
    for dataset_id in rejected:
        if path and dataset_id not in ids:
            dataset = find_dataset(access, dataset_id) if is_full else None
            if dataset is None or dataset[1][: len(path)] != path:
                continue
        store.mismatches.clear(dataset_id)
        entry = bad.get(dataset_id)
        if entry is not None:
            claimed = Dataset(dataset_id, "", "", size=entry.claimed_size, md5=entry.claimed_md5)
            access.content.admin.clear_rejection(claimed)


def _is_at_or_below(path: str, pattern: str) -> bool:
    names = alf.parts_in_tree(PurePosixPath(path).parts)
    parts = PurePosixPath(pattern).parts
    return len(names) >= len(parts) and all(
        name == part or fnmatchcase(name, part) for name, part in zip(names, parts, strict=False)
    )


def _dataset_ids_at(access: Access, pattern: str) -> set[str]:
    """Return the ids of the datasets at and below the tree's paths that match ``pattern``."""
    ids: set[str] = set()
    with suppress(OnefsError):  # some folder has no cached listing, and no server is asked
        ids.update(dataset.id for dataset, _ in access.tree.find_datasets(pattern))
    return ids
