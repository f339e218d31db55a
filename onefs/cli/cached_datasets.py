"""What of a cache folder a command is about: the datasets at paths, there or not."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from fnmatch import fnmatchcase
from pathlib import PurePosixPath

from onefs import alf
from onefs.access import Access
from onefs.cache.store import Place
from onefs.config.cache_owner import PRIVATE_FOLDER
from onefs.content.admin import CacheItem
from onefs.errors import NotFound, OnefsError
from onefs.model import Dataset
from onefs.tree.lookup_folders import BY_EID
from onefs.tree.variant import FULL_TREE, Variant


def cached_files_at(access: Access, patterns: Iterable[str]) -> list[CacheItem]:
    """What the cache holds at and below these patterns of the tree, by path; all without any.

    Asks no server. Raises NotFound for a pattern at which the cache holds nothing.
    """
    listing = access.content.admin.list_items()
    wanted = list(patterns)
    if not wanted:
        return listing
    found: set[str] = set()
    for pattern in wanted:
        here = {kept.dataset_id for kept in listing if _is_at_or_below(kept.path, pattern)}
        # links, and bad ones, which stand nowhere
        here |= _dataset_ids_at(access, pattern) & {kept.dataset_id for kept in listing}
        if not here:
            raise NotFound(f"the cache holds nothing of {pattern}")
        found |= here
    return [kept for kept in listing if kept.dataset_id in found]


def find_dataset(access: Access, dataset_id: str) -> tuple[Dataset, Place] | None:
    """A dataset that was listed once, with its place; None where the catalogue lacks it."""
    eid = access.catalogue.session_id_of_dataset(dataset_id)
    if eid is None:
        return None
    try:
        datasets = access.tree.find_datasets(f"{BY_EID}/{eid}")
        return next((found for found in datasets if found[0].id == dataset_id), None)
    except OnefsError:
        return None


def display_path(access: Access, kept: CacheItem) -> str:
    """The ONE path of what the cache holds, also where it stands elsewhere."""
    if kept.path and not kept.path.startswith(PRIVATE_FOLDER):
        return kept.path
    found = find_dataset(access, kept.dataset_id)
    if found is None:
        return kept.path or kept.dataset_id
    return str(access.content.store.final_path(found[1]).relative_to(access.content.store.root))


def clear_rejections(access: Access, path: Place, variant: Variant = FULL_TREE) -> None:
    """Withdraw the verdicts on bad files, and doubts, at and below a path of a variant of the
    tree, () for all.

    They are fetched again when they are next read.
    """
    plain = variant.is_full_tree
    here = (
        set()
        if plain or not path
        else _dataset_ids_at(access, variant.path_in_full_tree("/".join(path)))
    )
    store = access.content.store
    bad = {entry.dataset_id: entry for entry in store.entries() if entry.state == "bad"}
    for dataset_id in {*bad, *store.mismatches.dataset_ids()}:
        found = find_dataset(access, dataset_id)
        stands = found is not None and found[1][: len(path)] == path and plain
        if path and not stands and dataset_id not in here:
            continue
        store.mismatches.clear(dataset_id)
        entry = bad.get(dataset_id)
        if entry is not None:
            claimed = Dataset(dataset_id, "", "", size=entry.claimed_size, md5=entry.claimed_md5)
            access.content.admin.clear_rejection(claimed)


def _is_at_or_below(path: str, pattern: str) -> bool:
    parts = [part for part in PurePosixPath(path).parts if part != alf.SUBJECTS]
    wanted = PurePosixPath(pattern).parts
    return len(parts) >= len(wanted) and all(
        name == part or fnmatchcase(name, part) for name, part in zip(parts, wanted, strict=False)
    )


def _dataset_ids_at(access: Access, pattern: str) -> set[str]:
    return {dataset.id for dataset in _skip_listing_errors(access.tree.find_datasets(pattern))}


def _skip_listing_errors(datasets: Iterator[tuple[Dataset, Place]]) -> Iterator[Dataset]:
    try:
        for dataset, _ in datasets:
            yield dataset
    except OnefsError:  # not listed, and nobody is to be asked
        return
