"""The users of the server: their tokens, the public users, and the limit on requests."""

from __future__ import annotations

import hashlib
import hmac
import math
import threading
import time
from collections import defaultdict, deque
from collections.abc import Collection

from onefs.demo.records import Login
from onefs.demo.rest.errors import ApiError, forbidden

_WINDOW_SECONDS = 60.0


class Accounts:
    """Alyx's users and their tokens.

    A token is computed from name and password, so that a restarted server accepts the same token.
    """

    def __init__(self, login: Login, public_users: Collection[str]) -> None:
        self._passwords = {login.username: login.password, **login.others}
        self._tokens = {_token(name, word): name for name, word in self._passwords.items()}
        self._public = frozenset(public_users)

    def token(self, username: str, password: str) -> str | None:
        """Return the token of a user, which is always the same.

        Return None if the name or the password is wrong.
        """
        known = self._passwords.get(username, "")
        right = hmac.compare_digest(known.encode(), password.encode())
        return _token(username, password) if right and username in self._passwords else None

    def user(self, authorization: str | None) -> str:
        """Return the name of the user whose token is in an ``Authorization`` header.

        Raises ApiError 403, as Alyx does, if there is no valid token.
        """
        scheme, _, rest = (authorization or "").strip().partition(" ")
        credentials = rest.split()
        if scheme.lower() != "token":
            raise forbidden("Authentication credentials were not provided.")
        if not credentials:
            raise forbidden("Invalid token header. No credentials provided.")
        if len(credentials) > 1:
            raise forbidden("Invalid token header. Token string should not contain spaces.")
        name = self._tokens.get(credentials[0])
        if name is None:
            raise forbidden("Invalid token.")
        return name

    def is_public(self, username: str) -> bool:
        """Whether a user is a public account, which may only send GET requests."""
        return username in self._public


def _token(username: str, password: str) -> str:
    return hashlib.sha1(f"onefs demo\0{username}\0{password}".encode()).hexdigest()


class Throttle:
    """A limit on the number of requests that each user may send within 60 seconds."""

    def __init__(self, per_minute: int) -> None:
        self._per_minute = per_minute
        self._lock = threading.Lock()
        self._times: dict[str, deque[float]] = defaultdict(deque)

    def check(self, user: str) -> None:
        """Count one request, or raise ApiError 429 with ``Retry-After`` if the limit is reached."""
        now = time.monotonic()
        with self._lock:
            times = self._times[user]
            while times and times[0] <= now - _WINDOW_SECONDS:
                times.popleft()
            if len(times) < self._per_minute:
                times.append(now)
                return
            wait = math.ceil(_WINDOW_SECONDS - (now - times[0])) if times else int(_WINDOW_SECONDS)
        unit = "second" if wait == 1 else "seconds"
        detail = f"Request was throttled. Expected available in {wait} {unit}."
        raise ApiError(429, {"detail": detail}, {"Retry-After": str(wait)})
