"""`melodygan`: the command line. Its commands need no Dagster; other packages add theirs by entry points.

Modules of this package import only click at their top: `melodygan --help` imports all of them.
"""

from __future__ import annotations

import click

from melodygan_core.cli import config, editing, export, plan, share, sound, store, train
from melodygan_core.cli.group import Commands


@click.group(cls=Commands, context_settings={"help_option_names": ["-h", "--help"], "show_default": True})
@click.version_option(package_name="melodygan")
def main() -> None:
    """From a list of URLs to new music."""


OWN = (config.config, plan.plan, store.doctor, store.retry, train.train, export.export, share.push, share.pack)
for command in (*OWN, *sound.COMMANDS, *editing.COMMANDS):
    main.add_command(command)
