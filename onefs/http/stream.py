"""One answer's bytes as they come."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from types import TracebackType

from urllib3 import BaseHTTPResponse

from onefs.config.secret import excerpt
from onefs.config.urls import host_of, safe_url
from onefs.errors import DeadlineExceeded, OnefsError, ServerError, Stopping
from onefs.http.error_mapping import HTTP_EXCEPTIONS, to_onefs_error
from onefs.http.exchange import Clock, EndReason, Exchange

#: bytes of one chunk: each costs its reader a turn of the interpreter, whatever its size
CHUNK_BYTES = 512 * 1024
#: seconds within which a whole chunk has to be expected for it to be waited for
FAST_CHUNK_SECONDS = 0.2
#: bytes of the longest body: SQLite and the kernel keep no larger number
MAX_BODY_BYTES = 2**63 - 1
#: bytes that came at once, from which that can be told
MIN_SPEED_SAMPLE_BYTES = 64 * 1024


class Stream:
    """A context manager made by ``Transport.stream``: the request is sent on entering.

    Entering raises Unreachable, DeadlineExceeded, ServerError, DataServerCredentials (a 401 for
    good) or Stopping; any other status is the caller's to judge. ``headers`` are read without
    regard to case. ``length`` is the number of bytes that the server promises, None when it
    promises none: then an answer that is cut short looks like a whole one.
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
        #: the last piece came soon
        self._is_fast = False
        #: what ended it behind the piece that was given last
        self._pending_error: OnefsError | None = None
        #: what was asked for, and after redirects, who answered
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

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._close()

    def iter_chunks(self, size: Callable[[], int] = lambda: CHUNK_BYTES) -> Iterator[bytes]:
        """The body in pieces of 1 to ``size()`` bytes; while it comes slowly, each byte at once.

        Raises DeadlineExceeded when no piece comes for ``stall_timeout`` seconds (the time that
        the caller spends between two pieces does not count), ServerError when fewer bytes come
        than the server promised, Unreachable when the connection breaks, Stopping after
        :meth:`abort`.
        """
        assert self._response is not None, "a stream is read inside its with block"
        received = 0
        while chunk := self._read_piece(min(size(), self._bytes_left(received))):
            received += len(chunk)
            if received == self.length:
                # with the last byte the connection was given back: it is not ours to end any more
                self._exchange.finish()
            yield chunk
        if self.length is not None and received != self.length:
            raise ServerError(
                f"{host_of(self.url)} sent {received} of the {self.length} bytes that it promised"
            )

    def abort(self) -> None:
        """End it from any thread, at any time: whoever waits for it gets Stopping at once."""
        self._exchange.stop(EndReason.STOPPED)

    def _bytes_left(self, received: int) -> int:
        """Bytes that are still to come; after the last one, as many as show that it was that."""
        if self.length is None or received >= self.length:
            return CHUNK_BYTES
        return self.length - received

    def _read_piece(self, size: int) -> bytes:
        """A piece, of several chunks while they come quickly: each has its own deadline."""
        if self._pending_error is not None:
            raise self._pending_error
        parts = [self._receive_chunk(min(size, CHUNK_BYTES))]
        got = len(parts[0])
        while parts[-1] and got < size and self._is_fast:
            try:
                parts.append(self._receive_chunk(min(size - got, CHUNK_BYTES)))
            except OnefsError as error:  # what came before it counts
                self._pending_error = error
                break
            got += len(parts[-1])
        return parts[0] if len(parts) == 1 else b"".join(parts)

    def _receive_chunk(self, size: int) -> bytes:
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
        whole = (self._clock() - began) * size / max(1, len(chunk))
        self._is_fast = len(chunk) >= MIN_SPEED_SAMPLE_BYTES and whole < FAST_CHUNK_SECONDS
        # a connection that was shut down from outside reads like an end of file
        if not chunk and (why := end_error(self._exchange, self.url, self._stall_seconds)):
            raise why
        return chunk

    def _reject_encoded(self) -> None:
        encoding = self.headers.get("Content-Encoding", "identity").strip().lower()
        if self.status in (200, 206) and encoding not in ("", "identity"):
            raise ServerError(
                f"{host_of(self.url)} sends {safe_url(self.url)} in {excerpt(encoding)} though "
                "asked for the file as it is",
                self.status,
            )

    def _reject_oversized(self) -> None:
        if self.length is not None and self.length > MAX_BODY_BYTES:
            raise ServerError(f"{host_of(self.url)} promises more bytes than a file has")

    def _close(self) -> None:
        if self._response is not None:
            self._response.close()
        self._exchange.finish()


def end_error(exchange: Exchange, url: str, seconds: float) -> OnefsError | None:
    """The error of an exchange that was ended from outside, None if it was not."""
    if exchange.end_reason is EndReason.OVERDUE:
        return DeadlineExceeded(f"{safe_url(url)}: no answer within {seconds:g} s")
    if exchange.end_reason is EndReason.STOPPED:
        return Stopping(f"the request to {host_of(url)} was stopped")
    return None
