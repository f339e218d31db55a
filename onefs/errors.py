"""The errors that onefs raises, each with one errno.

::

    OnefsError                    EIO           the base class; never raised itself
     +- UsageError                EINVAL        an invalid flag, value or path
     +- NotConfigured             EACCES        no profile, flag or variable names a server
     +- NotFound                  ENOENT        the catalogue does not have the requested thing
     +- Ambiguous                 ENOTUNIQ      several things have the requested name
     |   +- SeveralDatasets                     one dataset type, several datasets
     +- ReadOnly                  EROFS         onefs does not write
     +- CredentialsError          EACCES        a server rejects the token or password
     |   +- AlyxCredentials
     |   +- DataServerCredentials
     +- Unreachable               EHOSTUNREACH  the server cannot be reached
     |   +- Offline               EHOSTUNREACH  no request is sent to an unreachable server
     |   |   +- NoAlyx                          the database has no Alyx: it is public, or a release
     |   +- TablesLoading         EBUSY         the tables that list it are being loaded
     |   +- WrongScheme           EHOSTUNREACH  https:// for a server without TLS
     +- DeadlineExceeded          ETIMEDOUT     an answer takes too long
     +- Throttled                 EBUSY         the server asks to wait longer than the deadline
     +- ServerError               EIO           the server fails, or its answer is invalid
     |   +- TooLarge                            the server's answer is too large
     +- BadContent                EIO           the bytes contradict the database
     +- CacheError                EIO           the cache folder cannot be used
     |   +- CacheFull             ENOSPC
     +- FetchLimit                EDQUOT        the limit --max-fetch is reached
     +- IndexerBlocked            EACCES        an indexer reads bytes that are not cached
     +- MountError                EIO           a mount cannot be made or undone
     +- MissingLibrary            EIO           an optional library is not installed
     +- Busy                      EBUSY         a resource is in use, or no thread can be started
     +- OutputError               EIO           standard output cannot be written
     +- Stopping                  ESHUTDOWN     the daemon is stopping

If Python has an error of the same kind, the class is also a subclass of Python's error. NotFound is
a FileNotFoundError, UsageError a ValueError, CredentialsError a PermissionError, Unreachable a
ConnectionError, DeadlineExceeded a TimeoutError, MissingLibrary an ImportError.

Only an answer of the catalogue leads to ENOENT. A network failure never means "no such file".
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
    """The base class of all errors. A file operation fails with ``errno``.

    ``str`` of an error is one line without control characters.
    """

    errno: int = errno.EIO

    def __str__(self) -> str:
        return printable(super().__str__())


def strip_tracebacks(error: E) -> E:
    """Remove the tracebacks of a stored error, because their frames keep large answers in memory.

    Return ``error`` itself.
    """
    todo: list[BaseException | None] = [error]
    while todo:
        each = todo.pop()
        if each is not None and each.__traceback__ is not None:
            each.__traceback__ = None
            todo += [each.__cause__, each.__context__]
    return error


#: the number of an error in its text, as Python and pyarrow write it
_NUMBER = re.compile(r"\[errno -?[0-9]+\] ?", re.IGNORECASE)


def reason_of(error: BaseException, path: object = None) -> str:
    """Return the reason for an error as text for a message, without the errno.

    The text has the error's file names, except ``path``, because the caller's message contains it.
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
    """The user gave an invalid value. The message names the value and what to do."""

    errno = errno.EINVAL


class NotConfigured(OnefsError):
    """No server is known, because no profile, flag or environment variable names a server."""

    errno = errno.EACCES


class NotFound(OnefsError, FileNotFoundError):
    """The catalogue answers that the requested thing does not exist."""

    errno = errno.ENOENT


class Ambiguous(OnefsError):
    """Several things have the requested name. The message lists the things."""

    errno = errno.ENOTUNIQ


class SeveralDatasets(Ambiguous):
    """A session has several datasets of one type. The message lists the datasets."""


class ReadOnly(OnefsError):
    """A program tried to write, but onefs is read-only."""

    errno = errno.EROFS


class CredentialsError(OnefsError, PermissionError):
    """A server rejects the credentials. The message names the server and the command to run."""

    errno = errno.EACCES


class AlyxCredentials(CredentialsError):
    """The database rejects the token or password, or the user has no permission."""


class DataServerCredentials(CredentialsError):
    """The file server rejects the user and password, or no user and password are known."""


class Unreachable(OnefsError, ConnectionError):
    """The server cannot be reached. The requested data may exist."""

    errno = errno.EHOSTUNREACH


class Offline(Unreachable):
    """The server is known to be unreachable, or must not be asked. An immediate retry fails."""


class NoAlyx(Offline):
    """Only Alyx knows the answer, and this database has none: it is public, or a release."""


class TablesLoading(Unreachable):
    """The cache tables that list the requested thing are being loaded. Try again later."""

    errno = errno.EBUSY


class WrongScheme(Unreachable):
    """The server can be reached but has no TLS. The URL is wrong, so that every retry fails."""


class DeadlineExceeded(OnefsError, TimeoutError):
    """There is no answer, or no progress, before the deadline."""

    errno = errno.ETIMEDOUT


class Throttled(OnefsError):
    """The server asks to wait (HTTP 429) for longer than the deadline.

    Args:
        message: The text of the error.
        retry_after: The wait in seconds. Also an attribute of the error.
    """

    errno = errno.EBUSY

    def __init__(self, message: str, retry_after: float = 0.0) -> None:
        super().__init__(message)
        self.retry_after = retry_after


class ServerError(OnefsError):
    """A server answered with an error, or its answer is invalid.

    Args:
        message: The text of the error.
        status: The HTTP status, or 0 if there is no status. Also an attribute of the error.
        detail: The server's message, or '' if there is no message. Also an attribute.
    """

    errno = errno.EIO

    def __init__(self, message: str, status: int = 0, detail: str = "") -> None:
        super().__init__(message)
        self.status = status
        self.detail = detail


class TooLarge(ServerError):
    """The answer has more bytes, values, pages or rows than onefs accepts. Request less."""


class BadContent(OnefsError):
    """The bytes of a file contradict the hash or size in the database."""

    errno = errno.EIO


class CacheError(OnefsError):
    """The cache folder or the catalogue's folder cannot be used. The message names the reason."""

    errno = errno.EIO


class CacheFull(CacheError):
    """The disk of the cache folder or of the catalogue's folder is full."""

    errno = errno.ENOSPC


class FetchLimit(OnefsError):
    """A read needs to fetch more than the hourly limit allows.

    Args:
        message: The text of the error.
        until: The time at which the read is allowed, in seconds since the epoch, or 0 if the read
            is never allowed. Also an attribute of the error.
    """

    errno = errno.EDQUOT

    def __init__(self, message: str, until: float = 0.0) -> None:
        super().__init__(message)
        self.until = until


class IndexerBlocked(OnefsError):
    """A program that indexes files reads bytes that are not cached."""

    errno = errno.EACCES


class MountError(OnefsError):
    """Mounting or unmounting failed. The message names the reason and what to do."""


class MissingLibrary(OnefsError, ImportError):
    """An optional library is not installed. The message has the command to install it."""


class Busy(OnefsError):
    """A resource is in use, or no thread can be started. The message says what to do."""

    errno = errno.EBUSY


class OutputError(OnefsError):
    """Standard output cannot be written. The message names the reason."""


class Stopping(OnefsError):
    """The daemon or client is stopping, so a call that waits ends with this error."""

    errno = errno.ESHUTDOWN


def copy_error(error: E) -> E:
    """Return a copy of a stored exception. The caller raises the copy.

    The copy has the same class, message, attributes and cause. The copy of an OnefsError has no
    traceback. An exception that cannot be copied is returned itself.
    """
    # each ``raise`` of one object makes its traceback longer, in all threads, and frames of a
    # traceback keep their variables in memory
    fresh: E
    if isinstance(error, OnefsError):  # ``args`` may lack arguments of the constructor
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
