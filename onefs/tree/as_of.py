"""``.as-of``: the revisions of a day, by ONE's rules. Pure.

Given a day (``revision=`` or ``ONE_REVISION_LAST_BEFORE``), ONE uses the last revision of each file
whose name is not after that day. Names are compared as texts, and a file without revision comes
first. Default flags are ignored then, so that it does not matter whether none or two are set.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import replace

from onefs import alf
from onefs.model import Dataset
from onefs.tree.layout import SessionLayout, datasets_by_path, session_layout

#: the folder of the root that contains a tree for each day
AS_OF = ".as-of"


def is_as_of_day(text: str) -> bool:
    """Whether ``text`` is a valid name below ``.as-of``: ``2021-07-05``, or ``2021-07-05a``.

    The second, third ... revision of a day has a letter: as a text, it comes after the day itself.
    """
    return alf.is_revision_day(text)


def latest_revision_as_of(versions: Iterable[Dataset], day: str) -> Dataset | None:
    """Return the revision of one file as of ``day``; None if all are later.

    The first one if several have the same name (``one.util.filter_revision_last_before``).
    """
    candidates = (dataset for dataset in versions if dataset.revision <= day)
    return max(candidates, key=lambda dataset: dataset.revision, default=None)


def layout_as_of(datasets: Iterable[Dataset], day: str) -> SessionLayout:
    """Return the layout of a session as of ``day``: each file once, without revision folders."""
    listed = list(datasets)
    files: dict[tuple[str, str], list[Dataset]] = defaultdict(list)
    # the default first: it gets the plain name if two datasets have the same path
    for dataset in sorted(listed, key=lambda dataset: not dataset.default):
        files[dataset.collection, dataset.name].append(dataset)
    latest = (latest_revision_as_of(versions, day) for versions in files.values())
    shown = [dataset for dataset in latest if dataset is not None]
    layout = session_layout(shown, alf.collection_folder)
    all_revisions = datasets_by_path(session_layout(listed))
    return replace(layout, canonical_paths={dataset.id: path for path, dataset in all_revisions})
