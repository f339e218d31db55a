"""``onefs profile``: list, choose and remove the databases that ``onefs setup`` has saved."""

from __future__ import annotations

import click

from onefs.cli.completion import completer_of, profile_names
from onefs.cli.options import json_option, require_value
from onefs.cli.output import say, say_json
from onefs.config import settings

_name_argument = click.argument(
    "name", callback=require_value, shell_complete=completer_of(profile_names)
)


@click.group()
def profile() -> None:
    """List the saved databases, choose the default database, or remove a database."""


@profile.command("list")
@json_option
def list_(as_json: bool) -> None:
    """List the saved databases. A star marks the default database."""
    saved = settings.load_settings_file()
    fallback = saved.default_profile()
    default = fallback.name if fallback is not None else ""
    profiles = [saved.profiles[name] for name in sorted(saved.profiles)]
    if as_json:
        rows = [
            {"name": each.name, "url": each.url, "username": each.username} for each in profiles
        ]
        say_json({"default": default or None, "profiles": rows})
        return
    if not profiles:
        say("No database is saved. `onefs setup` saves one.")
    for each in profiles:
        mark = "*" if each.name == default else " "
        say(f"{mark} {each.name}  {each.url}  {each.username}".rstrip())


@profile.command()
@_name_argument
def use(name: str) -> None:
    """Make NAME the default database. Commands that name no database use the default database."""
    settings.set_default_profile(name)
    say(f"The profile {name} is the default now.")


@profile.command()
@_name_argument
def remove(name: str) -> None:
    """Remove NAME from the saved databases. Files, logs and tokens stay.

    To delete the token too, run `onefs logout --profile NAME` first.
    """
    default = settings.remove_profile(name)
    after = f" The profile {default} is the default now." if default else ""
    say(f"The profile {name} is removed; its files stay.{after}")
