"""The sessions and datasets that the flags of ``onefs get`` choose."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from onefs.errors import NotFound
from onefs.lowlevel.progress_display import ProgressDisplay
from onefs.qc import QC, is_at_most
from onefs.search.vocabulary import Query, parse_text
from onefs.tree.path_patterns import BY_EID, BY_REF

if TYPE_CHECKING:
    from onefs.access import Access
    from onefs.model import Dataset

#: most paths in the message that nothing was found there
_MAX_PATHS_IN_MESSAGE = 3


def parse_searches(texts: Sequence[str]) -> list[Query]:
    """Return the searches for texts like ``lab=cortexlab&users=olivier``. Raises UsageError."""
    return [parse_text(text) for text in texts]


def find_sessions(access: Access, queries: Sequence[Query], progress: ProgressDisplay) -> list[str]:
    """Return the paths of the sessions that the searches find.

    Raises NotFound for a search that finds none. Raises UsageError for a search without terms.
    """
    paths: list[str] = []
    for query in queries:
        progress.show(f"searching {query}:", len(paths), 0, "sessions so far")
        found = access.queries.search(replace(query, limit=None), query.limit)
        sessions = list(found.sessions())
        if not sessions:
            hint = access.queries.suggest_names(query) if not found.eids else ""
            raise NotFound(f"the search {query} finds no session{hint and f': {hint}'}")
        paths.extend(f"{BY_EID}/{session.eid}" for session in sessions)
    return list(dict.fromkeys(paths))


def prefetch_sessions(access: Access, patterns: Sequence[str]) -> None:
    """Fetch the listings of all sessions that are named by eid, with few requests."""
    eids = [each.removeprefix(f"{BY_EID}/") for each in patterns if each.startswith(f"{BY_EID}/")]
    access.catalogue.prefetch([eid for eid in eids if "/" not in eid])


def has_qc(dataset: Dataset, worst: str) -> bool:
    """Whether a dataset's QC is ``worst`` or better, in ONE's order: NOT_SET is the best."""
    return is_at_most(dataset.qc if dataset.qc in QC.__members__ else "", QC[worst])


def describe_choice(types: Sequence[str], qc: str | None) -> str:
    """Return the words for chosen types and QC in a message, or '' if nothing was chosen."""
    of_types = f" of type {' or '.join(types)}" if types else ""
    return of_types + (f" with QC {qc} or better" if qc else "")


def describe_paths(patterns: Sequence[str]) -> str:
    """Return the paths in a message: at most a few."""
    names = [each.removeprefix(f"{BY_EID}/").removeprefix(f"{BY_REF}/") for each in patterns]
    more = len(names) - _MAX_PATHS_IN_MESSAGE
    shown = ", ".join(names[:_MAX_PATHS_IN_MESSAGE])
    return f"{shown} and {more} other paths" if more > 0 else shown
