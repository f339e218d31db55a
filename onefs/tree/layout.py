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

#: places of one file name that an error names
_MAX_PATHS_IN_MESSAGE = 3


@dataclass(frozen=True, slots=True)
class SubjectLayout:
    """A subject's sessions as folders: date -> number folder -> session."""

    sessions_by_date: Mapping[str, Mapping[str, Session]]


@dataclass(frozen=True, slots=True)
class SessionLayout:
    """A session's datasets as folders and files."""

    #: every folder below the session with its children: a dataset for a file, None for a folder
    folders: Mapping[Folders, Mapping[str, Dataset | None]]
    #: by a dataset's UUID, its place below the session in ONE's layout, where that may be another
    canonical_paths: Mapping[str, Folders] = field(default_factory=dict)


def lab_folder_names(labs: Iterable[str]) -> dict[str, str]:
    """Lab folders and the labs they stand for."""
    return dict(
        alf.unique_names((alf.lab_folder(lab), alf.name_digest(lab), lab) for lab in sorted(labs))
    )


def subject_folder_names(subjects: Iterable[str]) -> dict[str, str]:
    """Subject folders of a lab and the nicknames they stand for."""
    return dict(
        alf.unique_names(
            (alf.subject_folder(name), alf.name_digest(name), name) for name in sorted(subjects)
        )
    )


def subject_layout(sessions: Iterable[Session]) -> SubjectLayout:
    """Date and number folders of a subject's sessions, which come by date, number and eid."""
    by_date: dict[str, list[Session]] = defaultdict(list)
    for session in sessions:
        by_date[session.date].append(session)
    return SubjectLayout(
        {
            date: dict(alf.unique_names((alf.number_folder(s.number), s.eid, s) for s in found))
            for date, found in sorted(by_date.items())
        }
    )


def session_layout(
    datasets: Iterable[Dataset], folder_of: Callable[[Dataset], Folders] = alf.dataset_folder
) -> SessionLayout:
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
        folders[path].update(alf.unique_names(named, taken=list(folders[path])))
    in_order = {path: dict(sorted(children.items())) for path, children in folders.items()}
    return SessionLayout(in_order)


def datasets_by_path(shape: SessionLayout) -> list[tuple[Folders, Dataset]]:
    """A session's datasets with where each stands below it, by that place."""
    return sorted(
        ((*folders, name), dataset)
        for folders, children in shape.folders.items()
        for name, dataset in children.items()
        if dataset is not None
    )


def default_revision_of(datasets: Iterable[Dataset]) -> Dataset | None:
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


def flat_layout(shape: SessionLayout) -> SessionLayout:
    """The default datasets of a session by their names alone, without any folder.

    A name that stands twice, in two collections or flagged as default twice, is left out.
    """
    revisions: dict[tuple[str, str], list[Dataset]] = defaultdict(list)
    kept: dict[str, Folders] = {}
    for place, dataset in datasets_by_path(shape):
        kept[dataset.id] = shape.canonical_paths.get(dataset.id, place)
        revisions[dataset.collection, dataset.name].append(dataset)
    named: dict[str, list[Dataset | None]] = defaultdict(list)
    for found in revisions.values():
        # None, for two that are flagged, takes the name from all others too
        named[alf.dataset_file(found[0], ())].append(default_revision_of(found))
    files = {
        name: found[0]
        for name, found in sorted(named.items())
        if len(found) == 1 and found[0] is not None
    }
    return SessionLayout({(): files}, kept)


def paths_of_name(shape: SessionLayout, name: str) -> list[Folders]:
    """Where the default datasets of a file name stand, in all of a session's folders."""
    collections: dict[str, list[tuple[Folders, Dataset]]] = defaultdict(list)
    for folder, children in shape.folders.items():
        dataset = children.get(name)
        if dataset is not None:
            collections[dataset.collection].append(((*folder, name), dataset))
    found = []
    for versions in collections.values():
        default = default_revision_of(dataset for _, dataset in versions)
        found += [
            place
            for place, dataset in versions
            if dataset is default or (default is None and dataset.default)
        ]
    return sorted(found)


def missing_name_message(
    shape: SessionLayout, session_label: str, folders: Folders, name: str
) -> str:
    """The sentence that ``what``, a session, lacks a name, and where it has a file of that name."""
    missing = f"{session_label} has no {'/'.join((*folders, name))}"
    places = ["/".join(place) for place in paths_of_name(shape, name)]
    if not places:
        return missing
    more = (
        f" and {len(places) - _MAX_PATHS_IN_MESSAGE} other places"
        if len(places) > _MAX_PATHS_IN_MESSAGE
        else ""
    )
    return f"{missing}: {name} is at {', '.join(places[:_MAX_PATHS_IN_MESSAGE])}{more}"


def path_by_uuid(shape: SessionLayout, folders: Folders, name: str) -> Folders | None:
    """The place of the dataset that ``name``, a file name with a UUID in it, is at ``folders``.

    Alyx's URLs and MATLAB's old loaders name files so: ``spikes.times.<uuid>.npy``. It is looked
    for in the session's own folder, in the dataset's collection and in its revision's folder.
    None when no dataset of the session has that UUID and that name there.
    """
    for uuid, plain in alf.names_with_uuid(name):
        for place, dataset in datasets_by_path(shape):
            folder, shown = place[:-1], place[-1]
            named = dataset.id == uuid and plain in (shown, alf.dataset_file(dataset, folder))
            if named and folders in ((), alf.collection_folder(dataset), folder):
                return place
    return None
