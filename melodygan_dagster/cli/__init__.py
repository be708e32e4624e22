"""`melodygan`: the whole graph in one command, and what a release can do without Dagster."""

from __future__ import annotations

from typing import Any

import click

from melodygan_core.errors import MelodyGANError
from melodygan_dagster.cli.graph import demo, run, ui
from melodygan_dagster.cli.store import doctor, forget, retry
from melodygan_dagster.cli.train import train
from melodygan_dagster.cli.use import augment, generate, interpolate, reconstruct, transfer

USES = (generate, reconstruct, interpolate, transfer, augment)

__all__ = ["USES", "demo", "doctor", "forget", "main", "retry", "run", "train", "ui"]


class _Group(click.Group):
    def invoke(self, ctx: click.Context) -> Any:
        """A wrong input is one sentence, not a traceback."""
        try:
            return super().invoke(ctx)
        except MelodyGANError as error:
            raise click.ClickException(str(error)) from error


@click.group(cls=_Group, context_settings={"help_option_names": ["-h", "--help"], "show_default": True})
@click.version_option(package_name="melodygan")
def main() -> None:
    """From a list of URLs to new music."""


for command in (demo, run, train, ui, doctor, forget, retry, *USES):
    main.add_command(command)
