"""Reads the body of one response while its bytes arrive."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING

from onefs.config.secret import excerpt
from onefs.config.urls import host_of, safe_url
from onefs.errors import OnefsError, ServerError, copy_error, strip_tracebacks
from onefs.http.exchange import Clock, EndReason, Exchange, end_error

if TYPE_CHECKING:
    from urllib3 import BaseHTTPResponse

#: bytes of one chunk; a chunk of any size costs the reader one turn of the interpreter lock
CHUNK_BYTES = 512 * 1024
#: a reader waits for a whole chunk if the chunk is expected within this number of seconds
FAST_CHUNK_SECONDS = 0.2
#: size in bytes of the largest body, because SQLite and the kernel store no larger number
MAX_BODY_BYTES = 2**63 - 1
#: smallest number of bytes in one chunk from which the speed is estimated
MIN_SPEED_SAMPLE_BYTES = 64 * 1024


class Stream:
    """The context manager that ``Transport.stream`` returns. Entering sends the request.

    ``length`` is the number of bytes that the server announces. If ``length`` is None, a truncated
    response cannot be recognized. The case of letters in names of ``headers`` does not matter.

    Entering raises Unreachable, DeadlineExceeded, ServerError, Stopping, or DataServerCredentials
    for a final 401. The caller checks all other statuses.
    """

    def __init__(
        self,
        send: Callable[[Exchange], tuple[BaseHTTPResponse, str]],
        exchange: Exchange,
        clock: Clock,
        url: str,
        stall_timeout: float,
    ) -> None:
        self._send = send
        self._exchange = exchange
        self._clock = clock
        self._stall_seconds = stall_timeout
        self._response: BaseHTTPResponse | None = None
        #: whether the previous chunk arrived fast
        self._is_fast = False
        #: an error that the next read raises, after the bytes before the error are returned
        self._pending_error: OnefsError | None = None
        #: the requested URL; after entering, the final URL after all redirects
        self.url = url
        self.status = 0
        self.headers: Mapping[str, str] = {}
        self.length: int | None = None

    def __enter__(self) -> Stream:
        try:
            response, self.url = self._send(self._exchange)
        except BaseException:
            self._exchange.finish()
            raise
        self._response = response
        self.status = response.status
        self.headers = response.headers
        self.length = response.length_remaining
        try:
            self._reject_encoded()
            self._reject_oversized()
        except OnefsError:
            self._close()
            raise
        self._exchange.set_due(None)
        return self

    def __exit__(self, *_: object) -> None:
        self._close()

    def iter_chunks(self, size: int = CHUNK_BYTES) -> Iterator[bytes]:
        """Yield the body in pieces of 1 to ``size`` bytes. Slow bytes are yielded at once.

        Raises DeadlineExceeded if no byte arrives for ``stall_timeout`` seconds. The time that the
        caller spends between two pieces does not count. Raises ServerError if the number of bytes
        differs from the announced number. Raises Unreachable if the connection breaks, and Stopping
        after :meth:`abort`.
        """
        assert self._response is not None, "onefs error: a stream is read outside its with block"
        received = 0
        while chunk := self._read_piece(min(size, self._bytes_left(received))):
            received += len(chunk)
            if received == self.length:
                # urllib3 returned the connection to its pool with the last byte
                self._exchange.finish()
            yield chunk
        if self.length is not None and received != self.length:
            raise ServerError(
                f"{host_of(self.url)} sent {received} of the {self.length} bytes that it announced"
            )

    def abort(self) -> None:
        """End the response, from any thread. A thread that is reading gets Stopping at once."""
        self._exchange.stop(EndReason.STOPPED)

    def _bytes_left(self, received: int) -> int:
        """Return the largest number of bytes to read next."""
        if self.length is None or received >= self.length:
            # a chunk after the announced bytes, or if no number is announced: detects surplus bytes
            return CHUNK_BYTES
        return self.length - received

    def _read_piece(self, size: int) -> bytes:
        """Return at most ``size`` bytes of the body.

        While bytes arrive fast, several reads are joined. The deadline applies to each of these
        reads.
        """
        if self._pending_error is not None:
            raise copy_error(self._pending_error)
        parts = [self._receive_chunk(min(size, CHUNK_BYTES))]
        received = len(parts[0])
        while parts[-1] and received < size and self._is_fast:
            try:
                parts.append(self._receive_chunk(min(size - received, CHUNK_BYTES)))
            except OnefsError as error:  # raised by the next read, after these bytes are returned
                self._pending_error = strip_tracebacks(error)
                break
            received += len(parts[-1])
        return parts[0] if len(parts) == 1 else b"".join(parts)

    def _receive_chunk(self, size: int) -> bytes:
        # loaded with the request, by onefs.http.sender
        from onefs.http.error_mapping import HTTP_EXCEPTIONS, to_onefs_error

        assert self._response is not None
        began = self._clock()
        self._exchange.set_due(began + self._stall_seconds)
        receive = self._response.read if self._is_fast else self._response.read1
        try:
            chunk: bytes = receive(size, decode_content=False)
        except HTTP_EXCEPTIONS as error:
            raise end_error(self._exchange, self.url, self._stall_seconds) or to_onefs_error(
                error, host_of(self.url)
            ) from error
        finally:
            self._exchange.set_due(None)
        expected_seconds = (self._clock() - began) * size / max(1, len(chunk))
        self._is_fast = (
            len(chunk) >= MIN_SPEED_SAMPLE_BYTES and expected_seconds < FAST_CHUNK_SECONDS
        )
        # a read from a connection that was shut down returns b"", as at the end of the body
        if not chunk and (why := end_error(self._exchange, self.url, self._stall_seconds)):
            raise why
        return chunk

    def _reject_encoded(self) -> None:
        encoding = self.headers.get("Content-Encoding", "identity").strip().lower()
        if self.status in (200, 206) and encoding not in ("", "identity"):
            raise ServerError(
                f"{host_of(self.url)} sends {safe_url(self.url)} compressed ({excerpt(encoding)}), "
                "although onefs asked for the plain file",
                self.status,
            )

    def _reject_oversized(self) -> None:
        if self.length is not None and self.length > MAX_BODY_BYTES:
            raise ServerError(f"{host_of(self.url)} announces more bytes than a file can have")

    def _close(self) -> None:
        if self._response is not None:
            self._response.close()
        self._exchange.finish()
