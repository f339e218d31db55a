"""Whether and when to send a request again: a pure decision, without waiting."""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from email.utils import parsedate_to_datetime

from onefs.errors import Offline, OnefsError, ServerError, Throttled, Unreachable
from onefs.http.error_mapping import is_permanent

#: attempts of one request in all, unless the caller passes another number
MAX_ATTEMPTS = 4
#: seconds before the second attempt; doubled for each later one
FIRST_DELAY_SECONDS = 0.25
MAX_DELAY_SECONDS = 8.0
#: longest ``Retry-After`` in seconds that is believed
MAX_RETRY_AFTER_SECONDS = 86400.0
#: characters of a ``Retry-After`` that are read
_MAX_HEADER_CHARACTERS = 100

_RETRYABLE_STATUSES = frozenset({429, 500, 502, 503, 504})


def retry_delay(
    outcome: OnefsError | int,
    attempt: int,
    retry_after: float | None = None,
    *,
    attempts: int = MAX_ATTEMPTS,
    jitter: Callable[[], float] = random.random,
) -> float | None:
    """Seconds to wait before attempt ``attempt + 1``, or None to give up.

    ``outcome`` is the error or the HTTP status of attempt number ``attempt`` (from 1),
    ``retry_after`` the server's own number of seconds, a lower bound of the result; ``jitter``
    returns a random number from 0 to 1. Retried are failed connections (except for an invalid
    certificate or an unknown name), truncated responses, 429, 502, 503, 504, and a 500 without
    ``detail``: a 500 of Alyx with a ``detail`` is the request's own fault. An expired deadline is
    not retried.
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
    return isinstance(outcome, Throttled | Unreachable) and not is_permanent(outcome)


def retry_after_seconds(value: str | None, now: Callable[[], float] = time.time) -> float | None:
    """The ``Retry-After`` header (RFC 9110, 10.2.3) in seconds, at most a day.

    None when it is absent, or neither a number nor a date.
    """
    text = (value or "")[:_MAX_HEADER_CHARACTERS].strip()
    try:
        if text.isascii() and text.isdigit():
            seconds = float(text)
        else:
            seconds = parsedate_to_datetime(text).timestamp() - now()
    except (ValueError, OverflowError, TypeError, IndexError):  # email.utils raises all of them
        return None
    return min(max(0.0, seconds), MAX_RETRY_AFTER_SECONDS)
