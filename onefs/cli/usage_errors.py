"""Mistakes in a command line: one sentence that begins with ``onefs:``, then the usage line."""

from __future__ import annotations

import difflib
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager

import click

from onefs.cli.options import say

#: what click raises for a group without a command, to show its help; click before 8.2 has none
_HELP_ERRORS: tuple[type[BaseException], ...] = tuple(
    kind for kind in [getattr(click.exceptions, "NoArgsIsHelpError", None)] if kind is not None
)


class UsageGroup(click.Group):
    """A group of commands that suggests the nearest one for a name that it does not have."""

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
    """A mistake in a command line, shown as one sentence and the usage line below it."""

    exit_code = 2

    def __init__(self, error: click.ClickException) -> None:
        super().__init__(_format_error(error))
        of_command = error.ctx if isinstance(error, click.UsageError) else None
        self._context = of_command or click.get_current_context(silent=True)
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
    """Turn the errors of click into sentences of ours; a request for help stays what it is."""
    try:
        yield
    except CommandLineError:
        raise
    except click.ClickException as error:
        if isinstance(error, _HELP_ERRORS):
            raise
        raise CommandLineError(error) from error


def suggestion_for(given: str, known: Iterable[str]) -> str:
    """Return ``: did you mean x?``, or nothing where no known name is near."""
    near = difflib.get_close_matches(given, list(known), 1)
    return f": did you mean {near[0]}?" if near else ""


def _format_error(error: click.ClickException) -> str:
    """The message of an error of click, in the form of our own."""
    if isinstance(error, click.NoSuchOption):
        known = [] if error.ctx is None else _option_names(error.ctx.command)
        return f"there is no option {error.option_name}{suggestion_for(error.option_name, known)}"
    text = " ".join(error.format_message().split()).removesuffix(".")
    return text[:1].lower() + text[1:]


def _option_names(command: click.Command) -> list[str]:
    return [each for parameter in command.params for each in parameter.opts if each[:1] == "-"]
