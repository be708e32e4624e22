"""Features of many tracks; existing tables of the same stems are skipped."""

from __future__ import annotations

import hashlib
import json
import multiprocessing
import os
from collections import Counter
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import torch
from upath import UPath

from melodygan_core import parallel
from melodygan_core.config import STEMS, FeatureConfig, SeparationConfig, to_dict
from melodygan_core.errors import MelodyGANError
from melodygan_core.features.segments import Sound, load, segment_loudness
from melodygan_core.features.table import VERSION, feature_id, footer, schema, stem_table
from melodygan_core.storage import Store


def _sounds(wavs: dict[str, UPath], store: Store, config: FeatureConfig) -> Iterator[tuple[str, Sound]]:
    # Only one stem is in memory at a time.
    for stem in STEMS:
        with store.reading(wavs[stem]) as local:
            yield stem, load(local, config)


def _stems_hash(store: Store, folder: UPath, track_id: str) -> str:
    listing = folder / "stems.json"
    if not listing.exists():
        raise MelodyGANError(f"{track_id} has no stems in {store.uri(folder)}: separate it first")
    return hashlib.sha256(listing.read_bytes()).hexdigest()


def _write(
    path: Path, sounds: Iterator[tuple[str, Sound]], track_id: str, config: FeatureConfig, facts: dict[str, str]
) -> dict[str, Any]:
    """Writes one row group per stem, and `facts` and the summary to the footer; returns the summary."""
    unusable: Counter[str] = Counter()
    summary: dict[str, Any] = {"segments": 0}
    split = ["start_s", "loudness_lufs", "peak_db", *(f"{name}.list.element" for name in config.columns)]
    with pq.ParquetWriter(
        path,
        schema(config).with_metadata(facts),
        compression="zstd",
        use_dictionary=False,
        column_encoding=dict.fromkeys(split, "BYTE_STREAM_SPLIT"),
    ) as writer:
        for stem, sound in sounds:
            table = stem_table(track_id, stem, sound, config)
            writer.write_table(table, row_group_size=len(table))
            summary["segments"] += len(table)
            unusable.update(reason for reason in table["reason"].to_pylist() if reason)
            if stem == "mix":
                level = segment_loudness(sound.wav, config.sample_rate, len(sound.wav), 1)
                summary["mix_loudness_lufs"] = round(float(level[0]), 2)
                summary["duration_s"] = round(len(sound.wav) / config.sample_rate, 3)
        summary["usable_segments"] = summary["segments"] - unusable.total()
        summary["unusable"] = dict(sorted(unusable.items()))
        writer.add_key_value_metadata({"summary": json.dumps(summary)})
    return summary


def _present(path: UPath, facts: dict[str, str]) -> dict[str, Any] | None:
    """Returns the summary of the table at `path`, or None if it is missing or of other stems."""
    if not path.exists():
        return None
    found = footer(path)
    return json.loads(found["summary"]) if found.get("stems_sha256") == facts["stems_sha256"] else None


def _extract_track(
    track_id: str, store: Store, config: FeatureConfig, separation: SeparationConfig, workers: int
) -> dict[str, Any]:
    # In a worker of this stage only: another process may train next, and the last digits of weights depend on
    # the number of threads. A Ray actor starts with as many threads as it has CPUs.
    if workers and multiprocessing.parent_process() is not None:
        torch.set_num_threads(max(1, (os.cpu_count() or 1) // workers))
    this = feature_id(config, separation)
    path, stems = store.features(this, track_id), store.stems(separation.model_id, track_id)
    wavs = {"mix": store.raw_wav(track_id)}
    wavs |= {stem: stems / f"{stem}.wav" for stem in STEMS if stem != "mix"}
    with store.lock_for(path):
        facts = {
            "version": VERSION,
            "feature_id": this,
            "config": json.dumps(to_dict(config)),
            "stems_sha256": _stems_hash(store, stems, track_id),
        }
        summary = _present(path, facts)
        skipped = summary is not None
        if summary is None:
            missing = [store.uri(wav) for wav in wavs.values() if not wav.exists()]
            if missing:
                raise MelodyGANError(f"{track_id} lacks {', '.join(missing)}: fetch and separate it first")
            with store.writing(path) as temporary:
                summary = _write(temporary, _sounds(wavs, store, config), track_id, config, facts)
        return {**summary, "uri": store.uri(path), "bytes": path.stat().st_size, "skipped": skipped}


def extract(
    track_ids: Sequence[str],
    store: Store,
    config: FeatureConfig,
    separation: SeparationConfig,
    backend: parallel.Backend | None = None,
) -> parallel.Report:
    """Extracts the features of tracks whose table is missing or of other stems.

    Args:
        track_ids: Downloaded and separated tracks.
        store: Holds `raw_wav` and the stems; receives one Parquet table per track.
        config: Feature config.
        separation: The separation config of the stems.
        backend: By default `config.workers` processes, or serial for 1.

    Returns:
        One outcome per track with metadata: segments, usable_segments, unusable (reason to count), duration_s,
        mix_loudness_lufs (mono), bytes, uri. A track without wavs or samples fails; the others continue.
    """
    # Other processes cannot see a store in the memory of this one.
    several: parallel.BackendName = "threads" if store.in_memory else "processes"
    backend = backend or parallel.Backend(several if config.workers > 1 else "serial", config.workers)
    workers = backend.workers if backend.name == "processes" else 0
    function = partial(_extract_track, store=store, config=config, separation=separation, workers=workers)
    return parallel.map_tracks("features", function, track_ids, backend)
