"""The cost of a large library: ten new tracks beside 100 and beside 5,000, and 10,000 tracks in the graph.

    python benchmarks/scale.py increment [--libraries 100,5000]
    python benchmarks/scale.py tracks [--count 10000]

The existing tracks are synthetic: a second of noise each, to save disk space; fingerprints as long as those of
three minutes, so that comparing them takes as long; every artifact in its place; every materialization in
Dagster's database. The measurement is real: the stages of `melodygan run` on ten new songs of 10 s, each run in
a process of its own.
"""

from __future__ import annotations

import argparse
import base64
import json
import os
import resource
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
from library import timed_python
from scipy.io import wavfile
from tqdm import tqdm

from melodygan_core import audio, catalogue, download, features
from melodygan_core.audio import fingerprint
from melodygan_core.config import CatalogueConfig, DownloadConfig, replace
from melodygan_core.config.presets import PRESETS
from melodygan_core.demo import songs
from melodygan_core.storage import Store, sha256_of
from melodygan_dagster.deployment import Deployment

RATE = 44_100
NEW, NEW_S = 10, 10.0
PRINT_LENGTH = round(180 * fingerprint.PER_SECOND)
SETTINGS = PRESETS["demo"]


def deployment(root: Path) -> Deployment:
    return Deployment(str(root / "store"), root / "sources.yaml", "demo", own_home=True)


def make_sounds(root: Path, count: int) -> list[str]:
    """Writes files of noise, lists them in a catalogue and returns their tracks."""
    folder = root / "library"
    folder.mkdir(parents=True)
    for index in tqdm(range(count), desc="sounds", unit="file"):
        noise = np.random.default_rng(index).integers(-8000, 8000, (RATE, 2), np.int16)
        wavfile.write(folder / f"t{index:05d}.wav", RATE, noise)
    text = f"sources:\n  - path: library\n    rights: own\n    max_items: {count}\n"
    (root / "sources.yaml").write_text(text, "utf-8")
    report = catalogue.expand(root / "sources.yaml", deployment(root).opened, CatalogueConfig())
    return [t.track_id for t in report.tracks]


def put_sounds(store: Store, track_ids: list[str]) -> None:
    """Puts raw wavs, stems and fingerprints into the store, as links to the same few files."""
    download.fetch(track_ids[:1], store, DownloadConfig(pause_s=0))
    template = store.read_json(store.raw_json(track_ids[0]))
    tracks = {t.track_id: t for t in catalogue.load(store)}
    model_id = SETTINGS.separation.model_id
    silence = store.work("silence") / "silence.wav"
    wavfile.write(silence, RATE, np.zeros((RATE, 2), np.float32))
    rng = np.random.default_rng(0)
    for track_id in tqdm(track_ids, desc="raw and stems", unit="track"):
        source = catalogue.local_path(tracks[track_id].url)
        wav, stems = Path(store.raw_wav(track_id).path), Path(store.stems(model_id, track_id).path)
        wav.unlink(missing_ok=True)
        wav.hardlink_to(source)
        sha256 = sha256_of(source)
        record = {**template, "track_id": track_id, "url": tracks[track_id].url, "sha256": sha256}
        Path(store.raw_json(track_id).path).write_text(json.dumps(record), "utf-8")
        stems.mkdir(parents=True)
        for name in ("vocals", "instrumental"):
            (stems / f"{name}.wav").hardlink_to(silence)
        # What the asset reads where a track is separated already.
        made: dict[str, Any] = {
            "raw_sha256": sha256,
            "duration_s": 1.0,
            "residual_db": -120.0,
            "model": "centre",
            "baseline": True,
        }
        made["stems"] = {n: {"loudness_lufs": -120.0, "bytes": 1} for n in ("vocals", "instrumental")}
        (stems / "stems.json").write_text(json.dumps(made), "utf-8")
        values = rng.integers(0, 1 << 32, PRINT_LENGTH, np.uint32)
        print_file = Path(store.fingerprint(track_id).path)
        print_file.parent.mkdir(exist_ok=True)
        text = base64.b64encode(values.tobytes()).decode()
        content = {"version": fingerprint.VERSION, "sound": sha256[:16], "fingerprint": text}
        print_file.write_text(json.dumps(content), "utf-8")


def record(root: Path, stage: str, track_ids: list[str]) -> float:
    """Enters a stage's materializations into Dagster's database; returns milliseconds per event."""
    import dagster as dg

    from melodygan_dagster.partitions import TRACKS

    with deployment(root).instance() as instance:
        instance.add_dynamic_partitions(TRACKS, track_ids)
        started = time.perf_counter()
        for track_id in tqdm(track_ids, desc=f"{stage} events", unit="event"):
            instance.report_runless_asset_event(dg.AssetMaterialization(stage, partition=track_id))
        return 1000 * (time.perf_counter() - started) / len(track_ids)


def add_songs(root: Path) -> None:
    """Adds ten new songs to the sources."""
    with (root / "sources.yaml").open("a", encoding="utf-8") as file:
        file.write("  - path: new\n    rights: own\n")
    (root / "new").mkdir()
    for index in range(NEW):
        song = songs.render(index, duration_s=NEW_S)
        audio.write_wav(root / "new" / f"{song.name}.wav", song.mix, RATE)


def run(root: Path) -> None:
    """Runs the stages from catalogue to dataset in this process; prints the seconds of each as JSON."""
    from melodygan_dagster import runner

    took: dict[str, float] = {}
    for result in runner.run(deployment(root)):
        took[result.job] = took.get(result.job, 0.0) + result.duration_s
        if not result.success:
            raise SystemExit(f"{result.job}: {result.reason}")
        if result.job == "dataset_job":
            break
    print(json.dumps({**took, "peak_gib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (1 << 20)}))


def measured(root: Path) -> dict[str, float]:
    """Calls `run` in a process of its own and adds its wall time from start to end."""
    elapsed_s, figures = timed_python(__file__, "run", str(root))
    return {"wall": elapsed_s, **figures}


def show(columns: dict[str, dict[str, float]]) -> None:
    """Prints a table: a row per figure, a column per run."""
    names = list(dict.fromkeys(name for column in columns.values() for name in column))
    print("| | " + " | ".join(columns) + " |\n|---|" + "---|" * len(columns))
    for name in names:
        print(
            f"| {name} | " + " | ".join(f"{c[name]:.2f}" if name in c else "" for c in columns.values()) + " |"
        )


def increment(base: Path, sizes: list[int]) -> None:
    columns: dict[str, dict[str, float]] = {}
    for size in sizes:
        root = base / f"library-{size}"
        track_ids = make_sounds(root, size)
        store = deployment(root).opened
        put_sounds(store, track_ids)
        config = replace(SETTINGS.features, workers=os.cpu_count() or 1)
        features.extract(track_ids, store, config, SETTINGS.separation)
        for stage in ("raw_wav", "stems", "features"):
            record(root, stage, track_ids)
        columns[f"{size}: the dataset, first"] = measured(root)
        add_songs(root)
        columns[f"{size}: {NEW} new"] = measured(root)
        columns[f"{size}: nothing new"] = measured(root)
    show(columns)
    small, large = (columns[f"{size}: {NEW} new"]["wall"] for size in (sizes[0], sizes[-1]))
    print(
        f"{NEW} new tracks beside {sizes[-1]} take {large / small:.2f} times what they take beside {sizes[0]}"
    )


def folder_mib(path: Path) -> float:
    return sum(f.stat().st_size for f in path.rglob("*") if f.is_file()) / (1 << 20)


def tracks(base: Path, count: int) -> None:
    """Catalogue, partitions, features and dataset of many tracks, through real runs."""
    root = base / f"tracks-{count}"
    track_ids = make_sounds(root, count)
    put_sounds(deployment(root).opened, track_ids)
    figures: dict[str, Any] = {stage: record(root, stage, track_ids) for stage in ("raw_wav", "stems")}
    first = measured(root)
    home = deployment(root).home
    print(f"events of raw_wav and stems: {figures['raw_wav']:.1f} and {figures['stems']:.1f} ms each")
    show({f"{count} tracks": {**first, "database_mib": folder_mib(home)}, "nothing new": measured(root)})
    print(f"MELODYGAN_STORE is {root / 'store'}: look at its UI by `melodygan ui --store {root / 'store'}`")


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("what", choices=("increment", "tracks", "run"))
    parser.add_argument("root", nargs="?", type=Path)
    parser.add_argument("--libraries", default="100,5000")
    parser.add_argument("--count", type=int, default=10_000)
    parser.add_argument("--keep", type=Path, help="Folder to leave everything in, for a look at the UI.")
    chosen = parser.parse_args()
    if chosen.what == "run":
        run(chosen.root)
        return
    with tempfile.TemporaryDirectory() as temporary:
        base = chosen.keep or Path(temporary)
        if chosen.what == "increment":
            increment(base, [int(size) for size in chosen.libraries.split(",")])
        else:
            tracks(base, chosen.count)


if __name__ == "__main__":
    main()
