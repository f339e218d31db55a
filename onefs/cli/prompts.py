"""Questions that the user answers at the terminal."""

from __future__ import annotations

import sys
from collections.abc import Callable

import click

from onefs.errors import NotConfigured
from onefs.printable import printable


def can_prompt() -> bool:
    """Whether standard input is a terminal, so that a user can be asked."""
    return sys.stdin is not None and sys.stdin.isatty()


def no_terminal_error(missing: str) -> NotConfigured:
    """Return the error for a command that must ask for ``missing`` but has no terminal."""
    return NotConfigured(f"there is no terminal on which onefs can ask for {missing}")


def prompt(question: str, default: str = "") -> str:
    """Ask a question, and return the answer, which is one line.

    If the user types nothing, return ``default``, or '' if ``default`` is not printable.
    """
    if printable(default) != default:  # the default cannot be shown unchanged
        default = ""
    return _prompt(question, default=default, show_default=bool(default)).strip()


def prompt_secret(question: str) -> str:
    """Ask a question, and return the answer, which is not shown while the user types.

    Return '' if the user types nothing.
    """
    return _prompt(question, default="", show_default=False, hide_input=True)


def secret_prompt() -> Callable[[str], str] | None:
    """Return :func:`prompt_secret`, or None if there is no terminal."""
    return prompt_secret if can_prompt() else None


def _prompt(question: str, *, default: str, show_default: bool, hide_input: bool = False) -> str:
    answer: str = click.prompt(
        printable(question),
        default=default,
        show_default=show_default,
        hide_input=hide_input,
        err=True,
        prompt_suffix=": ",
    )
    return answer
