"""TTLs: how long an answer of Alyx is valid. ``docs/SEMANTICS.md`` promises these numbers."""

from __future__ import annotations

from datetime import date, timedelta
from functools import lru_cache

from onefs.model import Session

#: seconds for which the listing of labs, of subjects or of repositories is fresh
LABS_TTL_SECONDS = 3600.0
SUBJECTS_TTL_SECONDS = 3600.0
REPOSITORIES_TTL_SECONDS = 86400.0
#: seconds for which a subject's sessions, and the datasets of a session of the last 7 days, are
#: fresh
RECENT_TTL_SECONDS = 300.0
#: seconds for which the datasets of a session of the last 31 days are fresh
MONTH_TTL_SECONDS = 3600.0
#: seconds for which the datasets of an older session are fresh
OLD_TTL_SECONDS = 86400.0
#: seconds for which two kinds of listings from cache tables are fresh: sessions, and the datasets
#: of sessions older than 31 days. This TTL is long because a new sync renews all these listings,
#: and because the first opening of a file requests the datasets of its session in any case
TABLES_TTL_SECONDS = 7 * 86400.0
#: sessions that were registered up to this many days before the tables were made may be missing
#: from the tables
TABLES_OVERLAP_DAYS = 7
#: seconds for which an answer is valid which says that no session has a ref
NEGATIVE_TTL_SECONDS = 30.0
#: seconds after a failed request in which the request is not repeated
FAILURE_PAUSE_SECONDS = 2.0


def session_ttl_seconds(session: Session, now: float) -> float:
    """Return for how many seconds a session's datasets and record are fresh.

    - 5 minutes for a session of the last 7 days.
    - 1 hour for a session of the last 31 days.
    - 1 day for an older session.
    """
    recent, month = _week_and_month_ago(int(now // 60))
    if session.date >= recent:
        return RECENT_TTL_SECONDS
    return MONTH_TTL_SECONDS if session.date >= month else OLD_TTL_SECONDS


@lru_cache(maxsize=4)  # called each time that a session is looked at
def _week_and_month_ago(minute: int) -> tuple[str, str]:
    """Return the ISO dates of 7 days and of 31 days ago.

    ``minute`` is the current time, in minutes since the epoch.
    """
    today = date.fromtimestamp(minute * 60)
    week, month = timedelta(days=7), timedelta(days=31)
    return (today - week).isoformat(), (today - month).isoformat()
