"""Every error that onefs raises on purpose, each with one errno.

::

    OnefsError                    EIO           the root; never raised itself
     +- UsageError                EINVAL        a flag, value or path that makes no sense
     +- NotConfigured             EACCES        no profile and nothing in the environment
     +- NotFound                  ENOENT        the catalogue says that there is no such thing
     +- Ambiguous                 ENOTUNIQ      one name, several things: the message lists them
     |   +- SeveralDatasets                     one type, several datasets of the session
     +- ReadOnly                  EROFS         onefs never writes
     +- CredentialsError          EACCES        a server refuses the token or password
     |   +- AlyxCredentials
     |   +- DataServerCredentials
     +- Unreachable               EHOSTUNREACH  no connection, or the server is away
     |   +- Offline               EHOSTUNREACH  and nobody is asked again before it is back
     |   +- WrongScheme           EHOSTUNREACH  https:// of a server that speaks http
     +- DeadlineExceeded          ETIMEDOUT     it answered too slowly or not at all
     +- Throttled                 EBUSY         the server asks to wait beyond the deadline
     +- ServerError               EIO           the server answered nonsense or failed
     |   +- TooLarge                            it answers with more than is read
     +- BadContent                EIO           the bytes are not those that the database describes
     +- CacheError                EIO           the cache folder cannot be used
     |   +- CacheFull             ENOSPC
     +- FetchLimit                EDQUOT        --max-fetch allows no more for now
     +- IndexerBlocked            EACCES        an indexer asks for what would have to be fetched
     +- MountError                EIO           a mount cannot be made or undone
     +- MissingLibrary            EIO           an extra is not installed; the pip line is in it
     +- Busy                      EBUSY         somebody is using it
     +- OutputError               EIO           standard output cannot be written
     +- Stopping                  ESHUTDOWN     the daemon is going down

Where Python has an error of that kind, ours is one too: NotFound is a FileNotFoundError,
UsageError a ValueError, CredentialsError a PermissionError, Unreachable a ConnectionError,
DeadlineExceeded a TimeoutError, MissingLibrary an ImportError.

ENOENT comes from a catalogue answer only: network trouble is never "no such file".
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
    """The root of the tree. ``errno`` is what a file operation returns for it.

    As a text it is one line without control characters, whatever a server said.
    """

    errno: int = errno.EIO

    def __str__(self) -> str:
        return printable(super().__str__())


def strip_tracebacks(error: E) -> E:
    """``error`` without tracebacks, for one that is kept: frames hold whole answers in memory."""
    todo: list[BaseException | None] = [error]
    while todo:
        each = todo.pop()
        if each is not None and each.__traceback__ is not None:
            each.__traceback__ = None
            todo += [each.__cause__, each.__context__]
    return error


#: how Python and pyarrow put an error's number into its text
_NUMBER = re.compile(r"\[errno -?[0-9]+\] ?", re.IGNORECASE)


def reason_of(error: BaseException, path: object = None) -> str:
    """Return what an error says, for a sentence: without its number, and with the file that it is
    about unless that is ``path``, which the sentence names already."""
    if isinstance(error, OnefsError) or not isinstance(error, OSError) or not error.strerror:
        return _NUMBER.sub("", str(error)) or type(error).__name__
    reason = _NUMBER.sub("", error.strerror)
    names = [os.fsdecode(each) for each in (error.filename, error.filename2) if _is_path(each)]
    told = [name for name in names if path is None or name != os.fspath(str(path))]
    return ": ".join([reason, " -> ".join(told)]) if told else reason


def _is_path(value: object) -> bool:
    return isinstance(value, (str, bytes, os.PathLike))


class UsageError(OnefsError, ValueError):
    """Something the user gave makes no sense; the message names it and what to do."""

    errno = errno.EINVAL


class NotConfigured(OnefsError):
    """No server is known: neither a profile, nor flags, nor the environment name one."""

    errno = errno.EACCES


class NotFound(OnefsError, FileNotFoundError):
    """The catalogue has an answer, and it is no."""

    errno = errno.ENOENT


class Ambiguous(OnefsError):
    """One name stands for several things; the message lists them."""

    errno = errno.ENOTUNIQ


class SeveralDatasets(Ambiguous):
    """A dataset type stands for several datasets of a session; the message lists them."""


class ReadOnly(OnefsError):
    """onefs is read-only."""

    errno = errno.EROFS


class CredentialsError(OnefsError, PermissionError):
    """A server refuses what we have; the message says which server and what to run."""

    errno = errno.EACCES


class AlyxCredentials(CredentialsError):
    """The database refuses the token or the password, or the user may not read this."""


class DataServerCredentials(CredentialsError):
    """The file server refuses its user and password, or none are known."""


class Unreachable(OnefsError, ConnectionError):
    """The server cannot be reached. What is asked for may well exist."""

    errno = errno.EHOSTUNREACH


class Offline(Unreachable):
    """The network is known to be away, or is not wanted: asking again at once is useless."""


class WrongScheme(Unreachable):
    """The server is there and does not speak TLS: the URL is wrong, and will stay so."""


class DeadlineExceeded(OnefsError, TimeoutError):
    """No answer, or no progress, within the deadline."""

    errno = errno.ETIMEDOUT


class Throttled(OnefsError):
    """The server asks to wait (429) for longer than the deadline allows.

    ``retry_after`` is in seconds.
    """

    errno = errno.EBUSY

    def __init__(self, message: str, retry_after: float = 0.0) -> None:
        super().__init__(message)
        self.retry_after = retry_after


class ServerError(OnefsError):
    """A server answered with an error of its own, or with something that is not an answer.

    ``status`` is the HTTP status, ``detail`` the server's own words ('' when it gave none).
    """

    errno = errno.EIO

    def __init__(self, message: str, status: int = 0, detail: str = "") -> None:
        super().__init__(message)
        self.status = status
        self.detail = detail


class TooLarge(ServerError):
    """The answer has more bytes, values, pages or rows than are read; ask for less at once."""


class BadContent(OnefsError):
    """The bytes that came are not the bytes that the database describes."""

    errno = errno.EIO


class CacheError(OnefsError):
    """The cache folder cannot be used; the message says why."""

    errno = errno.EIO


class CacheFull(CacheError):
    """The disk of the cache folder is full."""

    errno = errno.ENOSPC


class FetchLimit(OnefsError):
    """More would have to be fetched than this hour allows.

    ``until`` is when it will be allowed, in seconds since the epoch; 0 for never.
    """

    errno = errno.EDQUOT

    def __init__(self, message: str, until: float = 0.0) -> None:
        super().__init__(message)
        self.until = until


class IndexerBlocked(OnefsError):
    """A program that reads whatever it finds asks for bytes that are not cached."""

    errno = errno.EACCES


class MountError(OnefsError):
    """A mount cannot be made or undone; the message says why and what to do."""


class MissingLibrary(OnefsError, ImportError):
    """A library of one of our extras is not installed; the message has the line that does it."""


class Busy(OnefsError):
    """Somebody is using it; the message names them."""

    errno = errno.EBUSY


class OutputError(OnefsError):
    """Standard output cannot be written; the message says why."""


class Stopping(OnefsError):
    """The daemon is going down, and what waited for it is woken."""

    errno = errno.ESHUTDOWN


def copy_error(error: E) -> E:
    """Return a copy of an exception, for each time that a stored one is raised.

    Each ``raise`` of one object adds to its traceback, and other threads may be raising it at the
    same moment. The copy has the class, the message, the attributes and the cause. Where one of
    our own errors was raised first is left out: it would keep what those frames hold alive.
    """
    fresh: E
    if isinstance(error, OnefsError):  # what its constructor takes is not all in ``args``
        fresh = type(error).__new__(type(error), *error.args)
        fresh.__dict__.update(error.__dict__)
    else:
        try:
            fresh = copy(error)
        except Exception:  # of a library, and it cannot be copied
            return error
        fresh.__traceback__ = error.__traceback__
    fresh.__cause__ = error.__cause__
    fresh.__suppress_context__ = error.__suppress_context__
    return fresh
