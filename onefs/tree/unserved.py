"""Datasets that are registered in Alyx, but that no reachable server has.

The tree has no files for these datasets.
"""

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
    """Return the datasets of a session that are on no server, sorted by path. Sends no request.

    The session's datasets must have been listed before. Each item has:

    - the path below the session in the tree ``variant`` (the full tree, as of a day, or flat)
    - the dataset
    - the names of the repositories that Alyx lists for the dataset
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
    """Raise NotFound if the dataset that the caller wants is on no server.

    ``is_meant`` is called with a path below the session and a dataset. It must return True for the
    wanted dataset. The error message contains the names of the repositories that Alyx lists for the
    dataset.
    """
    for path, dataset, repositories in unserved(catalogue, session, variant):
        if is_meant(path, dataset):
            raise NotFound(unserved_message("/".join(path), repositories))
