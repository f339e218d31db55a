"""Standard input, output and error of a command, which may be closed or unusable at the start.

An error in writing to standard output, such as a full disk, is reported in one sentence, without a
traceback. Text that cannot be written to standard error is dropped. If descriptor 0, 1 or 2 is
closed, /dev/null is first opened on this descriptor, so that no other file, socket or pipe gets the
number. File names are read and written as UTF-8 in every locale.
"""

from __future__ import annotations

import codecs
import errno
import io
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import TextIO

from onefs.errors import OutputError

#: name of the encoding error handler for standard output
_ERROR_HANDLER = "onefs.escapes"


@contextmanager
def standard_streams() -> Iterator[None]:
    """Replace ``sys.stdout`` and ``sys.stderr`` within the block.

    A failed write to standard output raises OutputError, or BrokenPipeError if the reader has
    ended.
    """
    _open_closed_descriptors()
    before = sys.stdout, sys.stderr
    # a character that the encoding lacks is written as an escape such as \u03a9, and a byte in a
    # file name that is not UTF-8 is written unchanged
    codecs.register_error(_ERROR_HANDLER, _escape_unencodable)
    sys.stdout = _wrap_stream(before[0], 1, _StandardOutput, _ERROR_HANDLER)
    sys.stderr = _wrap_stream(before[1], 2, _StandardError, "backslashreplace")
    try:
        yield
    finally:
        for stream in (sys.stdout, sys.stderr):
            if isinstance(stream, (_StandardOutput, _StandardError)):
                with suppress(OutputError, OSError):
                    stream.detach()  # the previous stream uses the same buffer after this
        sys.stdout, sys.stderr = before


def start_in_utf8_mode() -> None:
    """Start the command again in Python's UTF-8 mode if the locale has another encoding."""
    # UTF-8 mode is needed because a Latin-1 locale lacks characters of many names in a database
    encoding = sys.getfilesystemencoding()
    if encoding == "utf-8" or not sys.executable:
        return
    environment = {**os.environ, "PYTHONUTF8": "1"}
    # the output stays in the locale's encoding, but is in UTF-8 in an ASCII locale
    if sys.stdout is not None and not _is_ascii(sys.stdout.encoding):
        environment.setdefault("PYTHONIOENCODING", sys.stdout.encoding)
    command = [sys.executable, "-X", "utf8", *sys.orig_argv[1:]]
    with suppress(OSError):  # on failure the command continues in the locale's encoding
        os.execve(sys.executable, command, environment)


class _StandardOutput(io.TextIOWrapper):
    """Standard output that raises OutputError for a failed write."""

    def write(self, text: str, /) -> int:
        with _raise_output_errors():
            return super().write(text)

    def flush(self) -> None:
        with _raise_output_errors():
            super().flush()


class _StandardError(io.TextIOWrapper):
    """Standard error that ignores failed writes, so that a message cannot end a command."""

    def write(self, text: str, /) -> int:
        try:
            return super().write(text)
        except OSError:
            _redirect_to_null(2)
        return len(text)

    def flush(self) -> None:
        try:
            super().flush()
        except OSError:
            _redirect_to_null(2)


def _wrap_stream(
    stream: TextIO | None, descriptor: int, kind: type[io.TextIOWrapper], errors: str
) -> TextIO:
    """Return a stream of class ``kind`` that writes to the buffer of ``stream``.

    If ``stream`` is None, the new stream writes to ``descriptor``.
    """
    # ``descriptor`` was closed when Python started
    if stream is None:
        raw = io.FileIO(descriptor, "w", closefd=False)
        return kind(io.BufferedWriter(raw), "utf-8", errors, line_buffering=descriptor == 2)
    if not isinstance(stream, io.TextIOWrapper):  # a program has replaced it
        return stream
    encoding = "utf-8" if _is_ascii(stream.encoding) else stream.encoding
    # keep Python's choice: at a terminal, output is written line by line
    return kind(stream.buffer, encoding, errors, line_buffering=stream.line_buffering)


def _is_ascii(encoding: str | None) -> bool:
    return codecs.lookup(encoding or "ascii").name == "ascii"


@contextmanager
def _raise_output_errors() -> Iterator[None]:
    try:
        yield
    except BrokenPipeError:  # click ends the command without a message
        _redirect_to_null(1)
        raise
    except OSError as error:
        _redirect_to_null(1)
        closed = error.errno == errno.EBADF
        why = "the output is closed" if closed else os.strerror(error.errno or errno.EIO)
        raise OutputError(f"cannot write to standard output: {why}") from error


def _redirect_to_null(descriptor: int) -> None:
    """Redirect a descriptor to /dev/null after a failed write."""
    # at exit, Python would try to write the rest of the buffer, and this second error would change
    # the exit code
    with suppress(OSError):
        nothing = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nothing, descriptor)
        os.close(nothing)


def _open_closed_descriptors() -> None:
    """Open /dev/null on each of the descriptors 0, 1 and 2 that is closed."""
    for descriptor in (0, 1, 2):
        try:
            os.fstat(descriptor)
        except OSError:  # open() returns the lowest free number, and this is ``descriptor``
            # standard output is opened for reading only, so that a command that prints fails
            os.open(os.devnull, os.O_WRONLY if descriptor == 2 else os.O_RDONLY)
            os.set_inheritable(descriptor, True)


def _escape_unencodable(error: UnicodeError) -> tuple[bytes, int]:
    if not isinstance(error, UnicodeEncodeError):
        raise error
    return b"".join(map(_escape_character, error.object[error.start : error.end])), error.end


def _escape_character(char: str) -> bytes:
    if "\udc80" <= char <= "\udcff":
        return bytes([ord(char) - 0xDC00])
    return char.encode("ascii", "backslashreplace")
