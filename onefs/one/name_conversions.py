"""Conversion of the names of sessions and datasets, as ONE-api does: eids, paths, refs and URLs."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from contextlib import suppress
from datetime import date
from pathlib import Path, PurePath
from typing import TYPE_CHECKING, Any
from urllib.parse import quote
from uuid import UUID

from onefs import alf
from onefs.errors import (
    Ambiguous,
    NoAlyx,
    NotFound,
    OnefsError,
    Stopping,
    Unreachable,
    UsageError,
)
from onefs.model import Dataset, Session, shown_url
from onefs.one.alf_errors import alf_error
from onefs.one.alf_grammar import is_session_path
from onefs.one.alf_paths import ALFPath
from onefs.one.dataset_records import rel_path
from onefs.one.session_refs import dict_to_ref, is_exp_ref, ref_to_dict

if TYPE_CHECKING:
    from onefs.access import Access
    from onefs.one.laboratory import Laboratory
    from onefs.one.resolver import SessionResolver

#: the keys of a dict that names a session by its path
_PATH_KEYS = {"subject", "number", "lab"}
#: most eids in one search for unknown sessions
_EIDS_PER_SEARCH = 80


class NameConversions:
    """Converts names of sessions and datasets in one laboratory.

    ``access`` is the laboratory if it is not another user's mount. ``url`` is Alyx's address.
    Methods raise the errors of
    requests to Alyx, and UsageError for a name that is invalid. An object serves one call of a
    method of ``ONE``, because it keeps the listings of datasets.
    """

    def __init__(
        self,
        laboratory: Laboratory,
        resolver: SessionResolver,
        access: Access | None,
        *,
        offline: bool,
        url: str = "",
    ) -> None:
        self._laboratory, self._resolver, self._access = laboratory, resolver, access
        self._offline, self._url = offline, url
        self._listed: dict[str, dict[tuple[str, ...], Dataset]] = {}

    # -- sessions

    def to_eid(self, name: object, cache_dir: Path | None = None) -> str | None:
        """Return the eid in or of a name. The session of an eid may be unknown.

        Return None for None, and for the path of an unknown session.
        """
        if name is None:
            return None
        if isinstance(name, UUID):
            return str(name)
        if is_exp_ref(name):
            return self.ref_to_eid(name)
        if isinstance(name, Mapping):
            return self.path_to_eid(_path_of_record(name, cache_dir or self._laboratory.cache_dir))
        if isinstance(name, PurePath):
            return self.path_to_eid(name)
        if not isinstance(name, str):
            raise UsageError(f"{type(name).__name__} is not a name of a session")
        text = name.strip()
        if is_session_path(text) or ALFPath(text).session_path() is not None:
            return self.path_to_eid(text)
        eid = text[-36:].lower()
        if not alf.is_uuid(eid):
            raise UsageError(
                f"{ascii(name)[:80]} is not a name of a session: give an eid, a reference, a path "
                "or Alyx's URL"
            )
        return eid

    def eid_of(self, name: object) -> str:
        """Return the eid of a name. Raises UsageError if there is none."""
        eid = self.to_eid(name)
        if eid is None:
            raise UsageError(f"{ascii(name)[:80]} names no session that the database has")
        return eid

    def fetch_sessions(self, names: Iterable[object], *, with_times: bool = False) -> None:
        """Request the sessions that the catalogue lacks, many with each request.

        With ``with_times``, the catalogue lacks a session, too, if it is only in cache tables,
        which do not have the time at which it began.
        """
        from onefs.search.vocabulary import parse_terms

        if self._access is None or self._offline:
            return
        eids = [str(name).strip().lower() for name in names if isinstance(name, (str, UUID))]
        eids = list(filter(alf.is_uuid, dict.fromkeys(eids)))
        sessions = self._access.database.sessions_by_eid(eids)
        known = {session.eid for session in sessions if session.start_time or not with_times}
        unknown = [eid for eid in eids if eid not in known]
        if len(unknown) < (1 if with_times else 2):
            return
        for begin in range(0, len(unknown), _EIDS_PER_SEARCH):
            some = ",".join(f"'{eid}'" for eid in unknown[begin : begin + _EIDS_PER_SEARCH])
            try:
                self._access.queries.search(parse_terms({"django": f"id__in,[{some}]"}))
            except Stopping:
                raise
            except OnefsError:  # each session is requested by itself, with an error of its own
                return

    def session(self, eid: str) -> Session:
        """Return a session, with or without a folder. Raises NotFound if there is none."""
        try:
            return self._resolver.any_session(eid)
        except (NotFound, Unreachable) as error:  # without an Alyx, the tables list all sessions
            if isinstance(error, Unreachable) and not self._is_unknown(error):
                raise
            raise alf_error("object_not_found", str(error)) from error

    def _is_unknown(self, error: Unreachable) -> bool:
        """Whether a name that Alyx was to be asked for counts as unknown."""
        return self._offline or isinstance(error, NoAlyx)

    def eid_to_path(self, eid: str) -> ALFPath | None:
        """Return the path of a session's folder, or None if it is unknown or has no folder."""
        try:
            place = self._resolver.paths.place(self._resolver.session(eid))
        except NotFound:
            return None
        except Unreachable as error:
            if not self._is_unknown(error):
                raise
            return None
        return ALFPath(self._resolver.paths.file_path(place))

    def path_to_eid(self, path: object) -> str | None:
        """Return the eid of the session in a path, or None if the path has no known session.

        The lab in the path is used only if several sessions have its subject, date and number.
        """
        if not isinstance(path, (str, PurePath)):
            raise UsageError(f"{type(path).__name__} is not a path")
        parts = ALFPath(path).session_path()
        try:
            if parts is None:
                # a folder with a mark, such as 001~0123abcd, or a link below .by-eid
                return self._resolver.eid(str(path)) if "/" in str(path) else None
            return self._eid_of_parts(parts)
        except (NotFound, UsageError):
            return None
        except Unreachable as error:
            if not self._is_unknown(error):
                raise
            return None

    def _eid_of_parts(self, path: ALFPath) -> str | None:
        subject, day, number = path.parts[-3:]
        if len(number) > 9:
            return None
        ref = alf.Ref(day, int(number), subject)
        sessions = self._resolver.paths.sessions_by_ref(ref)
        if len(sessions) > 1:
            try:
                return self._resolver.eid(str(path))
            except NotFound:
                eids = ", ".join(session.eid for session in sessions)
                raise Ambiguous(
                    f"the path {path} matches {len(sessions)} sessions: {eids}; give one of these "
                    "eids"
                ) from None
        return sessions[0].eid if sessions else None

    def ref_to_eid(self, ref: object) -> str:
        """Return the eid of a reference.

        Raises NotFound if there is no such session, and Ambiguous if there are several.
        """
        text = dict_to_ref(ref_to_dict(ref))
        try:
            return self._resolver.eid(text)
        except (NotFound, NoAlyx) as error:
            raise alf_error("object_not_found", str(error)) from error

    def details(self, eid: str) -> dict[str, Any]:
        """Return the fields of a session in Alyx's list of sessions, with its date and path."""
        from onefs.search.offline import row_of_session

        session = self.session(eid)
        if not session.start_time and self._access is not None:
            # the row of a search is newer than that of the tables, which lack the time
            (session,) = self._access.database.sessions_by_eid([eid]) or (session,)
        row = row_of_session(session, self._url)
        path = self.eid_to_path(eid) if session.has_folder else None
        return {
            **{name: value for name, value in row.items() if name != "id"},
            "projects": ",".join(session.projects),
            "date": date.fromisoformat(session.date),
            "local_path": path,
        }

    # -- datasets

    def dataset(self, path: str | PurePath) -> tuple[Session, Dataset] | None:
        """Return the dataset at a path, and its session. Return None if there is none.

        The path may be in the cache, in a mount or relative to a folder of subjects. A UUID in the
        file's name decides.
        """
        path = ALFPath(path)
        for uuid, _ in alf.names_with_uuid(path.name):
            return self._dataset_by_id(uuid)
        try:
            eid = self.path_to_eid(path)
            if eid is None:
                return None
            session = self._resolver.session(eid)
            below = () if path.session_path() is None else path.relative_to_session().parts
            listed = self._datasets(session).get(below)
            if listed is not None:
                return session, listed
            session, _, dataset = self._resolver.dataset(str(path))
        except (NotFound, UsageError):
            return None
        return session, dataset

    def path_to_url(self, path: str | PurePath) -> str | None:
        """Return the URL of the file at a path. Offline, return None for an unknown file.

        Raises NotFound if there is no such dataset.
        """
        found = self.dataset(path)
        if found is not None:
            return self.url_of_dataset(found[1])
        if self._offline:
            return None
        raise alf_error("object_not_found", f"no file server has a dataset at {path}")

    def _dataset_by_id(self, uuid: str) -> tuple[Session, Dataset] | None:
        if self._access is None:
            return None
        unknown = (NotFound, Unreachable) if self._offline else (NotFound,)
        with suppress(*unknown):
            eid = self._access.queries.session_of_dataset(uuid)
            session = self._resolver.session(eid)
            for dataset in self._datasets(session).values():
                if uuid in (dataset.uuid, dataset.id):
                    return session, dataset
        return None

    def _datasets(self, session: Session) -> dict[tuple[str, ...], Dataset]:
        """Return the datasets of a session by their path below it, in the tree and in ONE-api."""
        found = self._listed.get(session.eid)
        if found is None:
            placed = self._resolver.datasets(session)
            found = {tuple(rel_path(dataset).split("/")): dataset for _, dataset in placed}
            found.update(placed)
            self._listed[session.eid] = found
        return found

    def dataset_of_record(self, eid: str | None, uuid: str) -> Dataset:
        """Return the dataset with an id, in a session if it is known.

        Raises NotFound if there is none.
        """
        if eid is not None:
            for dataset in self._datasets(self._resolver.session(eid)).values():
                if uuid in (dataset.uuid, dataset.id):
                    return dataset
        else:
            found = self._dataset_by_id(uuid)
            if found is not None:
                return found[1]
        raise alf_error("object_not_found", f"the database has no dataset {uuid} on a file server")

    def url_of_dataset(self, dataset: Dataset) -> str:
        """Return the URL of a dataset's file. Raises NotFound if it is not known."""
        url = shown_url(dataset.replicas)
        if not url:
            raise alf_error(
                "object_not_found", f"no file server is known that has the dataset {dataset.name}"
            )
        return url

    def url_of_session(self, lab: str, subject: str, day: str, number: int) -> str:
        """Return the URL of a session's folder on a file server of its lab.

        Raises NotFound if there is no such file server.
        """
        repositories = () if self._access is None else self._access.catalogue.repositories().value
        urls = [
            each.data_url.rstrip("/")
            for _, each in sorted(dict(repositories).items(), reverse=True)
            if not each.personal and each.data_url.startswith("http")
        ]
        for url in urls:
            if url.endswith(f"/{quote(lab)}/{alf.SUBJECTS}"):
                return f"{url}/{quote(subject)}/{day}/{alf.number_folder(number)}"
        raise alf_error("object_not_found", f"no file server is known that has files of {lab}")


def _path_of_record(record: Mapping[Any, Any], root: Path) -> ALFPath:
    """Return the path of the session in a record with subject, date, number and lab."""
    if not record.keys() >= _PATH_KEYS or not record.keys() & {"date", "start_time"}:
        raise UsageError("the dict names no session: it needs lab, subject, number and date")
    day = str(record.get("date") or record["start_time"])[:10]
    folder = alf.number_folder(int(record["number"]))
    return ALFPath(root, str(record["lab"]), alf.SUBJECTS, str(record["subject"]), day, folder)
