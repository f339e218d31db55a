"""The errors that onefs raises, each with one errno.

::

    OnefsError                    EIO           the root; not raised itself
     +- UsageError                EINVAL        an invalid flag, value or path
     +- NotConfigured             EACCES        no profile, flag or variable names a server
     +- NotFound                  ENOENT        there is no such thing, by the catalogue
     +- Ambiguous                 ENOTUNIQ      one name, several things; the message lists them
     |   +- SeveralDatasets                     one dataset type, several datasets
     +- ReadOnly                  EROFS         onefs does not write
     +- CredentialsError          EACCES        a server rejects the token or password
     |   +- AlyxCredentials
     |   +- DataServerCredentials
     +- Unreachable               EHOSTUNREACH  the server cannot be reached
     |   +- Offline               EHOSTUNREACH  and no request is sent until it is available
     |   +- WrongScheme           EHOSTUNREACH  https:// for a server without TLS
     +- DeadlineExceeded          ETIMEDOUT     an answer takes too long
     +- Throttled                 EBUSY         the server asks to wait longer than the deadline
     +- ServerError               EIO           the server fails, or its answer is invalid
     |   +- TooLarge                            its answer is too large
     +- BadContent                EIO           the bytes contradict the database
     +- CacheError                EIO           the cache folder cannot be used
     |   +- CacheFull             ENOSPC
     +- FetchLimit                EDQUOT        the limit --max-fetch is reached
     +- IndexerBlocked            EACCES        an indexer reads what is not cached
     +- MountError                EIO           a mount cannot be made or undone
     +- MissingLibrary            EIO           an extra is not installed; the message names it
     +- Busy                      EBUSY         it is in use
     +- OutputError               EIO           standard output cannot be written
     +- Stopping                  ESHUTDOWN     the daemon is stopping

Where Python has an error of the same kind, the class is also a subclass of that: NotFound is a
FileNotFoundError, UsageError a ValueError, CredentialsError a PermissionError, Unreachable a
ConnectionError, DeadlineExceeded a TimeoutError, MissingLibrary an ImportError.

Only an answer of the catalogue leads to ENOENT: a failure of the network is never "no such file".
"""

from __future__ import annotations

import errno
import os
import re
from copy import copy
from typing import TypeVar

from onefs.printable import printable

E = TypeVar("E", bound=BaseException)


class OnefsError(Exception):
    """The root of the errors. ``errno`` is what a file operation fails with.

    ``str`` of it is one line without control characters, whatever a server's message contains.
    """

    errno: int = errno.EIO

    def __str__(self) -> str:
        return printable(super().__str__())


def strip_tracebacks(error: E) -> E:
    """Remove the tracebacks of a stored error: their frames keep whole answers in memory."""
    todo: list[BaseException | None] = [error]
    while todo:
        each = todo.pop()
        if each is not None and each.__traceback__ is not None:
            each.__traceback__ = None
            todo += [each.__cause__, each.__context__]
    return error


#: an error's number, as Python and pyarrow write it into the text
_NUMBER = re.compile(r"\[errno -?[0-9]+\] ?", re.IGNORECASE)


def reason_of(error: BaseException, path: object = None) -> str:
    """Return the reason of an error for a message: without its number, and with its file.

    The file is left out if it is ``path``, which the message names already.
    """
    if isinstance(error, OnefsError) or not isinstance(error, OSError) or not error.strerror:
        return _NUMBER.sub("", str(error)) or type(error).__name__
    reason = _NUMBER.sub("", error.strerror)
    names = [os.fsdecode(each) for each in (error.filename, error.filename2) if _is_path(each)]
    other_names = [name for name in names if path is None or name != str(path)]
    return ": ".join([reason, " -> ".join(other_names)]) if other_names else reason


def _is_path(value: object) -> bool:
    return isinstance(value, (str, bytes, os.PathLike))


class UsageError(OnefsError, ValueError):
    """The user gave something invalid; the message names it and what to do."""

    errno = errno.EINVAL


class NotConfigured(OnefsError):
    """No server is known: neither a profile, nor flags, nor the environment name one."""

    errno = errno.EACCES


class NotFound(OnefsError, FileNotFoundError):
    """The catalogue answers that there is no such thing."""

    errno = errno.ENOENT


class Ambiguous(OnefsError):
    """One name stands for several things; the message lists them."""

    errno = errno.ENOTUNIQ


class SeveralDatasets(Ambiguous):
    """A session has several datasets of one type; the message lists them."""


class ReadOnly(OnefsError):
    """A write was attempted; onefs is read-only."""

    errno = errno.EROFS


class CredentialsError(OnefsError, PermissionError):
    """A server rejects the credentials; the message names the server and the command to run."""

    errno = errno.EACCES


class AlyxCredentials(CredentialsError):
    """The database rejects the token or password, or the user has no permission."""


class DataServerCredentials(CredentialsError):
    """The file server rejects its user and password, or none are known."""


class Unreachable(OnefsError, ConnectionError):
    """The server cannot be reached. What was requested may exist."""

    errno = errno.EHOSTUNREACH


class Offline(Unreachable):
    """The server is known to be unreachable, or must not be asked; a retry at once is useless."""


class WrongScheme(Unreachable):
    """The server can be reached but has no TLS: the URL is wrong, and a retry is useless."""


class DeadlineExceeded(OnefsError, TimeoutError):
    """No answer, or no progress, within the deadline."""

    errno = errno.ETIMEDOUT


class Throttled(OnefsError):
    """The server asks to wait (HTTP 429) for longer than the deadline.

    ``retry_after`` is the wait in seconds.
    """

    errno = errno.EBUSY

    def __init__(self, message: str, retry_after: float = 0.0) -> None:
        super().__init__(message)
        self.retry_after = retry_after


class ServerError(OnefsError):
    """A server answered with an error, or its answer is invalid.

    ``status`` is the HTTP status, ``detail`` the server's message ('' for none).
    """

    errno = errno.EIO

    def __init__(self, message: str, status: int = 0, detail: str = "") -> None:
        super().__init__(message)
        self.status = status
        self.detail = detail


class TooLarge(ServerError):
    """The answer has more bytes, values, pages or rows than are accepted; ask for less at once."""


class BadContent(OnefsError):
    """The bytes of a file contradict the hash or size in the database."""

    errno = errno.EIO


class CacheError(OnefsError):
    """The cache or state folder cannot be used; the message names the reason."""

    errno = errno.EIO


class CacheFull(CacheError):
    """The disk of the cache or state folder is full."""

    errno = errno.ENOSPC


class FetchLimit(OnefsError):
    """A read needs to fetch more than the hourly limit allows.

    ``until`` is when it will be allowed, in seconds since the epoch; 0 for never.
    """

    errno = errno.EDQUOT

    def __init__(self, message: str, until: float = 0.0) -> None:
        super().__init__(message)
        self.until = until


class IndexerBlocked(OnefsError):
    """A program that indexes files reads bytes that are not cached."""

    errno = errno.EACCES


class MountError(OnefsError):
    """Mounting or unmounting failed; the message names the reason and what to do."""


class MissingLibrary(OnefsError, ImportError):
    """A library of an extra is not installed; the message has the command that installs it."""


class Busy(OnefsError):
    """It is in use; the message names the user or process."""

    errno = errno.EBUSY


class OutputError(OnefsError):
    """Standard output cannot be written; the message names the reason."""


class Stopping(OnefsError):
    """The daemon or client is stopping, and waits are ended."""

    errno = errno.ESHUTDOWN


def copy_error(error: E) -> E:
    """Return a copy of a stored exception to raise.

    Each ``raise`` of an exception object extends its traceback, also in other threads. The copy has
    the class, message, attributes and cause. A copy of an OnefsError has no traceback, whose frames
    would keep their variables alive.
    """
    fresh: E
    if isinstance(error, OnefsError):  # ``args`` has not all arguments of its constructor
        fresh = type(error).__new__(type(error), *error.args)
        fresh.__dict__.update(error.__dict__)
    else:
        try:
            fresh = copy(error)
        except Exception:  # a library's exception may not be copyable
            return error
        fresh.__traceback__ = error.__traceback__
    fresh.__cause__ = error.__cause__
    fresh.__suppress_context__ = error.__suppress_context__
    return fresh
