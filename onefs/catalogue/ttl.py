"""How long an answer of Alyx is valid. ``docs/SEMANTICS.md`` promises these numbers."""

from __future__ import annotations

from datetime import date, timedelta
from functools import lru_cache

from onefs.model import Session

#: seconds for which a listing is fresh
LABS_TTL_SECONDS = 3600.0
SUBJECTS_TTL_SECONDS = 3600.0
REPOSITORIES_TTL_SECONDS = 86400.0
#: a subject's sessions; the datasets of a session of the last 7 days, of 31 days, and older
RECENT_TTL_SECONDS = 300.0
MONTH_TTL_SECONDS = 3600.0
OLD_TTL_SECONDS = 86400.0
#: sessions from cache tables, and the datasets from cache tables of sessions older than 31 days:
#: a new sync renews them all, and the first opening of a file requests its session in any case
TABLES_TTL_SECONDS = 7 * 86400.0
#: days before the tables were made from which they may lack registered sessions
TABLES_OVERLAP_DAYS = 7
#: the negative TTL of a ref: the answer that there is no such session
NEGATIVE_TTL_SECONDS = 30.0
#: seconds after a failed request in which it is not repeated
FAILURE_PAUSE_SECONDS = 2.0


def session_ttl_seconds(session: Session, now: float) -> float:
    """Seconds for which a session's datasets and record are fresh: longer for older sessions."""
    recent, month = _week_and_month_ago(int(now // 60))
    if session.date >= recent:
        return RECENT_TTL_SECONDS
    return MONTH_TTL_SECONDS if session.date >= month else OLD_TTL_SECONDS


@lru_cache(maxsize=4)  # called for each look at a session
def _week_and_month_ago(minute: int) -> tuple[str, str]:
    """The ISO dates a week and a month before a minute of the epoch."""
    today = date.fromtimestamp(minute * 60)
    week, month = timedelta(days=7), timedelta(days=31)
    return (today - week).isoformat(), (today - month).isoformat()
