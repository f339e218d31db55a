"""``.as-of``: which revisions a day has, by ONE's rules. Pure.

ONE, told a day (``revision=`` or ``ONE_REVISION_LAST_BEFORE``), takes of each file the last
revision whose name is not after that day, in the order of texts; what has no revision comes before
all. It does not look at the flags of defaults then, so that none and two make no difference.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import replace

from onefs import alf
from onefs.model import Dataset
from onefs.tree.layout import SessionLayout, datasets_by_path, session_layout

#: the folder of the root that holds a tree for each day
AS_OF = ".as-of"


def is_as_of_day(text: str) -> bool:
    """Whether ``text`` is what a tree can be as of: ``2021-07-05``, or ``2021-07-05a``.

    The letter is that of the second, third ... revision of one day: ONE's order of texts puts it
    after the day itself.
    """
    return alf.is_revision_day(text)


def latest_revision_as_of(versions: Iterable[Dataset], day: str) -> Dataset | None:
    """The revision of one file that ``day`` has; None when all are later.

    Of several with one name the first (``one.util.filter_revision_last_before``).
    """
    there = (dataset for dataset in versions if dataset.revision <= day)
    return max(there, key=lambda dataset: dataset.revision, default=None)


def layout_as_of(datasets: Iterable[Dataset], day: str) -> SessionLayout:
    """Folders and files of a session as of ``day``: each file once, without a revision's folder."""
    listed = list(datasets)
    files: dict[tuple[str, str], list[Dataset]] = defaultdict(list)
    # the default first, which has the name where two stand on one path
    for dataset in sorted(listed, key=lambda dataset: not dataset.default):
        files[dataset.collection, dataset.name].append(dataset)
    found = (latest_revision_as_of(versions, day) for versions in files.values())
    chosen = [dataset for dataset in found if dataset is not None]
    shape = session_layout(chosen, alf.collection_folder)
    everything = datasets_by_path(session_layout(listed))
    return replace(shape, canonical_paths={dataset.id: place for place, dataset in everything})
