"""Runs the stages on a file system of 4 MB that is full, then read-only, then neither; prints the messages.

`unshare --map-root-user --mount python -m tests.core.small_disk FOLDER`: only a root of its own may mount.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from melodygan_core import catalogue, download, features, separation
from melodygan_core.audio import write_wav
from melodygan_core.config import CatalogueConfig, DownloadConfig
from melodygan_core.errors import MelodyGANError
from melodygan_core.parallel import Report
from melodygan_core.storage import Store
from melodygan_core.training import checkpoint
from tests.core.hostile import sine
from tests.core.made import FEATURE, SEPARATION

CONFIG = DownloadConfig(allow_private=True, pause_s=0, timeout_s=60, attempts=1)


@contextmanager
def full(disk: Path) -> Iterator[None]:
    filler = disk / "filler"
    try:
        with filler.open("wb", buffering=0) as file:
            while file.write(bytes(4096)):
                pass
    except OSError:
        yield
    finally:
        filler.unlink()


@contextmanager
def read_only(disk: Path) -> Iterator[None]:
    subprocess.run(["mount", "-o", "remount,ro", str(disk)], check=True)
    try:
        yield
    finally:
        subprocess.run(["mount", "-o", "remount,rw", str(disk)], check=True)


def message_of(stage: Callable[[], Report | None]) -> str:
    """Returns the message for the user; empty on success."""
    try:
        report = stage()
    except MelodyGANError as error:
        return str(error)
    if report is None:
        return ""
    return "".join(f"{'permanent: ' if o.permanent else ''}{o.error}" for o in report.outcomes)


def main() -> None:
    disk = Path(sys.argv[1])
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=4m", "tmpfs", str(disk)], check=True)
    own = disk / "own"
    own.mkdir()
    wave = sine(1.2).astype(np.float32)
    write_wav(own / "song.wav", np.stack([wave, wave]), 44_100)
    (disk / "s.txt").write_text("own\n", "utf-8")
    store = Store(str(disk / "store"))
    weights = disk / "weights"
    weights.mkdir()

    def expand() -> None:
        catalogue.expand(disk / "s.txt", store, CatalogueConfig())

    def fetch() -> Report:
        return download.fetch(ids, store, CONFIG)

    def separate() -> Report:
        return separation.separate(ids, store, SEPARATION)

    def extract() -> Report:
        return features.extract(ids, store, FEATURE, SEPARATION)

    def save() -> None:
        import torch

        checkpoint.save_weights(weights, {"a": torch.nn.Linear(64, 64)}, {"step": 1})

    ids: list[str] = []
    messages: dict[str, list[str]] = {}
    for stage in (expand, fetch, separate, extract, save):
        lines = []
        for trouble in (full, read_only):
            with trouble(disk):
                lines.append(message_of(stage))
            incomplete = [p for p in disk.rglob("*") if p.is_file() and p.name.startswith(".")]
            assert not incomplete, incomplete
        messages[stage.__name__] = [*lines, message_of(stage)]
        ids = [t.track_id for t in catalogue.load(store)]
    messages["errors"] = [p.name for p in disk.rglob("*.error.json")]
    print(json.dumps(messages))


if __name__ == "__main__":
    main()
