"""Questions at a terminal."""

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
    """Return the error of a command that has to ask for something and cannot."""
    return NotConfigured(f"there is no terminal to ask on for {missing}")


def prompt(question: str, default: str = "") -> str:
    """Return an answer of one line; '' only if ``default`` is ''."""
    if printable(default) != default:  # it cannot be shown as it is
        default = ""
    return _prompt(question, default=default, show_default=bool(default)).strip()


def prompt_secret(question: str) -> str:
    """Return an answer that is not shown while it is typed; '' when nothing is typed."""
    return _prompt(question, default="", show_default=False, hide_input=True)


def secret_prompt() -> Callable[[str], str] | None:
    """Return :func:`prompt_secret`, or None where no user can be asked."""
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
