"""The shape of listings: which names stand in which folder. Pure, and built once a listing.

What the server names becomes folders and files by the rules of ``onefs.alf``; two things that
would have one name are told apart there too.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field

from onefs import alf
from onefs.model import Dataset, Session

#: folders below a session, () for the session's own
Folders = tuple[str, ...]


@dataclass(frozen=True, slots=True)
class SubjectShape:
    """A subject's sessions as folders: date -> number folder -> session."""

    dates: Mapping[str, Mapping[str, Session]]


@dataclass(frozen=True, slots=True)
class SessionShape:
    """A session's datasets as folders and files."""

    #: every folder below the session with its children: a dataset for a file, None for a folder
    folders: Mapping[Folders, Mapping[str, Dataset | None]]
    #: short paths: a file name -> the one default dataset that has it, as a relative path
    shortcuts: Mapping[str, str]
    #: by a dataset's UUID, its place below the session in ONE's layout, where that may be another
    kept: Mapping[str, Folders] = field(default_factory=dict)


def lab_shape(labs: Iterable[str]) -> dict[str, str]:
    """Lab folders and the labs they stand for."""
    return dict(alf.distinct((alf.lab_folder(lab), alf.digest(lab), lab) for lab in sorted(labs)))


def subjects_shape(subjects: Iterable[str]) -> dict[str, str]:
    """Subject folders of a lab and the nicknames they stand for."""
    return dict(
        alf.distinct(
            (alf.subject_folder(name), alf.digest(name), name) for name in sorted(subjects)
        )
    )


def subject_shape(sessions: Iterable[Session]) -> SubjectShape:
    """Date and number folders of a subject's sessions, which come by date, number and eid."""
    by_date: dict[str, list[Session]] = defaultdict(list)
    for session in sessions:
        by_date[session.date].append(session)
    return SubjectShape(
        {
            date: dict(alf.distinct((alf.number_folder(s.number), s.eid, s) for s in found))
            for date, found in sorted(by_date.items())
        }
    )


def session_shape(
    datasets: Iterable[Dataset], folder_of: Callable[[Dataset], Folders] = alf.dataset_folder
) -> SessionShape:
    """Folders and files of a session's datasets.

    Of two datasets on one path the default one has the name, else the one that comes first.
    """
    files: dict[Folders, list[Dataset]] = defaultdict(list)
    for dataset in datasets:
        files[folder_of(dataset)].append(dataset)
    folders: dict[Folders, dict[str, Dataset | None]] = {(): {}}
    for path in sorted(files):
        for depth in range(len(path)):
            folders.setdefault(path[:depth], {})[path[depth]] = None
        folders.setdefault(path, {})
    for path, found in files.items():
        ranked = sorted(found, key=lambda dataset: not dataset.default)
        named = ((alf.dataset_file(dataset, path), dataset.id, dataset) for dataset in ranked)
        folders[path].update(alf.distinct(named, taken=list(folders[path])))
    in_order = {path: dict(sorted(children.items())) for path, children in folders.items()}
    return SessionShape(in_order, _shortcuts(in_order))


def datasets_by_place(shape: SessionShape) -> list[tuple[Folders, Dataset]]:
    """A session's datasets with where each stands below it, by that place."""
    return sorted(
        ((*folders, name), dataset)
        for folders, children in shape.folders.items()
        for name, dataset in children.items()
        if dataset is not None
    )


def default_of(datasets: Iterable[Dataset]) -> Dataset | None:
    """The revision to use among those of one file, by ONE's rules; None when two are flagged.

    One flagged: that one, though it need not be the latest. None flagged: the last by name
    (``one.util.filter_revision_last_before``).
    """
    found = list(datasets)
    flagged = [dataset for dataset in found if dataset.default]
    if len(flagged) > 1:
        return None
    if flagged:
        return flagged[0]
    return max(found, key=lambda dataset: dataset.revision, default=None)


def _shortcuts(folders: Mapping[Folders, Mapping[str, Dataset | None]]) -> dict[str, str]:
    """Names of one default dataset only, and where below the session it stands."""
    paths: dict[str, str] = {}
    revisions: dict[tuple[str, str], list[Dataset]] = defaultdict(list)
    for folder, children in folders.items():
        for name, dataset in children.items():
            if dataset is not None:
                paths[dataset.id] = "/".join((*folder, name))
                revisions[dataset.collection, dataset.name].append(dataset)
    defaults: dict[str, list[Dataset | None]] = defaultdict(list)
    for found in revisions.values():
        # None, for two that are flagged, takes the name from all others too
        defaults[alf.dataset_file(found[0])].append(default_of(found))
    return {
        name: paths[found[0].id]
        for name, found in defaults.items()
        if len(found) == 1 and found[0] is not None and name not in folders[()]
    }
