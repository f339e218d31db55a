"""Build layouts: the names of folders and files with which the tree shows a listing. No I/O.

A layout is built once for each listing. The rules in ``onefs.alf`` make the names of folders and
files from the server's names. If two entries of a folder would have the same name, these rules add
digits of a UUID or of a hash to one of the two names.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field

from onefs import alf
from onefs.model import Dataset, Session

#: the path of a folder below a session; () for the session's own folder
Folders = tuple[str, ...]
#: a subject's sessions as folders: date -> number folder -> session
SubjectLayout = Mapping[str, Mapping[str, Session]]

#: most paths of one file name that an error message lists
_MAX_PATHS_IN_MESSAGE = 3


@dataclass(frozen=True, slots=True)
class SessionLayout:
    """A session's datasets as folders and files."""

    #: the children of every folder, by name: a dataset if the child is a file, None for a folder
    folders: Mapping[Folders, Mapping[str, Dataset | None]]
    #: path below the session in ONE's layout, by the dataset's UUID; empty if ``folders`` has the
    #: same paths
    canonical_paths: Mapping[str, Folders] = field(default_factory=dict)


def lab_folder_names(labs: Iterable[str]) -> dict[str, str]:
    """Return the labs by the names of their folders."""
    return dict(
        alf.unique_names((alf.lab_folder(lab), alf.name_digest(lab), lab) for lab in sorted(labs))
    )


def subject_folder_names(subjects: Iterable[str]) -> dict[str, str]:
    """Return the nicknames of the subjects by the names of their folders."""
    return dict(
        alf.unique_names(
            (alf.subject_folder(name), alf.name_digest(name), name) for name in sorted(subjects)
        )
    )


def subject_layout(sessions: Iterable[Session]) -> SubjectLayout:
    """Return a subject's sessions by date, and then by the name of the session's folder.

    ``sessions`` must be sorted by date, number and eid.
    """
    by_date: dict[str, list[Session]] = defaultdict(list)
    for session in sessions:
        by_date[session.date].append(session)
    return {
        date: dict(alf.unique_names((alf.number_folder(s.number), s.eid, s) for s in of_day))
        for date, of_day in sorted(by_date.items())
    }


def session_layout(
    datasets: Iterable[Dataset], folder_of: Callable[[Dataset], Folders] = alf.dataset_folder
) -> SessionLayout:
    """Return the folders and files of a session's datasets.

    ``folder_of`` returns the folder of a dataset. If two datasets would have the same path, digits
    of the UUID are added to one of the two names. A dataset that Alyx flags as default keeps the
    plain name.
    """
    files: dict[Folders, list[Dataset]] = defaultdict(list)
    for dataset in datasets:
        files[folder_of(dataset)].append(dataset)
    folders: dict[Folders, dict[str, Dataset | None]] = {(): {}}
    for path in sorted(files):
        for depth in range(len(path)):
            folders.setdefault(path[:depth], {})[path[depth]] = None
        folders.setdefault(path, {})
    for path, in_folder in files.items():
        # of two flagged datasets, or of two that are not flagged, the first keeps the plain name
        ranked = sorted(in_folder, key=lambda dataset: not dataset.default)
        named = ((alf.dataset_file(dataset, path), dataset.uuid, dataset) for dataset in ranked)
        folders[path].update(alf.unique_names(named, taken=list(folders[path])))
    return SessionLayout({path: dict(sorted(names.items())) for path, names in folders.items()})


def datasets_by_path(layout: SessionLayout) -> list[tuple[Folders, Dataset]]:
    """Return a session's datasets with their paths below the session, sorted by path."""
    return sorted(
        ((*folders, name), dataset)
        for folders, children in layout.folders.items()
        for name, dataset in children.items()
        if dataset is not None
    )


def default_revision_of(datasets: Iterable[Dataset]) -> Dataset | None:
    """Return the default revision of one file, by ONE's rules.

    ``datasets`` are the revisions of the file.

    - If one revision is flagged as default: this revision, even if there is a later one.
    - If several revisions are flagged: None.
    - If no revision is flagged: the revision whose name is the last in alphabetical order, as in
      ``one.util.filter_revision_last_before``.
    """
    revisions = list(datasets)
    flagged = [dataset for dataset in revisions if dataset.default]
    if flagged:
        return flagged[0] if len(flagged) == 1 else None
    return max(revisions, key=lambda dataset: dataset.revision, default=None)


def flat_layout(layout: SessionLayout) -> SessionLayout:
    """Return the files of a session in a flat tree: default revisions, all in the session's folder.

    A file is left out if another collection has a file with the same name. It is also left out if
    two of its revisions are flagged as default.
    """
    revisions: dict[tuple[str, str], list[Dataset]] = defaultdict(list)
    canonical_paths: dict[str, Folders] = {}
    for path, dataset in datasets_by_path(layout):
        canonical_paths[dataset.id] = layout.canonical_paths.get(dataset.id, path)
        revisions[dataset.collection, dataset.name].append(dataset)
    defaults: dict[str, list[Dataset | None]] = defaultdict(list)
    for versions in revisions.values():
        # None (two flagged revisions) also counts if another collection has a file of this name
        defaults[alf.dataset_file(versions[0], ())].append(default_revision_of(versions))
    files = {
        name: candidates[0]
        for name, candidates in sorted(defaults.items())
        if len(candidates) == 1 and candidates[0] is not None
    }
    return SessionLayout({(): files}, canonical_paths)


def paths_of_name(layout: SessionLayout, name: str) -> list[Folders]:
    """Return the paths at which a session has files named ``name``.

    For each collection, only the path of the file's default revision is returned. If several
    revisions are flagged as default, all their paths are returned.
    """
    collections: dict[str, list[tuple[Folders, Dataset]]] = defaultdict(list)
    for folder, children in layout.folders.items():
        dataset = children.get(name)
        if dataset is not None:
            collections[dataset.collection].append(((*folder, name), dataset))
    paths = []
    for versions in collections.values():
        default = default_revision_of(dataset for _, dataset in versions)
        paths += [
            path
            for path, dataset in versions
            if dataset is default or (default is None and dataset.default)
        ]
    return sorted(paths)


def missing_name_message(
    layout: SessionLayout, session_label: str, folders: Folders, name: str
) -> str:
    """Return the error message for a path ``folders/name`` that a session does not have.

    The message contains up to 3 paths of files with the same name in other folders.
    """
    missing = f"{session_label} has no {'/'.join((*folders, name))}"
    paths = ["/".join(path) for path in paths_of_name(layout, name)]
    if not paths:
        return missing
    omitted = len(paths) - _MAX_PATHS_IN_MESSAGE
    more = f" and {omitted} other places" if omitted > 0 else ""
    return f"{missing}: {name} is at {', '.join(paths[:_MAX_PATHS_IN_MESSAGE])}{more}"


def path_by_uuid(layout: SessionLayout, folders: Folders, name: str) -> Folders | None:
    """Return the path of the dataset whose UUID is part of ``name``, a name in ``folders``.

    For example, ``name`` is ``spikes.times.<uuid>.npy``. The folder ``folders`` must be the
    session's own folder, or the folder of the dataset's collection or revision. Return None if no
    dataset matches.
    """
    # Alyx's URLs and old MATLAB loaders use such names
    for uuid, plain in alf.names_with_uuid(name):
        for path, dataset in datasets_by_path(layout):
            folder, shown = path[:-1], path[-1]
            named = dataset.uuid == uuid and plain in (shown, alf.dataset_file(dataset, folder))
            if named and folders in ((), alf.collection_folder(dataset), folder):
                return path
    return None
