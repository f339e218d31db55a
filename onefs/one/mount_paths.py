"""The folders of sessions in another user's mount, and the datasets in these folders."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

from onefs import alf
from onefs.cache.folder import Place
from onefs.errors import Ambiguous, NotFound, OnefsError
from onefs.model import Dataset, Replica, Session
from onefs.one.mount_access import MountAccess
from onefs.search.queries import FoundSessions
from onefs.tree.layout import SessionLayout, datasets_by_path, session_layout
from onefs.tree.path_patterns import BY_REF
from onefs.tree.sidecars import ABSENT, DATASETS_TSV
from onefs.tree.variant import Variant


class MountPaths:
    """The paths of sessions in a mount (see :class:`onefs.one.laboratory.SessionPaths`)."""

    def __init__(self, access: MountAccess) -> None:
        self._access = access
        self._files = access.files

    def sessions_by_ref(self, ref: alf.Ref) -> list[Session]:
        name = f"{ref.date}_{ref.number}_{ref.subject}"
        try:
            place = self._files.link_target(BY_REF, name)
        except NotFound:
            return []
        except Ambiguous:
            raise Ambiguous(
                f"the ref {name} matches several sessions: give an eid or a path"
            ) from None
        return [self.session_at(place)]

    def session_at(self, place: Place) -> Session:
        return self._access.catalogue.session_at(place)

    def place(self, session: Session) -> Place:
        return self._access.catalogue.place(session.eid)

    def places(self, found: FoundSessions) -> dict[str, Place]:
        return {session.eid: self.place(session) for session in found.sessions()}

    def file_path(self, place: Place) -> Path:
        return self._files.root.joinpath(*place)

    def layout(self, session: Session, variant: Variant) -> SessionLayout:
        """Return the folders and datasets of a session, read from its file ``.datasets.tsv``.

        Datasets that are on no server are left out.
        """
        folder = (*variant.folders, *self.place(session))
        self._fetch_full_listing(folder)
        places: dict[str, Place] = {}
        datasets = []
        for cells in self._table(folder):
            if cells[6:7] == [ABSENT]:
                continue
            place = tuple(cells[0].split("/"))
            dataset = self._parse_dataset(session, (*folder, *place), place, cells)
            places[dataset.id] = place
            datasets.append(dataset)
        layout = session_layout(datasets, lambda dataset: places[dataset.id][:-1])
        if not self._access.variant.is_full_tree:
            return replace(layout, canonical_paths=places)
        if variant.is_full_tree:
            return layout
        one_layout = {
            each.id: (*alf.dataset_folder(each), alf.dataset_file(each)) for each in datasets
        }
        return replace(layout, canonical_paths=one_layout)

    def datasets(self, layout: SessionLayout) -> list[tuple[Place, Dataset]]:
        return datasets_by_path(layout)

    def registered_types(self, session: Session) -> set[str]:
        """Return an empty set, because datasets on no server are not read from a mount."""
        return set()

    def unserved_datasets(self, session: Session) -> list[Dataset]:
        """Return a session's datasets that are on no server. Their ids are '', and not known."""
        return [
            _dataset_of_cells(session, tuple(cells[0].split("/")), cells)
            for cells in self._table(self.place(session))
            if cells[6:7] == [ABSENT]
        ]

    def _table(self, folder: Place) -> list[list[str]]:
        """Return the cells of each line of ``.datasets.tsv`` of a session's folder."""
        lines = self._files.text(*folder, DATASETS_TSV).split("\n")[1:]
        return [line.split("\t") for line in lines if line]

    def refuse_unserved(self, session: Session, below: Place, variant: Variant) -> None:
        """Do nothing, because datasets on no server are not read from a mount."""

    def _fetch_full_listing(self, folder: Place) -> None:
        """Make the mount list a session's datasets from Alyx, not only from ONE's cache tables."""
        # the mount asks Alyx for a name that the cache tables lack, and no file has this name; if
        # Alyx is unreachable, the listing from the cache tables is used
        path = self.file_path((*folder, "%"))
        with suppress(OnefsError), self._files.translate_errors(path):
            path.lstat()

    def _parse_dataset(
        self, session: Session, file: Place, place: Place, cells: Sequence[str]
    ) -> Dataset:
        """Return the dataset in a line of ``.datasets.tsv``. ``cells`` are the line's cells."""
        # the id, the URL and the default flag are extended attributes of the file
        path = self.file_path(file)
        url = self._files.attribute(path, "url")
        dataset = replace(
            _dataset_of_cells(session, place, cells),
            id=str(path),  # a release may have other content of a dataset than the whole database
            # mounts by older versions of onefs lack this attribute; then the last revision is used
            default=self._files.attribute(path, "default") == "1",
            replicas=(Replica("", url),) if url else (),
            published_id=self._files.attribute(path, "dataset_id"),
        )
        self._access.content.paths[dataset.id] = path
        return dataset


def _dataset_of_cells(session: Session, place: Place, cells: Sequence[str]) -> Dataset:
    """Return what a line of ``.datasets.tsv`` says of the dataset at ``place``. The id is ''."""
    _, dataset_type, size, md5, revision, qc, *_ = cells
    folders = place[:-2] if revision and place[-2:-1] == (f"#{revision}#",) else place[:-1]
    return Dataset(
        id="",
        eid=session.eid,
        name=place[-1],
        collection="/".join(folders),
        revision=revision,
        dataset_type=dataset_type or alf.dataset_type(place[-1]),
        size=int(size) if size else None,
        md5=md5,
        default=False,
        qc=qc,
        replicas=(),
    )
