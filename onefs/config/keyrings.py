"""The system keyring (extra ``[keyring]``), if there is a keyring that works.

Each call runs in a separate thread with a time limit, because a locked keyring may wait for an
answer in a window that is on no screen.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from typing import Any

SERVICE_NAME = "onefs"
#: the longest time to wait for an answer. In this time the user may have to unlock the keyring
ANSWER_TIMEOUT_SECONDS = 20.0

_log = logging.getLogger(__name__)


class KeyringUnavailable(Exception):
    """The keyring is missing, fails or does not answer. Secrets are then stored in a file."""


class NoKeyringInstalled(KeyringUnavailable):
    """No keyring library is installed, or the user has turned the keyring off."""


class Keyring:
    """The keyring of this user. After a failure this object does not use the keyring again."""

    def __init__(self, timeout: float = ANSWER_TIMEOUT_SECONDS) -> None:
        self._timeout = timeout
        self._backend: Any = None
        self._unavailable_error: type[KeyringUnavailable] | None = None

    def get(self, key: str) -> str | None:
        """Return the secret for ``key``, or None if the keyring has no such secret.

        Raises KeyringUnavailable.
        """
        answer = self._call(lambda backend: backend.get_password(SERVICE_NAME, key))
        return answer if isinstance(answer, str) else None

    def set(self, key: str, secret: str) -> None:
        """Store a secret for ``key``. Raises KeyringUnavailable."""
        self._call(lambda backend: backend.set_password(SERVICE_NAME, key, secret))

    def delete(self, key: str) -> bool:
        """Remove the secret for ``key``. Return False if the keyring had no such secret, else True.

        Raises KeyringUnavailable.
        """
        if self.get(key) is None:
            return False
        self._call(lambda backend: backend.delete_password(SERVICE_NAME, key))
        return True

    def _call(self, action: Callable[[Any], object]) -> object:
        if self._unavailable_error is not None:
            raise self._unavailable_error
        answers: list[object] = []
        failures: list[Exception] = []

        def run() -> None:
            try:
                self._backend = self._backend or _find_backend()
                answers.append(action(self._backend))
            except Exception as error:  # backends raise errors of all kinds, also those of D-Bus
                failures.append(error)

        thread = threading.Thread(target=run, name="onefs-keyring", daemon=True)
        thread.start()
        thread.join(self._timeout)
        if answers:
            return answers[0]
        is_absent = bool(failures) and isinstance(failures[0], NoKeyringInstalled | ImportError)
        self._unavailable_error = NoKeyringInstalled if is_absent else KeyringUnavailable
        if not failures:
            _log.warning("the keyring did not answer within %g s", self._timeout)
        elif not isinstance(failures[0], KeyringUnavailable | ImportError):
            _log.warning("the keyring fails (%s)", type(failures[0]).__name__)
        raise self._unavailable_error


def _find_backend() -> Any:
    """Return the backend that the keyring library chooses.

    Raises ImportError if the library is not installed, NoKeyringInstalled if the keyring is turned
    off, and KeyringUnavailable if there is no keyring.
    """
    import keyring
    from keyring.backends import chainer, fail, null

    backend = keyring.get_keyring()
    if isinstance(backend, null.Keyring):
        raise NoKeyringInstalled
    if isinstance(backend, fail.Keyring):
        raise KeyringUnavailable
    if isinstance(backend, chainer.ChainerBackend) and not backend.backends:
        raise KeyringUnavailable
    return backend
