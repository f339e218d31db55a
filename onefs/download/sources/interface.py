"""The interface of a source of bytes, such as a file server, a bucket or a disk.

A source knows nothing of datasets. It opens a range of the file at a URL, says which bytes it
sends, and raises one of the errors below or of ``onefs.errors``.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from onefs.errors import DataServerCredentials, MissingLibrary, Offline, OnefsError, ServerError

if TYPE_CHECKING:
    from typing_extensions import Self

#: largest number of bytes that are read from a source and written to the disk at once while no
#: reader waits for these bytes; chunks are large because each chunk costs several turns of the
#: interpreter lock
BULK_CHUNK_BYTES = 2 * 1024 * 1024
#: seconds that connecting may take
CONNECT_TIMEOUT_SECONDS = 10.0


class KeysRefused(DataServerCredentials):
    """The keys for a bucket are missing or wrong, so that no file of the bucket can be read."""


class NoBucket(ServerError):
    """A repository has no bucket, or the bucket does not exist."""


class BucketUnknown(Offline):
    """Alyx cannot be asked for the bucket of a repository now."""


#: errors that all files of a bucket have in common
BUCKET_ERRORS = (KeysRefused, NoBucket, BucketUnknown, MissingLibrary)


class WrongSize(OnefsError):
    """The size of the file on the server differs from the size in the database."""

    def __init__(self, message: str, size: int) -> None:
        super().__init__(message)
        self.size = size


class RemoteFileChanged(OnefsError):
    """The file on the server has changed since blocks of the file were cached."""


class VersionMismatch(RemoteFileChanged):
    """The validator of an answer differs from the validator of the cached blocks."""


@dataclass(frozen=True, slots=True)
class ByteRequest:
    """A request for bytes of one file."""

    url: str
    #: seconds to wait for the beginning of the answer, and for each next byte
    stall: float
    #: offset of the first byte
    start: int = 0
    #: offset after the last byte; None asks for the whole file
    end: int | None = None
    #: size of the file in the database; None if unknown
    size: int | None = None
    #: validator of the cached blocks; '' if any version of the file will do
    validator: str = ""


class Body(Protocol):
    """The bytes that a source sends. Entering sends the request, and sets the attributes.

    Entering raises these errors:

    - Unreachable or DeadlineExceeded, if there is no answer
    - DataServerCredentials, if the source does not allow access
    - Throttled, if the source asks to wait
    - WrongSize, if the file has another size than the database says
    - VersionMismatch, if the file has another validator than the cached blocks
    - ServerError for any other answer that is not the requested range of the file. For an answer
      that makes a retry useless, ``status`` is not 0; it is 404 or 410 if the file is not there
    - Stopping, and the errors of libraries that are not installed
    """

    #: offset in the file of the first byte that is sent
    start: int
    #: offset after the last byte of the file that is sent; None if the source does not say it
    end: int | None
    #: size of the whole file; None if the source does not say it
    total: int | None
    #: text that identifies the version of the file; '' if the source has none. Equal bytes may have
    #: different validators
    validator: str
    #: False if the whole file is sent, even if only a part was requested
    is_partial: bool
    #: number of bytes that the source announces; None if it announces none. Surplus bytes after
    #: ``end`` are to be ignored
    length: int | None

    @property
    def label(self) -> str:
        """The file for messages, without secrets."""

    def __enter__(self) -> Self: ...

    def __exit__(self, *_: object) -> None: ...

    def iter_chunks(self, size: int = ...) -> Iterator[bytes]:
        """Yield the bytes in pieces of 1 to ``size`` bytes. Slow bytes are yielded at once.

        Raises DeadlineExceeded if no byte arrives for the ``stall`` seconds of the request,
        ServerError if the number of bytes differs from ``length``, Unreachable if the connection
        breaks, and Stopping after :meth:`abort`.
        """

    def abort(self) -> None:
        """End the answer, from any thread. A thread that is reading gets Stopping at once."""


class Source(Protocol):
    """Something that has replicas and sends their bytes. Thread-safe."""

    def open(self, request: ByteRequest) -> Body:
        """Return the body of the answer to ``request``. The request is sent when it is entered."""

    def probe(self, url: str, seconds: float) -> None:
        """Find out whether the source answers about the file at ``url`` within ``seconds``.

        Returns also if the source refuses access or lacks the file. Raises Unreachable,
        DeadlineExceeded or another OnefsError if the source does not answer.
        """
