"""The command group: commands of the core, commands of installed packages, and one sentence per error."""

from __future__ import annotations

import functools
import re
import sys
from collections.abc import Mapping
from importlib import metadata
from typing import Any

import click

from melodygan_core.cli.terminal import print_traceback
from melodygan_core.errors import InputError, MelodyGANError, extra_of, missing, storage_errors
from melodygan_core.text import terminal_text

# Packages add commands in this group of entry points. The core imports none of them.
ENTRY_POINTS = "melodygan.commands"
# Commands that need Dagster. They are named here for the message when they are not installed.
DAGSTER_COMMANDS = ("demo", "forget", "run", "studio", "ui")
# In a message of an InputError: the field that it is about, and other fields in backticks.
_FIELD = re.compile(r"^(?P<subject>\w+)(?= must )|`(?P<other>\w+)`")


class Failure(click.ClickException):
    """One sentence on stderr, and exit status 1."""

    def __init__(self, message: str) -> None:
        super().__init__(terminal_text(message))


class InputFailure(Failure):
    """One sentence on stderr about a value that is not allowed, and exit status 2, as in click."""

    exit_code = 2


class Commands(click.Group):
    """A group that also has the commands of the entry points in `melodygan.commands`.

    A command is imported when it is called or listed. Errors of the package become one sentence and an exit
    status: 2 for an input error, 1 otherwise.
    """

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Names of all commands, sorted."""
        return sorted({*self.commands, *entry_points()})

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """The command of a name, or None."""
        own = super().get_command(ctx, cmd_name)
        if own is not None:
            return own
        entry_point = entry_points().get(cmd_name)
        if entry_point is None:
            return _unavailable(cmd_name) if cmd_name in DAGSTER_COMMANDS else None
        try:
            return entry_point.load()
        except ImportError:
            return _unavailable(cmd_name)

    def invoke(self, ctx: click.Context) -> Any:
        """Runs a command; an error of the package is one sentence, not a traceback."""
        if sys.excepthook is sys.__excepthook__:
            sys.excepthook = print_traceback
        try:
            with storage_errors():
                return super().invoke(ctx)
        except Failure:
            raise
        except click.ClickException as error:
            # A value of the command line, such as the name of a stranger's file.
            # click calls the attribute final; a copy would lose the context of its usage line.
            vars(error)["message"] = terminal_text(error.message, lines=True)
            raise
        except MelodyGANError as error:
            raise failure(error, self._options(ctx)) from error
        except ModuleNotFoundError as error:
            extra = extra_of(error.name)
            if not extra:
                raise
            raise Failure(missing(f"`melodygan {ctx.invoked_subcommand or ''}`", extra)) from error

    def _options(self, ctx: click.Context) -> dict[str, str]:
        """The options of the command that was called, by the names of the fields that they set."""
        command = self.get_command(ctx, ctx.invoked_subcommand or "")
        given = [param for param in getattr(command, "params", []) if isinstance(param, click.Option)]
        return {str(param.name): param.opts[0] for param in given}


def failure(error: MelodyGANError, options: Mapping[str, str]) -> Failure:
    """The failure that an error becomes: an InputFailure for an InputError.

    Args:
        error: Its message names a field of a request or config.
        options: Field to the option that sets it; an input error names the option.
    """
    if not isinstance(error, InputError):
        return Failure(str(error))
    sentences = [_FIELD.sub(lambda found: _named(found, options), str(part)) for part in error.args]
    return InputFailure("; ".join(sentences))


def _named(found: re.Match[str], options: Mapping[str, str]) -> str:
    name = found["subject"] or found["other"]
    return found[0].replace(name, options[name]) if name in options else found[0]


@functools.cache
def entry_points() -> dict[str, metadata.EntryPoint]:
    """Commands that installed packages add, by name."""
    return {entry_point.name: entry_point for entry_point in metadata.entry_points(group=ENTRY_POINTS)}


def _unavailable(name: str) -> click.Command:
    """A command in place of one that cannot be imported."""

    def fail() -> None:
        raise Failure(missing(f"`melodygan {name}`", "dagster"))

    settings = {"ignore_unknown_options": True, "allow_extra_args": True, "help_option_names": []}
    text = "Not available: needs the extra dagster."
    return click.Command(name, callback=fail, context_settings=settings, short_help=text)
