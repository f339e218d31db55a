"""Decides whether and when to send a request again. The functions do not wait."""

from __future__ import annotations

import time
from collections.abc import Callable

from onefs.errors import Offline, OnefsError, ServerError, Throttled, Unreachable
from onefs.lowlevel.files import own_random

#: attempts for one request, including the first, unless the caller passes another number
MAX_ATTEMPTS = 4
#: seconds before the second attempt; doubled before each later attempt
FIRST_DELAY_SECONDS = 0.25
MAX_DELAY_SECONDS = 8.0
#: largest number of seconds in ``Retry-After``; a larger number is reduced to this number
MAX_RETRY_AFTER_SECONDS = 86400.0
#: number of characters of a ``Retry-After`` header that are read
_MAX_HEADER_CHARACTERS = 100

_RETRYABLE_STATUSES = frozenset({429, 500, 502, 503, 504})


def retry_delay(
    outcome: OnefsError | int,
    attempt: int,
    retry_after: float | None = None,
    *,
    attempts: int = MAX_ATTEMPTS,
    jitter: Callable[[], float] = own_random.random,
) -> float | None:
    """Return the seconds to wait before the next attempt, or None if a retry is useless.

    - ``outcome``: the error or the HTTP status of the last attempt
    - ``attempt``: the number of this attempt, from 1
    - ``retry_after``: the seconds that the server asks to wait; the returned time is not shorter
    - ``jitter``: returns a random number from 0 to 1

    A retry is useful after these outcomes:

    - a failed connection, except for an invalid certificate or an unknown host name
    - a truncated response
    - the statuses 429, 502, 503 and 504
    - a 500 without ``detail``

    Alyx sends a 500 with ``detail`` if the request itself is wrong. An expired deadline is not
    retried.
    """
    if attempt >= attempts or not _is_retryable(outcome):
        return None
    backoff = min(FIRST_DELAY_SECONDS * 2.0 ** (attempt - 1), MAX_DELAY_SECONDS)
    least: float = outcome.retry_after if isinstance(outcome, Throttled) else 0.0
    return max(retry_after or 0.0, least) + backoff * (0.5 + 0.5 * jitter())


def _is_retryable(outcome: OnefsError | int) -> bool:
    if isinstance(outcome, int):
        return outcome in _RETRYABLE_STATUSES
    if isinstance(outcome, ServerError):
        return outcome.status == 0 or (outcome.status in _RETRYABLE_STATUSES and not outcome.detail)
    if isinstance(outcome, Offline):
        return False
    if not isinstance(outcome, Throttled | Unreachable):
        return False
    # loaded with the first request, by onefs.http.sender
    from onefs.http.error_mapping import is_permanent

    return not is_permanent(outcome)


def retry_after_seconds(value: str | None, now: Callable[[], float] = time.time) -> float | None:
    """Return the time in a ``Retry-After`` header (RFC 9110, 10.2.3) in seconds, at most a day.

    Return None without a header, and for a header that is neither a number nor a date.
    """
    text = (value or "")[:_MAX_HEADER_CHARACTERS].strip()
    try:
        if text.isascii() and text.isdigit():
            seconds = float(text)
        else:
            # slow to import, and rarely needed; loaded with the first request, by urllib3
            from email.utils import parsedate_to_datetime

            seconds = parsedate_to_datetime(text).timestamp() - now()
    except (ValueError, OverflowError, TypeError, IndexError):  # email.utils raises all of them
        return None
    return min(max(0.0, seconds), MAX_RETRY_AFTER_SECONDS)
