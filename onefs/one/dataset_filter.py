"""Selection among a session's datasets by ALF parts, QC and revision, by ONE-api's rules. No I/O.

The rules are those of ``one.util.filter_datasets`` in ONE-api 3.6.1.
"""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

from onefs.errors import UsageError
from onefs.one.alf_errors import alf_error
from onefs.one.alf_patterns import path_pattern
from onefs.one.dataset_records import DatasetRecord
from onefs.one.warn import warn
from onefs.qc import QC, is_at_most, parse_qc

#: the environment variable with the last revision to load
_REVISION_VARIABLE = "ONE_REVISION_LAST_BEFORE"


def revision_of_environment() -> str | None:
    """Return the revision in the environment variable ONE_REVISION_LAST_BEFORE, or None."""
    return os.environ.get(_REVISION_VARIABLE) or None


@dataclass(frozen=True, slots=True)
class QcLimit:
    """Selects datasets by their outcome of quality control."""

    #: the outcomes of the selected datasets
    outcomes: frozenset[str]

    @classmethod
    def parse(cls, qc: object, ignore_not_set: bool = False) -> QcLimit:
        """Return the limit for the arguments ``qc`` and ``ignore_qc_not_set``.

        ``qc`` is the worst outcome to select: its name, or its number in Alyx. Raises UsageError
        for an invalid outcome.
        """
        worst = parse_qc(qc)
        return cls(
            frozenset(
                name
                for name in QC.__members__
                if is_at_most(name, worst, ignore_not_set=bool(ignore_not_set))
            )
        )


#: the limit of all verbs that load: CRITICAL datasets are left out
DEFAULT_QC = QcLimit.parse("FAIL")


@dataclass(frozen=True, slots=True)
class DatasetFilter:
    """The arguments of a selection. A pattern that is None matches every dataset.

    ``filename``, ``collection`` and ``revision`` are the arguments of
    :func:`onefs.one.alf_patterns.path_pattern`.
    """

    filename: object = None
    collection: object = None
    revision: object = None
    qc: QcLimit = DEFAULT_QC
    #: whether patterns are those of the shell, and not regular expressions
    wildcards: bool = True

    def matching(
        self, records: Iterable[DatasetRecord], *, match_revision: bool = True
    ) -> list[DatasetRecord]:
        """Return the records whose path matches the patterns, in the same order.

        Without ``match_revision``, the revision is not compared.
        """
        is_match = self.path_test(match_revision=match_revision)
        return [each for each in self.with_outcome(records) if is_match(each.rel_path)]

    def path_test(self, *, match_revision: bool = True) -> Callable[[str], bool]:
        """Return a function that says whether the path of a dataset matches the patterns."""
        pattern = path_pattern(
            self.filename,
            self.collection,
            self.revision,
            match_revision=match_revision,
            wildcards=self.wildcards,
        )
        return lambda path: pattern.match(path) is not None

    def with_outcome(self, records: Iterable[DatasetRecord]) -> Iterator[DatasetRecord]:
        """Yield the records whose outcome of quality control is good enough."""
        outcomes = self.qc.outcomes
        return (each for each in records if each.dataset.qc in outcomes)

    def unique(
        self, records: Iterable[DatasetRecord], *, exact_revision: bool = False
    ) -> list[DatasetRecord]:
        """Return a list of the only selected dataset, or [] if there is none.

        With ``exact_revision``, the revision is a pattern. Otherwise the version is chosen as in
        :meth:`latest`. Raises Ambiguous if several datasets are selected.
        """
        matching = self.matching(records, match_revision=exact_revision)
        _refuse_several("collections", {each.dataset.collection for each in matching})
        if exact_revision:
            _refuse_several("revisions", {each.dataset.revision for each in matching})
        else:
            matching = self._versions(matching, assert_unique=True)
        _refuse_several("objects", [each.rel_path for each in matching])
        return matching

    def latest(self, records: Iterable[DatasetRecord]) -> list[DatasetRecord]:
        """Return one version of each matching file.

        It is the last revision that is not after ``revision``. If ``revision`` is None, it is the
        default revision, or the last one if there is not exactly one default.
        """
        return self._versions(self.matching(records, match_revision=False), assert_unique=False)

    def _versions(
        self, records: Sequence[DatasetRecord], *, assert_unique: bool
    ) -> list[DatasetRecord]:
        if self.revision is not None and not isinstance(self.revision, str):
            raise UsageError(
                f"the argument revision is {type(self.revision).__name__}: give a text"
            )
        files: dict[str, list[DatasetRecord]] = defaultdict(list)
        for record in records:
            files[record.path_without_revision].append(record)
        chosen = [
            _version(versions, self.revision, assert_unique)
            for _, versions in sorted(files.items())
        ]
        selected = [each for each in chosen if each is not None]
        revisions = list(dict.fromkeys(each.dataset.revision for each in selected))
        if len(revisions) > 1:
            warn(f"the datasets have several revisions: {_quoted(revisions)}")
        # as pandas does: the order is only changed if a dataset is left out
        return selected if len(selected) < len(records) else list(records)


def _version(
    versions: Sequence[DatasetRecord], revision: str | None, assert_unique: bool
) -> DatasetRecord | None:
    if revision is None:
        defaults = [each for each in versions if each.dataset.default]
        if len(defaults) == 1:
            return defaults[0]
        if defaults and assert_unique:
            _refuse_several("revisions", [each.dataset.revision for each in defaults])
        if len(versions) == 1:
            return versions[0]
        warn(
            f"the dataset {versions[0].rel_path} has no single default revision: "
            "the last revision is used"
        )
        candidates = versions
    else:
        candidates = [each for each in versions if each.dataset.revision <= revision]
    return max(candidates, key=lambda each: each.dataset.revision, default=None)


def _refuse_several(what: str, names: Iterable[str]) -> None:
    """Raise Ambiguous if there are several ``names`` of collections, revisions or objects."""
    listed = sorted(names)
    if len(listed) > 1:
        raise alf_error(
            f"multiple_{what}",
            f"the dataset is not unique, it has several {what}: {_quoted(listed)}",
        )


def _quoted(names: Iterable[str]) -> str:
    return ", ".join(f'"{name}"' for name in names)
