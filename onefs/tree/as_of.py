"""``.as-of``: the revisions that ONE uses for a given day. No I/O.

ONE gets the day as ``revision=`` or ``ONE_REVISION_LAST_BEFORE``. For each file, ONE uses the last
revision whose name is equal to the day or comes before the day. Names of revisions are compared as
texts. A file without a revision comes before all revisions. Default flags are ignored.
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
    """Whether ``text`` is a valid name below ``.as-of``, for example ``2021-07-05``.

    A letter may follow the day, as in ``2021-07-05a``: the later revisions of one day have a
    letter.
    """
    # compared as texts, a name with a letter comes after the name without a letter
    return alf.is_revision_day(text)


def latest_revision_as_of(versions: Iterable[Dataset], day: str) -> Dataset | None:
    """Return the last revision of one file up to ``day``. Return None if all revisions are later.

    ``versions`` are the revisions of the file. If several datasets have the last revision, return
    the first of these, as ``one.util.filter_revision_last_before`` does.
    """
    candidates = (dataset for dataset in versions if dataset.revision <= day)
    return max(candidates, key=lambda dataset: dataset.revision, default=None)


def layout_as_of(datasets: Iterable[Dataset], day: str) -> SessionLayout:
    """Return the folders and files of a session (its layout) as of ``day``.

    Each file is in the layout once, without revision folders.
    """
    listed = list(datasets)
    files: dict[tuple[str, str], list[Dataset]] = defaultdict(list)
    # default datasets first, because the first of two datasets with one path gets the plain name
    for dataset in sorted(listed, key=lambda dataset: not dataset.default):
        files[dataset.collection, dataset.name].append(dataset)
    latest = (latest_revision_as_of(versions, day) for versions in files.values())
    shown = [dataset for dataset in latest if dataset is not None]
    layout = session_layout(shown, alf.collection_folder)
    all_revisions = datasets_by_path(session_layout(listed))
    return replace(layout, canonical_paths={dataset.id: path for path, dataset in all_revisions})
