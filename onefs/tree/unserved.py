"""Datasets that are registered, but on no server that can be reached: they have no file."""

from __future__ import annotations

from collections.abc import Callable

from onefs.catalogue.catalogue import Catalogue
from onefs.catalogue.messages import unserved_message
from onefs.errors import NotFound
from onefs.model import Dataset, Session
from onefs.tree.layout import Folders, datasets_by_path
from onefs.tree.variant import FULL_TREE, Variant


def unserved(
    catalogue: Catalogue, session: Session, variant: Variant = FULL_TREE
) -> list[tuple[Folders, Dataset, tuple[str, ...]]]:
    """Return the datasets of a listed session that are on no server, by their place in a variant
    of the tree: the place, the dataset, and the names of the repositories that Alyx lists."""
    found = {
        dataset.id: (dataset, names) for dataset, names in catalogue.unserved_datasets(session)
    }
    shape = variant.build_layout(dataset for dataset, _ in found.values())
    return [(place, *found[dataset.id]) for place, dataset in datasets_by_path(shape)]


def refuse_unserved(
    catalogue: Catalogue,
    session: Session,
    is_meant: Callable[[Folders, Dataset], bool],
    variant: Variant = FULL_TREE,
) -> None:
    """Raise NotFound, naming the repositories, where a meant dataset is on no server."""
    for place, dataset, repositories in unserved(catalogue, session, variant):
        if is_meant(place, dataset):
            raise NotFound(unserved_message("/".join(place), repositories))
