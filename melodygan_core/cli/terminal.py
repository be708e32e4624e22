"""Printing on a terminal: whatever a command prints goes through `terminal_text`."""

from __future__ import annotations

import sys
import traceback
from types import TracebackType

import click

from melodygan_core.text import terminal_text


def echo(
    text: object = "", *, err: bool = False, lines: bool = False, mark: str = "", colour: str = ""
) -> None:
    """Prints a line.

    Args:
        text: May hold text of strangers, which cannot begin a line of its own.
        err: Print to stderr.
        lines: The text has several lines, none of which is a stranger's.
        mark: A word of the command's own before the text.
        colour: Of the mark.
    """
    before = click.style(mark, fg=colour or None) if mark else ""
    click.echo(f"{before}{terminal_text(text, lines=lines)}", err=err)


def confirm(question: str) -> None:
    """Asks, and ends the command unless the answer is yes."""
    click.confirm(terminal_text(question), abort=True)


def print_traceback(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    """Prints the traceback of an unexpected error: `sys.excepthook` of a command."""
    for part in traceback.format_exception(kind, error, trace):
        sys.stderr.write(terminal_text(part, lines=True))
