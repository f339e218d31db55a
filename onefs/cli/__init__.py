"""The command line: ``onefs COMMAND``. A command's module is loaded when the command is called.

Each family of commands has a module. These modules share ``options``, ``output`` and ``prompts``.
"""

from __future__ import annotations

import importlib
import logging
import sys
from collections.abc import Sequence
from typing import Any

import click

from onefs import __version__
from onefs.cli.deferred_warnings import DeferredWarnings
from onefs.cli.output import report_error
from onefs.cli.streams import standard_streams, start_in_utf8_mode
from onefs.cli.usage_errors import UsageGroup, errors_as_sentences
from onefs.errors import OnefsError, reason_of

#: for each command: its module and function, and its summary in ``onefs --help``
COMMANDS = {
    "mount": ("onefs.cli.mount:mount", "Show a database as a directory."),
    "umount": ("onefs.cli.mount:umount", "Undo a mount."),
    "refresh": (
        "onefs.cli.refresh:refresh",
        "Invalidate cached listings, so that the server is asked again.",
    ),
    "status": ("onefs.cli.status:status", "Show the mounts and what they are doing."),
    "sync": ("onefs.cli.sync:sync", "Fill the catalogue from ONE cache tables."),
    "tags": ("onefs.cli.tags:tags", "List the releases of a database."),
    "get": ("onefs.cli.get:get", "Download files, many at once."),
    "cache": ("onefs.cli.cache:cache", "List, verify, pin and evict what the cache folder holds."),
    "search": ("onefs.cli.search:search", "Find sessions."),
    "changes": (
        "onefs.cli.changes:changes",
        "Print what was added, replaced or removed since a date.",
    ),
    "list": ("onefs.cli.listing:list_", "List a session's datasets, or the database's names."),
    "show": ("onefs.cli.listing:show", "Show a dataset's shape and type, from its header."),
    "path": ("onefs.cli.listing:path", "Print the folder of a session."),
    "setup": ("onefs.cli.setup:setup", "Save a database's URL, user and credentials."),
    "login": ("onefs.cli.login:login", "Get a new token for a database."),
    "logout": ("onefs.cli.login:logout", "Delete a database's saved token and password."),
    "profile": ("onefs.cli.profile:profile", "List, choose or remove saved databases."),
    "log": ("onefs.cli.log:log", "Print the log of mounts."),
    "demo": ("onefs.cli.demo:demo", "The embedded laboratory."),
}


class LazyGroup(UsageGroup):
    """A command group that loads a command on its first use. Prints each error as one sentence."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return None
        module, _, attribute = COMMANDS[cmd_name][0].partition(":")
        command = getattr(importlib.import_module(module), attribute)
        assert isinstance(command, click.Command)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, summary) for name, (_, summary) in COMMANDS.items()])

    def main(self, args: Sequence[str] | None = None, *more: Any, **named: Any) -> Any:
        """Run the command that ``args`` name. If ``args`` is None, use the process's arguments."""
        if args is None:
            start_in_utf8_mode()
        with standard_streams():
            try:
                return super().main(args, *more, **named)
            except OnefsError as error:  # such as a failure to print the help text
                sys.exit(report_error(error))
            except OSError as error:
                sys.exit(report_error(_to_onefs_error(error)))

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        with errors_as_sentences():
            return super().parse_args(ctx, args)

    def invoke(self, ctx: click.Context) -> object:
        try:
            with DeferredWarnings() as warnings, errors_as_sentences():
                warnings.addFilter(_is_reported_only_here)
                try:
                    return super().invoke(ctx)
                except OnefsError as error:
                    warnings.suppress(str(error))
                    ctx.exit(report_error(error))
        except KeyboardInterrupt:
            ctx.exit(130)
        except click.Abort as abort:
            if not isinstance(abort.__context__, KeyboardInterrupt):
                raise  # the input ended at a question: click prints "Aborted!"
            ctx.exit(130)


def _is_reported_only_here(record: logging.LogRecord) -> bool:
    """Return True if the warning ``record`` is the only report of its problem to the user."""
    # the command also prints an error about an unreachable server
    return record.name not in (
        "onefs.catalogue.availability",
        "onefs.catalogue.listing_cache.refresh",
    )


def _to_onefs_error(error: OSError) -> OnefsError:
    """Return an OnefsError for an OSError that the other modules have not converted."""
    converted = OnefsError(reason_of(error))
    converted.__cause__ = error
    return converted


@click.group(cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="onefs")
def main() -> None:
    """The International Brain Laboratory as a directory.

    `onefs mount --demo MOUNTPOINT` mounts an embedded laboratory as a trial; `onefs setup` saves
    the URL and login of your database.
    """
