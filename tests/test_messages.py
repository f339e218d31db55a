"""Each message of onefs is in docs/TROUBLESHOOTING.md, or tests/data/messages.tsv says why not."""

from __future__ import annotations

import csv
import re
from difflib import get_close_matches
from fnmatch import fnmatchcase
from pathlib import Path

import pytest

from tests.messages import VALUE, Message, messages

_ROOT = Path(__file__).parents[1]
_PAGE = (_ROOT / "docs" / "TROUBLESHOOTING.md").read_text("utf-8")
_EXCEPTIONS = _ROOT / "tests" / "data" / "messages.tsv"

#: the lines of the page's blocks, which are messages in which … stands for any text, as patterns
ENTRIES = {
    line: re.compile(re.escape(line).replace(re.escape(VALUE), ".*"))
    for block in re.findall(r"^```text\n(.*?)^```", _PAGE, re.DOTALL | re.MULTILINE)
    for line in block.splitlines()
}
with _EXCEPTIONS.open(encoding="utf-8", newline="") as file:
    REASONS = [tuple(row) for row in csv.reader(file, delimiter="\t", quoting=csv.QUOTE_NONE)][1:]


@pytest.fixture(scope="module")
def found() -> list[Message]:
    """The messages of the package."""
    return messages()


def excuses(row: tuple[str, ...], message: Message) -> bool:
    """Whether a row of the exceptions is for the message."""
    values = (message.file, message.carrier, message.text)
    return all(fnmatchcase(value, glob) for value, glob in zip(values, row, strict=False))


def test_messages_are_found(found: list[Message]) -> None:
    assert len(found) > 450
    assert {"UsageError", "warning", "warn", "say", "MountError"} <= {m.carrier for m in found}


def test_every_message_has_an_entry_or_a_reason(found: list[Message]) -> None:
    missing = [
        f"onefs/{message.file}:{message.line}\n  {message.text}\n"
        f"  {message.file}\t{message.carrier}\t{message.text}\t<why it needs no entry>"
        for message in found
        if not any(entry.fullmatch(message.text) for entry in ENTRIES.values())
        and not any(excuses(row, message) for row in REASONS)
    ]
    assert not missing, (
        f"{len(missing)} messages have no entry. Add the second line of each to a block of "
        "docs/TROUBLESHOOTING.md, with its cause and remedy; or, if it says itself what to do, the "
        f"third line to {_EXCEPTIONS.relative_to(_ROOT)}:\n" + "\n".join(missing)
    )


def test_every_line_is_a_message(found: list[Message]) -> None:
    texts = [message.text for message in found]
    wrong = {line for line in ENTRIES if not any(map(ENTRIES[line].fullmatch, texts))}
    assert not wrong, (
        "docs/TROUBLESHOOTING.md has lines that no message of onefs has:\n"
        + "\n".join(
            f"{line}\n  the nearest is: {''.join(get_close_matches(line, texts, 1, 0))}"
            for line in sorted(wrong)
        )
    )


def test_every_reason_is_for_a_message(found: list[Message]) -> None:
    wrong = [row for row in REASONS if not any(excuses(row, message) for message in found)]
    assert not wrong, f"remove or correct these rows of {_EXCEPTIONS.relative_to(_ROOT)}: {wrong}"
    assert all(len(row) == 4 and row[3].strip() for row in REASONS)
