"""Errors in a command line, shown as one sentence after ``onefs:``. The usage line follows."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager

import click

from onefs.cli.output import say

#: the error that click (since 8.2) raises for a group without a command, to show the help text
_HELP_ERRORS: tuple[type[BaseException], ...] = tuple(
    kind for kind in [getattr(click.exceptions, "NoArgsIsHelpError", None)] if kind is not None
)


class UsageGroup(click.Group):
    """A group of commands that suggests the nearest command for an unknown name."""

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        name = args[0]
        if name == "help":
            raise click.UsageError(
                f"there is no command help: run `{ctx.command_path} --help`", ctx
            )
        if not name.startswith("-") and self.get_command(ctx, name) is None:
            known = self.list_commands(ctx)
            hint = suggestion_for(name, known) or f"; there are {', '.join(known)}"
            raise click.UsageError(f"there is no command {name}{hint}", ctx)
        return super().resolve_command(ctx, args)


class CommandLineError(click.ClickException):
    """An error in a command line, shown as one sentence with the usage line below the sentence."""

    exit_code = 2

    def __init__(self, error: click.ClickException) -> None:
        super().__init__(_format_error(error))
        context = error.ctx if isinstance(error, click.UsageError) else None
        self._context = context or click.get_current_context(silent=True)
        self.exit_code = error.exit_code  # type: ignore[misc]

    def show(self, file: object = None) -> None:
        """Print the sentence and the usage line on standard error."""
        if sys.stderr is None:
            return
        say(f"onefs: {self.message}", err=True)
        if self._context is not None:
            for line in self._context.get_usage().splitlines():
                click.echo(line, err=True)


@contextmanager
def errors_as_sentences() -> Iterator[None]:
    """Convert click's errors to CommandLineError, except errors that only show the help text."""
    try:
        yield
    except CommandLineError:
        raise
    except click.ClickException as error:
        if isinstance(error, _HELP_ERRORS):
            raise
        raise CommandLineError(error) from error


def suggestion_for(name: str, known: Iterable[str]) -> str:
    """Return ``: did you mean x?``, where x is the most similar known name.

    Return '' if no known name is similar.
    """
    import difflib  # needed for wrong names only

    near = difflib.get_close_matches(name, list(known), 1)
    return f": did you mean {near[0]}?" if near else ""


def _format_error(error: click.ClickException) -> str:
    """Return the message of a click error, written like the messages of onefs."""
    if isinstance(error, click.NoSuchOption):
        known = [] if error.ctx is None else _option_names(error.ctx.command)
        return f"there is no option {error.option_name}{suggestion_for(error.option_name, known)}"
    text = " ".join(error.format_message().split()).removesuffix(".")
    return text[:1].lower() + text[1:]


def _option_names(command: click.Command) -> list[str]:
    return [each for parameter in command.params for each in parameter.opts if each[:1] == "-"]
