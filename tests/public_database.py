"""A small public database: a few synthetic sessions, served as a bucket without an Alyx."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager

from onefs.demo.bucket import PublicBucket
from onefs.demo.public_servers import PublicServers, bucket_files
from onefs.demo.records import SessionRecord, Source
from onefs.demo.synthetic import SyntheticLaboratory
from onefs.demo.synthetic.plan import TUTORIAL_EID, SessionKind

#: the tutorial's session, as a path in the tree
TUTORIAL = "mainenlab/clns0730/2018-08-24/001"


class FewSessions(SyntheticLaboratory):
    """The tutorial's session, and a session of each of two releases."""

    def __init__(self) -> None:
        super().__init__()
        eids = {TUTORIAL_EID}
        for kind in (SessionKind.EPHYS, SessionKind.BIASED):
            eids |= set([eid for eid, plan in self._plans.items() if plan.kind is kind][:1])
        self._few = tuple(each for each in super().sessions() if each.eid in eids)

    def sessions(self) -> Sequence[SessionRecord]:
        """Return the few sessions, latest first."""
        return self._few


@contextmanager
def serve_public(
    source: Source | None = None,
    *,
    rate: int | None = None,
    denied: Collection[str] = (),
    extra: Mapping[str, bytes] | None = None,
) -> Iterator[PublicServers]:
    """Serve a few sessions, or another laboratory, as a public database."""
    source = source or FewSessions()
    objects = PublicBucket(source, denied=denied, extra={**bucket_files(source), **(extra or {})})
    with PublicServers(objects, source, rate=rate) as servers:
        yield servers


def variables_of(servers: PublicServers) -> dict[str, str]:
    """Return the variables that point ``--public`` at these servers."""
    return {"ONEFS_PUBLIC_BUCKET": servers.bucket_url, "ONEFS_PUBLIC_DATA": servers.data_url}
