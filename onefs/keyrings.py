"""The system keyring (extra ``[keyring]``), where there is one that works.

Each call runs on a thread of its own with a time limit: a locked keyring may wait for a window
that nobody sees.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from typing import Any

SERVICE = "onefs"
#: seconds for one answer, in which the desktop may ask the user to unlock the keyring
TIMEOUT = 20.0

_log = logging.getLogger(__name__)


class KeyringAway(Exception):
    """No keyring, or one that fails or does not answer: use the file."""


class NoKeyring(KeyringAway):
    """None to ask: it is not installed, or its user has turned it off."""


class Keyring:
    """The keyring of this user. Given up for the rest of the process once it fails."""

    def __init__(self, timeout: float = TIMEOUT) -> None:
        self._timeout = timeout
        self._backend: Any = None
        self._given_up: type[KeyringAway] | None = None

    def get(self, key: str) -> str | None:
        """The secret of ``key``, None when there is none. Raises KeyringAway."""
        answer = self._call(lambda backend: backend.get_password(SERVICE, key))
        return answer if isinstance(answer, str) else None

    def set(self, key: str, secret: str) -> None:
        """Keep a secret. Raises KeyringAway."""
        self._call(lambda backend: backend.set_password(SERVICE, key, secret))

    def delete(self, key: str) -> bool:
        """Forget a secret. Returns whether there was one. Raises KeyringAway."""
        if self.get(key) is None:
            return False
        self._call(lambda backend: backend.delete_password(SERVICE, key))
        return True

    def _call(self, action: Callable[[Any], object]) -> object:
        if self._given_up is not None:
            raise self._given_up
        answers: list[object] = []
        failures: list[Exception] = []

        def run() -> None:
            try:
                self._backend = self._backend or _working_backend()
                answers.append(action(self._backend))
            except Exception as error:  # backends raise what they like, also from D-Bus
                failures.append(error)

        thread = threading.Thread(target=run, name="onefs-keyring", daemon=True)
        thread.start()
        thread.join(self._timeout)
        if answers:
            return answers[0]
        none = bool(failures) and isinstance(failures[0], NoKeyring | ImportError)
        self._given_up = NoKeyring if none else KeyringAway
        if not failures:
            _log.warning("the keyring did not answer within %g s", self._timeout)
        elif not isinstance(failures[0], KeyringAway | ImportError):
            _log.warning("the keyring fails (%s)", type(failures[0]).__name__)
        raise self._given_up


def _working_backend() -> Any:
    """The backend that keyring chooses, null and fail excepted.

    Raises ImportError (the extra is not installed), NoKeyring or KeyringAway.
    """
    import keyring
    from keyring.backends import chainer, fail, null

    backend = keyring.get_keyring()
    if isinstance(backend, null.Keyring):
        raise NoKeyring
    if isinstance(backend, fail.Keyring):
        raise KeyringAway
    if isinstance(backend, chainer.ChainerBackend) and not backend.backends:
        raise KeyringAway
    return backend
