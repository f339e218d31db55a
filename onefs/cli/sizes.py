"""Requests to the file servers, in parallel, for file sizes that are not in the database."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import TypeVar

from onefs import alf
from onefs.catalogue.catalogue import Catalogue
from onefs.config.settings import Settings
from onefs.content.content import Content
from onefs.errors import NotFound, OnefsError, ServerError, Stopping, UsageError
from onefs.lowlevel.parallel import run_parallel
from onefs.lowlevel.paths import absolute
from onefs.lowlevel.progress_display import ProgressDisplay
from onefs.model import Dataset, Session
from onefs.tree.layout import lab_folder_names, subject_folder_names, subject_layout
from onefs.tree.path_patterns import BY_EID, BY_REF
from onefs.tree.variant import split_variant

T = TypeVar("T")

#: number of requests at the same time
REQUEST_THREADS = 8
#: number of errors that are kept; further errors are only counted
_MAX_KEPT_FAILURES = 10


@dataclass(slots=True)
class SizeReport:
    """The numbers of requested sizes, and the first errors."""

    #: number of requested sizes that are known now
    known: int = 0
    #: number of sizes that could not be requested
    failed: int = 0
    #: the first errors, at most ``_MAX_KEPT_FAILURES``
    failures: list[OnefsError] = field(default_factory=list)

    def add_failure(self, error: OnefsError) -> None:
        """Count an error, and keep it if it is one of the first errors."""
        self.failed += 1
        if len(self.failures) < _MAX_KEPT_FAILURES:
            self.failures.append(error)


def path_in_tree(path: str, settings: Settings) -> str:
    """Convert a path in a mount of this database into a path in the tree (lab/subject/...).

    A path outside of these mounts is taken as a path in the tree. Raises UsageError if such a path
    begins with /, ./ or ../.
    """
    from onefs.mount.mount_registry import list_mounts

    may_be_in_tree = not os.path.isabs(path) and not path.startswith(("./", "../"))
    if may_be_in_tree and not os.path.lexists(path):
        return path.strip("/")
    real = os.path.realpath(absolute(path))  # the mount itself resolves the links in it
    for mount in list_mounts():
        if mount.url == settings.url and os.path.commonpath([mount.mountpoint, real]) == (
            mount.mountpoint
        ):
            parts = os.path.relpath(real, mount.mountpoint).split("/")
            _, below = split_variant([part for part in parts if part != "."])
            return "/".join(below)
    if may_be_in_tree:
        return path.strip("/")
    raise UsageError(f"{path} is not in a mount of {settings.url}: give a path like lab/subject")


def fetch_sizes(
    catalogue: Catalogue, content: Content, path: str, progress: ProgressDisplay
) -> SizeReport:
    """Request each unknown size below ``path`` (lab/subject/date/number/...).

    The path '' means all unknown sizes. The returned report has the errors for single files.
    Raises NotFound if the path does not exist. Raises an error such as Unreachable if the path
    cannot be listed.
    """
    report = SizeReport()
    outcomes = run_parallel(
        lambda item: _fetch_size(catalogue, content, *item),
        _datasets_without_size(catalogue, path),
        REQUEST_THREADS,
        "onefs-sizes",
    )
    for outcome in outcomes:
        if isinstance(outcome.error, OnefsError) and not isinstance(outcome.error, Stopping):
            report.add_failure(outcome.error)
        else:
            outcome.result()
            report.known += 1
        progress.show("sizes", report.known + report.failed, 0, "known")
    return report


def _fetch_size(catalogue: Catalogue, content: Content, session: Session, dataset: Dataset) -> None:
    try:
        catalogue.remember_size(dataset, content.probe_size(dataset))
    except ServerError:
        # the URL that was derived from the cache tables may be wrong
        if not catalogue.fetch_full_listing(session):
            raise
        for listed in catalogue.datasets(session).value:
            if listed.id == dataset.id and listed.size is None:
                catalogue.remember_size(listed, content.probe_size(listed))


def _datasets_without_size(catalogue: Catalogue, path: str) -> Iterator[tuple[Session, Dataset]]:
    parts = [part for part in path.split("/") if part]
    if len(parts) > 1 and parts[1] == alf.SUBJECTS:
        del parts[1]
    named = _sessions_by_name(catalogue, parts)
    inside = tuple(parts[4:] if named is None else parts[2:])
    for session in named or _sessions_below(catalogue, parts[:4]):
        for dataset in catalogue.datasets(session).value:
            place = (*alf.dataset_folder(dataset), alf.dataset_file(dataset))
            if dataset.size is None and place[: len(inside)] == inside:
                yield session, dataset


def _sessions_by_name(catalogue: Catalogue, parts: list[str]) -> list[Session] | None:
    """Return the sessions that the path ``.by-eid/EID`` or ``.by-ref/REF`` names.

    ``parts`` are the names in the path. Return None for other paths. Raises NotFound for an unknown
    session.
    """
    if len(parts) < 2 or parts[0] not in (BY_EID, BY_REF):
        return None
    ref = alf.parse_ref(parts[1])
    if parts[0] == BY_EID and alf.is_uuid(parts[1].lower()):
        return [catalogue.session(parts[1].lower())]
    if ref is None or not (sessions := catalogue.sessions_by_ref(ref)):
        raise NotFound(f"there is no session {parts[1]}")
    return sessions


def _sessions_below(catalogue: Catalogue, parts: list[str]) -> Iterator[Session]:
    """Yield the sessions at and below a path in the tree.

    ``parts`` are the names in the path: at most lab, subject, date and number.
    """
    names = [*parts, *[None] * (4 - len(parts))]
    for lab in _select(lab_folder_names(catalogue.labs().value), names[0]):
        for subject in _select(subject_folder_names(catalogue.subjects(lab).value), names[1]):
            dates = subject_layout(catalogue.sessions(lab, subject).value)
            for sessions in _select(dates, names[2]):
                number = names[3] and (alf.padded_number_folder(names[3]) or names[3])
                yield from _select(sessions, number)


def _select(named: Mapping[str, T], name: str | None) -> list[T]:
    """Return a list with the value for ``name``. If ``name`` is None, return all values.

    Raises NotFound if ``name`` is not a key in ``named``.
    """
    if name is None:
        return list(named.values())
    if name not in named:
        raise NotFound(
            f"there is no folder {name}: give lab/subject/date/number as the mount shows the "
            "folders"
        )
    return [named[name]]
