"""The commands of `melodygan` that need Dagster: run, demo, studio, ui and forget.

The core finds them by the entry points of the installed distribution. Importing this package adds them as
well: in a source tree, the installed entry points may be those of another version.
"""

from melodygan_core.cli import main
from melodygan_dagster.cli.forget import forget
from melodygan_dagster.cli.graph import demo, run, studio, ui

for command in (demo, forget, run, studio, ui):
    main.add_command(command)

__all__ = ["main"]
