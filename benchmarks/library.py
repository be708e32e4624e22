"""Songs to measure with, and the timing of a process."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from melodygan_core import audio
from melodygan_core.demo import songs

RATE = 44_100


def write_songs(folder: Path, count: int, duration_s: float) -> list[Path]:
    """Writes the demo's songs as wavs, with the `songs.json` that the demo's server reads."""
    folder.mkdir(parents=True)
    paths, entries = [], []
    for index in range(count):
        song = songs.render(index, duration_s=duration_s)
        paths.append(folder / f"{index:03d}-{song.name}.wav")
        audio.write_wav(paths[-1], song.mix, RATE)
        entries.append({"file": paths[-1].name, "title": song.title, "tags": []})
    (folder / "songs.json").write_text(json.dumps(entries), "utf-8")
    return paths


def timed(command: list[str], **options: Any) -> tuple[float, str]:
    """Returns the seconds that a process takes from start to end, and its output.

    Raises:
        SystemExit: it failed.
    """
    started = time.perf_counter()
    done = subprocess.run(command, capture_output=True, text=True, check=False, **options)
    if done.returncode:
        raise SystemExit(f"{' '.join(command)}\n{done.stdout[-2000:]}\n{done.stderr[-3000:]}")
    return time.perf_counter() - started, done.stdout


def timed_python(*arguments: str) -> tuple[float, dict[str, float]]:
    """Returns the seconds that a Python process takes from start to end, and the JSON of its last line."""
    elapsed_s, printed = timed([sys.executable, *arguments])
    return elapsed_s, json.loads(printed.splitlines()[-1])
