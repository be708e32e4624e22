"""Songs to measure with, and one way to time a process."""

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
    """The demo's songs as wavs, and a `songs.json` that the demo's server makes its pages of."""
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
    """Seconds that a process takes from start to end, and what it printed.

    Raises:
        SystemExit: it failed.
    """
    started = time.perf_counter()
    done = subprocess.run(command, capture_output=True, text=True, check=False, **options)
    if done.returncode:
        raise SystemExit(f"{' '.join(command)}\n{done.stdout[-2000:]}\n{done.stderr[-3000:]}")
    return time.perf_counter() - started, done.stdout


def timed_python(*arguments: str) -> tuple[float, dict[str, float]]:
    """Seconds that a Python process takes from start to end, and the JSON that it printed last."""
    elapsed_s, printed = timed([sys.executable, *arguments])
    return elapsed_s, json.loads(printed.splitlines()[-1])
