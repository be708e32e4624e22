"""Whether training waits for its input: steps of the codecs on synthetic features from disk.

    python benchmarks/training_input.py [--hours 1 100] [--preset small] [--folder /tmp]

Makes a dataset of each size (62 MB per hour with `small`), measures, and deletes it. For each codec, in a
process of its own, it prints: seconds from opening the dataset, which is not in the page cache, to the first
batch; batches per second of the loader alone; steps per second with the loader and with one batch in memory, in
turn, the best round of each; and the peak of anonymous memory, which excludes mapped files.
"""

from __future__ import annotations

import argparse
import itertools
import os
import re
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import closing
from dataclasses import asdict
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch

from melodygan_core.config import STEMS, FeatureConfig, to_dict
from melodygan_core.config.presets import PRESETS
from melodygan_core.config.registry import codec_component
from melodygan_core.dataset import Dataset, index
from melodygan_core.dataset.index import Entry
from melodygan_core.storage import Artifact, Store, dump_json
from melodygan_core.training import Batch, optimizer_for, prefetch, resolve_device, seed_everything, update

TRACK_S = 240.0
ROUNDS, ROUND_S = 3, 8.0
MEAN, STD = -4.0, 2.0


def write_dataset(store: Store, hours: float, feature: FeatureConfig) -> Artifact:
    """Writes a dataset of so many hours of mixes, with the shards and the manifest that `assemble` writes."""
    rng = np.random.default_rng(0)
    segments = round(TRACK_S / feature.segment_s)
    widths = {name: feature.segment_frames * n for name, n in feature.columns.items()}
    # Each track is a crop of the same noise: new noise for each would take longer than the measurement.
    noise = rng.normal(MEAN, STD, 2 * segments * max(widths.values())).astype(np.float16)
    half = pa.field("element", pa.float16(), nullable=False)
    entries = []
    for number in range(max(10, round(hours * 3600 / TRACK_S))):
        columns = {
            "track_id": pa.array([f"{number:05d}"] * segments),
            "stem": pa.array(["mix"] * segments),
            "index": pa.array(np.arange(segments, dtype=np.int32)),
        }
        for name, width in widths.items():
            first = rng.integers(0, len(noise) - segments * width)
            values = pa.array(noise[first : first + segments * width])
            columns[name] = pa.FixedSizeListArray.from_arrays(values, type=pa.list_(half, width))
        entry = Entry(
            f"{number:05d}", "", f"{number:05d}", TRACK_S, rows=segments, sums=np.array([float(number)])
        )
        entries.append((entry, pa.table(columns)))
    size = PRESETS["small"].dataset.shard_tracks
    for start in range(0, len(entries), size):
        index.pack(store, store.shards("made"), entries[start : start + size])
    return _version(store, [entry for entry, _ in entries], feature)


def _version(store: Store, entries: list[Entry], feature: FeatureConfig) -> Artifact:
    splits = ("train",) * 8 + ("validation", "test")
    rows = [{**asdict(e), "split": splits[k % 10], "tags": ["made"]} for k, e in enumerate(entries)]
    bands = feature.columns.values()
    sums = [value for n in bands for moment in (MEAN, MEAN**2 + STD**2) for value in [moment] * n]
    manifest = {
        "feature": to_dict(feature),
        "separation": "none",
        "shards": store.uri(store.shards("made")),
        "statistics": {stem: [1.0, *sums] for stem in STEMS},
    }
    folder = store.dataset("made")
    with store.writing_folder(folder) as out:
        pq.write_table(pa.Table.from_pylist(rows), out / "tracks.parquet")
        dump_json(out / "manifest.json", manifest)
    return Artifact("feature_table", "made", store.uri(folder), "", 0)


def forget_pages(folder: Path) -> None:
    """Removes the files of a folder from the page cache."""
    for path in folder.rglob("*.arrow"):
        with path.open("rb") as file:
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def anonymous_mb() -> float:
    """Memory of this process without mapped files, in MiB."""
    found = re.search(r"RssAnon:\s+(\d+)", Path("/proc/self/status").read_text())
    assert found
    return int(found[1]) / 1024


def watch(peak: list[float], ended: threading.Event) -> None:
    """Updates the peak of `anonymous_mb` until the event is set."""
    while not ended.wait(0.02):
        peak[0] = max(peak[0], anonymous_mb())


def rate(step: Callable[[Batch], None], batches: Iterator[Batch]) -> float:
    """Batches per second, over ROUND_S seconds."""
    count, started = 0, time.perf_counter()
    while (elapsed_s := time.perf_counter() - started) < ROUND_S:
        step(next(batches))
        count += 1
    return count / elapsed_s


def measure(root: str, made: Artifact, preset: str, codec: str) -> str:
    """Returns the line of one codec."""
    config = PRESETS[preset].codecs[codec]
    device = resolve_device("auto")
    seed_everything(0)
    peak, ended = [anonymous_mb()], threading.Event()
    watcher = threading.Thread(target=watch, args=(peak, ended))
    watcher.start()
    before = peak[0]
    started = time.perf_counter()
    dataset = Dataset(Store(root), made)
    task = codec_component(codec).load().task(dataset, config, device)
    with closing(prefetch(task.get_batch, range(10**9), device)) as batches:
        cached = next(batches)
        first_s = time.perf_counter() - started
        optimizer = optimizer_for(task.model, config.optimizer, task.betas)

        def step(batch: Batch) -> None:
            for _, loss, _ in task.training_step(0, batch):
                update(optimizer, loss, 1e-4, 1.0)

        rate(step, itertools.repeat(cached))
        alone = rate(lambda batch: None, batches)
        rounds = [(rate(step, batches), rate(step, itertools.repeat(cached))) for _ in range(ROUNDS)]
    ended.set()
    watcher.join()
    loaded, same = (max(r) for r in zip(*rounds, strict=True))
    return (
        f"{codec}: first batch after {first_s:.1f} s, loader alone {alone:.0f} batches/s, step with it "
        f"{loaded:.2f}/s, on one cached batch {same:.2f}/s, ratio {loaded / same:.3f}, "
        f"anonymous memory at most {peak[0]:.0f} MB ({before:.0f} MB before)"
    )


def main() -> None:
    """Prints a line for each size and codec."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--hours", type=float, nargs="+", default=[1, 100])
    parser.add_argument("--preset", choices=list(PRESETS), default="small")
    parser.add_argument("--folder", default=tempfile.gettempdir(), help="Folder for the datasets.")
    options = parser.parse_args()
    feature = PRESETS[options.preset].features
    print(f"{resolve_device('auto')}, {torch.get_num_threads()} threads, preset {options.preset}")
    for hours in options.hours:
        frame_bytes = 2 * sum(feature.columns.values())
        print(f"{hours:g} h: {hours * 3600 * feature.frame_rate * frame_bytes / 1e9:.2f} GB", flush=True)
        with tempfile.TemporaryDirectory(prefix="melodygan-input-", dir=options.folder) as root:
            made = write_dataset(Store(root), hours, feature)
            for codec in PRESETS[options.preset].codecs:
                forget_pages(Path(root))
                with ProcessPoolExecutor(1, get_context("spawn")) as process:
                    print(
                        "  " + process.submit(measure, root, made, options.preset, codec).result(), flush=True
                    )


if __name__ == "__main__":
    main()
