"""Calls commands on a file system of 8 MB that is full, then read-only; prints status and output of each.

`unshare --map-root-user --mount python -m tests.core.small_disk_commands FOLDER`: see `small_disk`.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

from click.testing import CliRunner

from melodygan_core.cli import with_release
from melodygan_dagster.cli import main as melodygan
from melodygan_dagster.deployment import Deployment
from tests.core.small_disk import full, read_only

RELEASE = Path(__file__).parents[1] / "data" / "release-0.1-dense"


def main() -> None:
    disk = Path(sys.argv[1])
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=8m", "tmpfs", str(disk)], check=True)
    os.environ.pop("DAGSTER_HOME", None)
    shutil.copytree(RELEASE, disk / "release")
    sources, store = disk / "s.txt", disk / "store"
    sources.write_text("https://a.example/x.mp3\n", "utf-8")
    Deployment(str(store), sources, "demo").instance().dispose()
    options = ["--store", str(store), "--sources", str(sources), "--preset", "demo"]
    # That loading takes long is not what is looked at.
    with_release.SLOW_S = 600.0
    made = ["--count", "1", "--seconds", "2", "--vocoder", "griffin_lim", "--out", str(disk / "out")]
    commands = {
        "run": ["run", *options],
        "run of a new store": ["run", *options[2:], "--store", str(disk / "new")],
        "ui": ["ui", *options, "--port", "39118"],
        "generate": ["generate", str(disk / "release"), *made],
    }
    printed = {}
    for trouble in (full, read_only):
        with trouble(disk):
            for name, command in commands.items():
                # The first command sets it for its children.
                os.environ.pop("DAGSTER_HOME", None)
                result = CliRunner().invoke(melodygan, command)
                error = result.exception
                if error is not None and not isinstance(error, SystemExit):
                    raise error
                printed[f"{name}, {trouble.__name__}"] = [result.exit_code, result.stdout, result.stderr]
    print(json.dumps(printed))


if __name__ == "__main__":
    main()
