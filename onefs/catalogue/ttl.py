"""How long an answer of Alyx is taken for true. ``docs/SEMANTICS.md`` promises these numbers."""

from __future__ import annotations

from datetime import date, timedelta
from functools import lru_cache

from onefs.model import Session

#: seconds that a listing stays fresh
LABS_TTL_SECONDS = 3600.0
SUBJECTS_TTL_SECONDS = 3600.0
REPOSITORIES_TTL_SECONDS = 86400.0
#: a subject's sessions; the datasets of a session of the last 7 days, of 31 days, and older
RECENT_TTL_SECONDS = 300.0
MONTH_TTL_SECONDS = 3600.0
OLD_TTL_SECONDS = 86400.0
#: what cache tables said of sessions, and of the datasets of sessions older than 31 days: a new
#: sync renews them all, and the first opening of a file asks for its session in any case
TABLES_TTL_SECONDS = 7 * 86400.0
#: days before the tables were made in which sessions may have been registered that they lack
TABLES_OVERLAP_DAYS = 7
#: "there is no session of that ref"
NEGATIVE_TTL_SECONDS = 30.0
#: seconds during which what has just failed is not asked for again
FAILURE_PAUSE_SECONDS = 2.0


def session_ttl_seconds(session: Session, now: float) -> float:
    """How long a session's datasets and record stay fresh: the older the session, the longer."""
    recent, month = _week_and_month_ago(int(now // 60))
    if session.date >= recent:
        return RECENT_TTL_SECONDS
    return MONTH_TTL_SECONDS if session.date >= month else OLD_TTL_SECONDS


@lru_cache(maxsize=4)  # each look at a session asks
def _week_and_month_ago(minute: int) -> tuple[str, str]:
    """The days a week and a month ago."""
    today = date.fromtimestamp(minute * 60)
    week, month = timedelta(days=7), timedelta(days=31)
    return (today - week).isoformat(), (today - month).isoformat()
