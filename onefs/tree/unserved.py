"""Datasets that are registered, but on no reachable server: the tree has no file for them."""

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
    """Return the datasets of a listed session that are on no server, sorted by path.

    Each with its path below the session in a variant of the tree, and the names of the
    repositories that Alyx lists for it.
    """
    repositories = dict(catalogue.unserved_datasets(session))
    layout = variant.build_layout(repositories)
    return [(path, dataset, repositories[dataset]) for path, dataset in datasets_by_path(layout)]


def refuse_unserved(
    catalogue: Catalogue,
    session: Session,
    is_meant: Callable[[Folders, Dataset], bool],
    variant: Variant = FULL_TREE,
) -> None:
    """Raise NotFound, naming the repositories, if a dataset on no server is meant.

    ``is_meant`` gets each such dataset's path below the session, and the dataset.
    """
    for path, dataset, repositories in unserved(catalogue, session, variant):
        if is_meant(path, dataset):
            raise NotFound(unserved_message("/".join(path), repositories))
