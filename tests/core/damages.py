"""Ways to damage a store, and what a check must find and a repair must remove."""

from __future__ import annotations

import json
import os
import shutil
import time
from collections.abc import Callable
from pathlib import Path

from melodygan_core.maintenance.check import check_store
from melodygan_core.storage import Store, dump_json
from tests.core.made import SEPARATION

MODEL = SEPARATION.model_id


def old(path: Path) -> Path:
    """Makes a file or folder look two hours old."""
    for part in [path, *path.rglob("*")]:
        os.utime(part, (time.time() - 7200,) * 2)
    return path


def flip(path: Path, at: int = -100) -> None:
    """Changes one byte and keeps the size."""
    data = bytearray(path.read_bytes())
    data[at] ^= 0xFF
    path.write_bytes(data)


def root_of(store: Store) -> Path:
    return Path(store.root)


def features_of(store: Store, track_id: str) -> Path:
    return next(root_of(store).glob(f"features/*/{track_id}.parquet"))


def one(store: Store, pattern: str) -> Path:
    return next(root_of(store).glob(pattern))


def found_kinds(store: Store, *, hashes: bool = True) -> dict[str, str]:
    return {f.path: f.kind for f in check_store(store, hashes=hashes).findings}


Damage = Callable[[Store], object]
RAW, STEMS = "raw/made-00.wav", f"stems/{MODEL}/made-00"


def rewrite(path: Path, **changes: object) -> None:
    """Changes values of a JSON object."""
    dump_json(path, json.loads(path.read_text("utf-8")) | changes)


def truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


# The damage; the expected finding (path pattern, kind); what repair must remove.
DAMAGES: dict[str, tuple[Damage, str, str, tuple[str, ...]]] = {
    "json without wav": (
        lambda s: one(s, RAW).unlink(),
        "raw/made-00.json",
        "incomplete",
        ("raw/made-00.json",),
    ),
    "wav without json": (lambda s: one(s, "raw/made-00.json").unlink(), RAW, "incomplete", (RAW,)),
    "bit rot in a wav": (lambda s: flip(one(s, RAW)), RAW, "mismatch", (RAW, "raw/made-00.json")),
    "no JSON": (lambda s: truncate(one(s, "raw/made-00.json")), "raw/made-00.json", "damaged", (RAW,)),
    "error of a good track": (
        lambda s: s.write_json(s.raw_error("made-00"), {"reason": "404"}),
        "raw/made-00.error.json",
        "orphaned",
        ("raw/made-00.error.json",),
    ),
    "error that is no JSON": (
        lambda s: (root_of(s) / "raw/gone.error.json").write_text("{", "utf-8"),
        "raw/gone.error.json",
        "damaged",
        ("raw/gone.error.json",),
    ),
    "no stems.json": (lambda s: one(s, f"{STEMS}/stems.json").unlink(), STEMS, "incomplete", (STEMS,)),
    "a stem is gone": (lambda s: one(s, f"{STEMS}/vocals.wav").unlink(), STEMS, "incomplete", (STEMS,)),
    "bit rot in a stem": (
        lambda s: flip(one(s, f"{STEMS}/vocals.wav")),
        f"{STEMS}/vocals.wav",
        "mismatch",
        (STEMS,),
    ),
    "half a stem": (
        lambda s: truncate(one(s, f"{STEMS}/vocals.wav")),
        f"{STEMS}/vocals.wav",
        "mismatch",
        (STEMS,),
    ),
    "half a feature table": (
        lambda s: truncate(features_of(s, "made-00")),
        "features/*/made-00.parquet",
        "damaged",
        ("features/*/made-00.parquet",),
    ),
    "features of another config": (
        lambda s: shutil.copytree(features_of(s, "made-00").parent, root_of(s) / "features" / "other"),
        "features/other/made-00.parquet",
        "mismatch",
        ("features/other/made-00.parquet",),
    ),
    "half an index": (
        lambda s: truncate(one(s, "dataset/shards/*/index.parquet")),
        "dataset/shards/*/index.parquet",
        "damaged",
        ("dataset/shards/*/index.parquet",),
    ),
    "a shard is gone": (
        lambda s: one(s, "dataset/shards/*/*.arrow").unlink(),
        "dataset/shards/*/*.arrow",
        "missing",
        ("dataset/shards/*/index.parquet", "dataset/*/tracks.parquet", "records/feature_table.json"),
    ),
    "bit rot in a shard": (
        lambda s: flip(
            one(s, "dataset/shards/*/*.arrow"), at=one(s, "dataset/shards/*/*.arrow").stat().st_size // 2
        ),
        "dataset/shards/*/*.arrow",
        "damaged",
        ("dataset/shards/*/*.arrow", "dataset/*/tracks.parquet"),
    ),
    "half a shard": (
        lambda s: truncate(one(s, "dataset/shards/*/*.arrow")),
        "dataset/shards/*/*.arrow",
        "damaged",
        ("dataset/shards/*/*.arrow",),
    ),
    "a shard that nobody names": (
        lambda s: shutil.copy2(old(one(s, "dataset/shards/*/*.arrow")), one(s, "dataset/shards/*") / "0.arrow"),
        "dataset/shards/*/0.arrow",
        "orphaned",
        ("dataset/shards/*/0.arrow",),
    ),
    "splits that are no JSON": (
        lambda s: truncate(one(s, "dataset/splits.json")),
        "dataset/splits.json",
        "damaged",
        (),
    ),
    "bit rot in weights": (
        lambda s: flip(one(s, "models/dense/gan/*/weights.safetensors")),
        "models/dense/gan/*/weights.safetensors",
        "mismatch",
        ("models/dense/gan/*", "records/dense.gan_checkpoint.json"),
    ),
    "bit rot in the vocoder": (
        lambda s: flip(one(s, "models/vocoder/vocoder/*/weights.safetensors")),
        "models/vocoder/vocoder/*/weights.safetensors",
        "mismatch",
        ("models/vocoder/vocoder/*", "records/vocoder_checkpoint.json"),
    ),
    "a model without its artifact.json": (
        lambda s: one(s, "models/dense/gan/*/artifact.json").unlink(),
        "models/dense/gan/*",
        "incomplete",
        ("models/dense/gan/*", "records/dense.gan_checkpoint.json"),
    ),
    "a file of a model is gone": (
        lambda s: one(s, "models/dense/gan/*/config.json").unlink(),
        "models/dense/gan/*",
        "incomplete",
        ("models/dense/gan/*",),
    ),
    "a file too many": (
        lambda s: (one(s, "samples/*/*") / "mine.txt").write_text("x", "utf-8"),
        "samples/*/*/mine.txt",
        "orphaned",
        (),
    ),
    "a model under another name": (
        lambda s: one(s, "models/dense/gan/*").rename(root_of(s) / "models/dense/gan/other"),
        "models/dense/gan/other",
        "mismatch",
        ("models/dense/gan/other", "records/dense.gan_checkpoint.json"),
    ),
    "a record of nothing": (
        lambda s: shutil.rmtree(one(s, "evaluations/*/*")),
        "records/*.evaluation.json",
        "missing",
        ("records/*.evaluation.json",),
    ),
    "a record that says otherwise": (
        lambda s: rewrite(one(s, "records/*.evaluation.json"), bytes=1),
        "records/*.evaluation.json",
        "mismatch",
        ("records/*.evaluation.json",),
    ),
    "half a catalogue": (lambda s: truncate(one(s, "catalogue.parquet")), "catalogue.parquet", "damaged", ()),
    "a picture of what is gone": (
        lambda s: (s.write_json(s.picture("features/f/x"), {}), old(root_of(s) / "pictures"))[0],
        "pictures/features/f/x.png",
        "orphaned",
        ("pictures/features/f/x.png",),
    ),
    "a killed writer's file": (
        lambda s: old_text(root_of(s) / "raw" / ".0123abcd-made-00.wav"),
        "raw/.0123abcd-made-00.wav",
        "orphaned",
        ("raw/.0123abcd-made-00.wav",),
    ),
    "a killed writer's folder": (
        lambda s: old_text(root_of(s) / "models/dense/gan/.0123abcd-v/weights.safetensors", up=1),
        "models/dense/gan/.0123abcd-v",
        "orphaned",
        ("models/dense/gan/.0123abcd-v",),
    ),
    "a killed download's scratch": (
        lambda s: old_text(s.work("scratch") / "made-00.x7" / "attempt-1" / "song.mp3", up=2),
        "work/scratch/made-00.x7",
        "orphaned",
        ("work/scratch/made-00.x7",),
    ),
    "state of a training that is done": (
        lambda s: old_text(s.work(f"training/dense/gan/{one(s, 'models/dense/gan/*').name}") / "state.pt"),
        "work/training/dense/gan/*",
        "orphaned",
        ("work/training/dense/gan/*",),
    ),
    "state of a training that version 0.1 finished": (
        lambda s: old_text(s.work(f"dense.gan.{one(s, 'models/dense/gan/*').name}") / "state.pt"),
        "work/dense.gan.*",
        "orphaned",
        ("work/dense.gan.*",),
    ),
    "sound that a vocoder learned from": (
        lambda s: old_text(
            s.work(f"training/vocoder/vocoder/{one(s, 'models/vocoder/vocoder/*').name}") / "x.i16"
        ),
        "work/training/vocoder/vocoder/*",
        "orphaned",
        ("work/training/vocoder/vocoder/*",),
    ),
    "a killed separation's scratch": (
        lambda s: old_text(s.work("separation") / MODEL / "made-00.x7" / "mix.wav", up=1),
        f"work/separation/{MODEL}/made-00.x7",
        "orphaned",
        (f"work/separation/{MODEL}/made-00.x7",),
    ),
    "a killed catalogue run's scratch": (
        lambda s: old_text(s.work("scratch") / "tmpx7" / "cache", up=1),
        "work/scratch/tmpx7",
        "orphaned",
        ("work/scratch/tmpx7",),
    ),
    "a killed upload's copy": (
        lambda s: old_text(s.work("copies") / "models%2Fdense%2Fgan%2Fv.x7" / "v" / "a", up=2),
        "work/copies/models%2Fdense%2Fgan%2Fv.x7",
        "orphaned",
        ("work/copies/models%2Fdense%2Fgan%2Fv.x7",),
    ),
}


def old_text(path: Path, up: int = 0) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("x", "utf-8")
    old([path, *path.parents][up])
