"""Detection of the encoding of a text file, and of column names in the first row of a table."""

from __future__ import annotations

import codecs
import csv
import json
import re
from collections.abc import Iterable, Iterator
from pathlib import Path

#: the separator between the cells of a table, by the file's extension
SEPARATORS = {".csv": ",", ".tsv": "\t", ".htsv": "\t", ".ssv": " "}

#: how many bytes are decoded at a time
_CHUNK_BYTES = 2**20
#: characters that most binary files contain, but no table and no JSON text
_CONTROL_CHARACTERS = re.compile("[\x00-\x08\x0e-\x1a\x1c-\x1f\x7f-\x9f]")
#: a number, or a time in the form that the program Bonsai writes
_NUMBER_OR_TIME = re.compile(
    r"[+-]?(\d+(\.\d*)?|\.\d+)([eE][+-]?\d+)?|[+-]?(nan|inf|infinity)"
    r"|\d{4}-\d{2}-\d{2}([T ]\d{2}:\d{2}(:\d{2}([.,]\d+)?)?(Z|[+-]\d{2}:?\d{2})?)?",
    re.ASCII | re.IGNORECASE,
)
#: names of tables from IBL's rigs, which may lack a row of column names
_RIG_FILE = re.compile(r"_iblrig_.*\.(raw|timestamps)\b.*", re.DOTALL)


def encoding_of(path: Path) -> str:
    """Return the encoding of a text file. Raises ValueError if the file is not text.

    An encoding that is not a Unicode encoding is a guess: latin-1 or cp1252.
    """
    with path.open("rb") as file:
        encoding = _encoding_by_first_bytes(file.read(4))
    try:
        _check_decodable(path, encoding)
    except UnicodeDecodeError as error:
        if encoding != "utf-8":
            raise ValueError(
                f"the file begins like {encoding} text, but is not {encoding} text"
            ) from error
    else:
        return encoding
    for guess in ("latin-1", "cp1252"):
        if _is_text(path, guess):
            return guess
    raise ValueError("the file is not text: neither UTF-8, UTF-16, latin-1 nor cp1252")


def decode_beginning(raw: bytes) -> str:
    """Return the first bytes of a file as text. The bytes may end inside a character."""
    try:
        return codecs.getincrementaldecoder(_encoding_by_first_bytes(raw[:4]))().decode(raw)
    except UnicodeDecodeError:
        return raw.decode("latin-1")


def is_guess(encoding: str) -> bool:
    """Whether an encoding from :func:`encoding_of` is a guess."""
    return encoding in ("latin-1", "cp1252")


def rows_of(lines: Iterable[str], separator: str) -> Iterator[list[str]]:
    """Yield the fields of each row that is not blank. Each line in ``lines`` has its line end."""
    return (row for row in csv.reader(lines, delimiter=separator) if row)


def has_column_names(name: str, fields: list[str]) -> bool:
    """Whether ``fields``, the first row of the table ``name``, are the names of its columns."""
    # only ``.ssv`` tables and tables from IBL's rigs may lack a row of column names; then a field
    # of the first row is a number or a time
    if not (name.lower().endswith(".ssv") or _RIG_FILE.fullmatch(name)):
        return True
    return not any(_NUMBER_OR_TIME.fullmatch(field.strip()) for field in fields)


def _encoding_by_first_bytes(first: bytes) -> str:
    """Return the Unicode encoding of a text that begins with the given four bytes.

    The encoding is detected by a byte order mark or by zero bytes.
    """
    return json.detect_encoding(first)


def _is_text(path: Path, encoding: str) -> bool:
    try:
        _check_decodable(path, encoding, without=_CONTROL_CHARACTERS)
    except ValueError:
        return False
    return True


def _check_decodable(path: Path, encoding: str, without: re.Pattern[str] | None = None) -> None:
    """Raise ValueError if a part of the file cannot be decoded with ``encoding``.

    Also raise ValueError if the text contains a character that ``without`` matches.
    """
    decoder = codecs.getincrementaldecoder(encoding)()
    with path.open("rb") as file:
        while True:
            raw = file.read(_CHUNK_BYTES)
            text = decoder.decode(raw, final=not raw)
            if without is not None and without.search(text):
                raise ValueError("control characters")
            if not raw:
                return
