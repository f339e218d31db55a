"""The system keyring (extra ``[keyring]``), where there is one that works.

Each call runs on a thread of its own with a time limit: a locked keyring may wait for a window
that nobody sees.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from typing import Any

SERVICE_NAME = "onefs"
#: seconds for one answer, in which the desktop may ask the user to unlock the keyring
ANSWER_TIMEOUT_SECONDS = 20.0

_log = logging.getLogger(__name__)


class KeyringUnavailable(Exception):
    """No keyring, or one that fails or does not answer: use the file."""


class NoKeyringInstalled(KeyringUnavailable):
    """None to ask: it is not installed, or its user has turned it off."""


class Keyring:
    """The keyring of this user. Given up for the rest of the process once it fails."""

    def __init__(self, timeout: float = ANSWER_TIMEOUT_SECONDS) -> None:
        self._timeout = timeout
        self._backend: Any = None
        self._unavailable_error: type[KeyringUnavailable] | None = None

    def get(self, key: str) -> str | None:
        """The secret of ``key``, None when there is none. Raises KeyringUnavailable."""
        answer = self._call(lambda backend: backend.get_password(SERVICE_NAME, key))
        return answer if isinstance(answer, str) else None

    def set(self, key: str, secret: str) -> None:
        """Keep a secret. Raises KeyringUnavailable."""
        self._call(lambda backend: backend.set_password(SERVICE_NAME, key, secret))

    def delete(self, key: str) -> bool:
        """Forget a secret. Returns whether there was one. Raises KeyringUnavailable."""
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
            except Exception as error:  # backends raise what they like, also from D-Bus
                failures.append(error)

        thread = threading.Thread(target=run, name="onefs-keyring", daemon=True)
        thread.start()
        thread.join(self._timeout)
        if answers:
            return answers[0]
        none = bool(failures) and isinstance(failures[0], NoKeyringInstalled | ImportError)
        self._unavailable_error = NoKeyringInstalled if none else KeyringUnavailable
        if not failures:
            _log.warning("the keyring did not answer within %g s", self._timeout)
        elif not isinstance(failures[0], KeyringUnavailable | ImportError):
            _log.warning("the keyring fails (%s)", type(failures[0]).__name__)
        raise self._unavailable_error


def _find_backend() -> Any:
    """The backend that keyring chooses, null and fail excepted.

    Raises ImportError (the extra is not installed), NoKeyringInstalled or KeyringUnavailable.
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
