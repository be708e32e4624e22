"""Stores filled without a network: tracks, their features, a dataset, a pipeline trained for a moment."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from torch import Tensor

from melodygan_core import codec, dataset, evaluation, features, generation, latents, prior, vocoder
from melodygan_core.audio import write_wav
from melodygan_core.catalogue.tracks import Track, save
from melodygan_core.config import (
    STEMS,
    DatasetConfig,
    DenseCodecConfig,
    DenseGanConfig,
    EvaluationConfig,
    FeatureConfig,
    FlowVocoderConfig,
    GenerationConfig,
    GriffinLimConfig,
    OptimizerConfig,
    SeparationConfig,
    TemporalCodecConfig,
    TemporalFlowConfig,
    TemporalGanConfig,
    TemporalPlanConfig,
    VocoderConfig,
    from_dict,
    to_dict,
)
from melodygan_core.pipeline import Pipeline, PipelineArtifacts
from melodygan_core.storage.store import Artifact, Store, dump_json, sha256_of

SEPARATION = SeparationConfig(model="centre")
HOSTILE = "<script>alert(1)</script> | [x](y)"

# Numbers without sound: segments of 8 frames of 3 mels, 2 MFCC and 5 log bands.
TINY = FeatureConfig(
    sample_rate=22_050,
    n_fft=64,
    hop_length=32,
    bands_up_to_hz=800,
    upper_bands=3,
    n_mels=3,
    n_mfcc=2,
    segment_frames=8,
    channels=1,
)

# Sound: segments of 0.37 s.
FEATURE = FeatureConfig(
    sample_rate=22_050,
    n_fft=1024,
    hop_length=256,
    bands_up_to_hz=700,
    upper_bands=20,
    n_mels=40,
    n_mfcc=10,
    segment_frames=32,
)
# The features of version 0.1, of which there are stores and releases.
OLD_FEATURE = FeatureConfig(sample_rate=22_050, n_fft=1024, hop_length=256, bands="mel", channels=1)
DENSE_CODEC = DenseCodecConfig(
    time_bins=4,
    hidden_sizes=(32, 8),
    optimizer=OptimizerConfig(
        max_steps=40, batch_size=16, learning_rate=1e-3, warmup_steps=5, eval_every=10, device="cpu"
    ),
)
DENSE_GAN = DenseGanConfig(
    noise_dim=8,
    hidden_size=16,
    layers=2,
    condition="tag",
    optimizer=OptimizerConfig(
        max_steps=40, batch_size=16, learning_rate=1e-3, warmup_steps=5, eval_every=10, device="cpu"
    ),
)
VOCODER = VocoderConfig(
    width=24,
    blocks=1,
    crop_frames=16,
    disc_channels=2,
    optimizer=OptimizerConfig(
        max_steps=8, batch_size=4, learning_rate=2e-3, warmup_steps=2, eval_every=4, device="cpu"
    ),
)
FLOW_VOCODER = FlowVocoderConfig(
    width=24,
    blocks=1,
    kernel=3,
    crop_frames=16,
    optimizer=OptimizerConfig(
        max_steps=8, batch_size=4, learning_rate=2e-3, warmup_steps=2, eval_every=4, device="cpu"
    ),
)
TEMPORAL_CODEC = TemporalCodecConfig(
    width=48,
    blocks=2,
    latent_dim=12,
    crop_tokens=8,
    optimizer=OptimizerConfig(
        max_steps=60, batch_size=8, learning_rate=2e-3, warmup_steps=5, eval_every=20, device="cpu"
    ),
)
TEMPORAL_GAN = TemporalGanConfig(
    patch_tokens=8,
    style_dim=8,
    global_dim=8,
    width=16,
    optimizer=OptimizerConfig(
        max_steps=20, batch_size=8, learning_rate=1e-3, warmup_steps=5, eval_every=10, device="cpu"
    ),
)
TEMPORAL_FLOW = TemporalFlowConfig(
    window_tokens=16,
    width=16,
    inner_width=16,
    heads=2,
    blocks=1,
    inner_blocks=2,
    kernel=3,
    guide_step=5,
    steps=4,
    optimizer=OptimizerConfig(
        max_steps=20, batch_size=8, learning_rate=2e-3, warmup_steps=5, eval_every=10, device="cpu"
    ),
)
TEMPORAL_PLAN = from_dict(TemporalPlanConfig, {**to_dict(TEMPORAL_FLOW), "plan_width": 8})
GENERATION = GenerationConfig(count=3, duration_s=1.5)
EVALUATION = EvaluationConfig(windows_s=(0.7, 1.2), neighbours=3, bootstrap=20, generated_count=6, music_s=1.0)


def track(track_id: str, **changes: Any) -> Track:
    """A row of the catalogue."""
    row = Track(
        track_id=track_id,
        url=f"https://music.example/{track_id}",
        title=f"Title of {track_id}",
        uploader="",
        licence="CC0-1.0",
        rights="open",
        tags=("slow",),
        duration_s=None,
        source_id="made",
        first_seen=datetime(2026, 1, 1, tzinfo=UTC),
        status="listed",
    )
    return replace(row, **changes)


def put_provenance(store: Store, track_id: str, sha256: str, duration_s: float) -> None:
    """The JSON beside a raw wav, as far as later stages read it."""
    store.write_json(store.raw_json(track_id), {"sha256": sha256, "duration_s": duration_s})


@dataclass(frozen=True)
class Segments:
    """What was put in a track's feature table, row for row; `usable` is what must come back."""

    stem: list[str]
    index: list[int]
    usable: np.ndarray
    columns: dict[str, np.ndarray]


def put_features(
    store: Store,
    track_id: str,
    feature: FeatureConfig = TINY,
    *,
    segments: int = 4,
    unusable: Iterable[tuple[str, int]] = (),
    audio: str = "",
    made_by: str = "",
    seed: int = 0,
) -> Segments:
    """Random feature rows of one track, written as `features.extract` would.

    Args:
        store: Where to.
        track_id: Whose.
        feature: Sizes.
        segments: Of each stem.
        unusable: (stem, index) of rows that may not be trained on.
        audio: What the raw wav's hash is of; two tracks of one audio are one group. The track_id by default.
        made_by: Feature id in the footer, if it is to be wrong.
        seed: Of the values.
    """
    digest = hashlib.sha256((audio or track_id).encode()).hexdigest()
    rng = np.random.default_rng([seed, *track_id.encode()])
    stem = [s for s in STEMS for _ in range(segments)]
    index = [i for _ in STEMS for i in range(segments)]
    bad = set(unusable)
    usable = np.array([(s, i) not in bad for s, i in zip(stem, index, strict=True)])
    shape = (len(stem), feature.segment_frames)
    of_kind = {"mfcc": (1, 4)}
    values = {
        name: rng.normal(*of_kind.get(name, (-3, 2)), (*shape, width)).astype(np.float16)
        for name, width in feature.columns.items()
    }
    schema = features.schema(feature)
    facts_of: dict[str, Any] = {
        "track_id": [track_id] * len(stem),
        "stem": stem,
        "index": index,
        "start_s": np.array(index) * feature.segment_s,
        "valid_frames": [feature.segment_frames] * len(stem),
        "loudness_lufs": [-20.0] * len(stem),
        "peak_db": [-6.0] * len(stem),
        "usable": usable,
        "reason": ["" if u else "silent" for u in usable],
    }
    arrays = [
        pa.array(facts_of[f.name], type=f.type)
        if f.name in facts_of
        else pa.FixedSizeListArray.from_arrays(pa.array(values[f.name].reshape(-1)), type=f.type)
        for f in schema
    ]
    this = features.feature_id(feature, SEPARATION)
    facts = {"feature_id": made_by or this}
    with store.writing(store.features(this, track_id)) as path:
        pq.write_table(pa.table(arrays, schema=schema.with_metadata(facts)), path)
    put_provenance(store, track_id, digest, segments * feature.segment_s)
    return Segments(stem, index, usable, values)


def put_tracks(store: Store, names: Sequence[str], **changes: Any) -> dict[str, Segments]:
    """Tracks with random features, in the catalogue."""
    made = {name: put_features(store, name) for name in names}
    save(store, [track(name, **changes) for name in names])
    return made


def assemble(store: Store, config: DatasetConfig | None = None, feature: FeatureConfig = TINY) -> Artifact:
    """The dataset of what is in a store."""
    return dataset.assemble(store, config or DatasetConfig(), feature, SEPARATION)


def noise(seconds: float = 0.5, batch: int = 2, seed: int = 0) -> Tensor:
    """White noise (batch, samples) at the rate of FEATURE."""
    rng = torch.Generator().manual_seed(seed)
    return 0.3 * torch.randn(batch, round(seconds * FEATURE.sample_rate), generator=rng)


def put_sound(
    store: Store, track_id: str, index: int, duration_s: float = 7.0, pause_s: tuple[float, float] = (0, 0)
) -> None:
    """A raw wav with provenance, and its stems: a voice with vibrato above a pulsing, detuned chord."""
    rate = FEATURE.sample_rate
    rng = np.random.default_rng(index)
    t = np.arange(round(duration_s * rate)) / rate
    root = 110 * 2 ** (index / 12)
    vocals = (
        0.1 * np.sin(2 * np.pi * 4 * root * t + 3 * np.sin(2 * np.pi * 5 * t)) * (1 + np.sin(t * (1 + index)))
    )
    chord = np.sum([np.sin(2 * np.pi * root * r * t + rng.uniform(0, 6)) for r in (1, 1.26, 1.5, 2.01)], axis=0)
    pulse = np.exp(-8 * ((t * (1.5 + 0.2 * index)) % 1))
    instrumental = (0.05 * chord + 0.1 * rng.standard_normal(len(t))) * pulse + 0.002 * rng.standard_normal(
        len(t)
    )
    heard = (t < pause_s[0]) | (t >= pause_s[1])
    stems = {
        "vocals": (heard * vocals).astype(np.float32),
        "instrumental": (heard * instrumental).astype(np.float32),
    }
    with store.writing(store.raw_wav(track_id)) as path:
        write_wav(path, stems["vocals"] + stems["instrumental"], rate)
        digest = sha256_of(path)
    with store.writing_folder(store.stems(SEPARATION.model_id, track_id)) as folder:
        facts = {}
        for name, wav in stems.items():
            write_wav(file := folder / f"{name}.wav", wav, rate)
            facts[name] = {"sha256": sha256_of(file), "bytes": file.stat().st_size}
        dump_json(folder / "stems.json", {"raw_sha256": digest, "stems": facts})
    put_provenance(store, track_id, digest, duration_s)


@dataclass(frozen=True)
class Trained:
    """A pipeline trained for a moment, and what it was made of."""

    store: Store
    dataset: Artifact
    latents: Artifact
    samples: Artifact
    evaluation: Artifact
    artifacts: PipelineArtifacts

    @property
    def codec(self) -> Artifact:
        return self.artifacts.codec

    @property
    def prior(self) -> Artifact:
        return self.artifacts.prior

    @property
    def vocoder(self) -> Artifact:
        assert self.artifacts.vocoder is not None
        return self.artifacts.vocoder

    def open(self) -> Pipeline:
        """The pipeline on the CPU."""
        return self.artifacts.open(self.store)


def make_dense(store: Store, tracks: int = 9) -> Trained:
    """`dense_gan`: everything from wavs to the evaluation; the titles of all tracks are hostile."""
    names = [f"made-{i:02d}" for i in range(tracks)]
    for i, name in enumerate(names):
        put_sound(store, name, i)
    tags = [("slow", "minor") if i % 2 else ("fast",) for i in range(tracks)]
    rows = [track(n, title=f"{n} {HOSTILE}", tags=t) for n, t in zip(names, tags, strict=True)]
    save(store, rows)
    report = features.extract(names, store, FEATURE, SEPARATION)
    assert not report.failed, report.failed
    data = assemble(store, feature=FEATURE)
    sound = vocoder.train(data, store, VOCODER)
    return _train_pipeline(store, data, sound, "dense", DENSE_CODEC, DENSE_GAN)


def make_temporal(trained: Trained, store: Store) -> Trained:
    """The pipeline `temporal_gan` on the dataset of another one.

    Args:
        trained: Has dataset and vocoder.
        store: A copy of its store; the new pipeline goes there.
    """
    return _train_pipeline(store, trained.dataset, trained.vocoder, "temporal", TEMPORAL_CODEC, TEMPORAL_GAN)


def artifacts_of(name: str, model: Artifact, generator: Artifact, sound: Artifact) -> PipelineArtifacts:
    """A pipeline that is heard through Griffin-Lim, of few iterations."""
    return PipelineArtifacts(name, model, generator, sound, "griffin_lim", GriffinLimConfig(iterations=4))


def _train_pipeline(
    store: Store, data: Artifact, sound: Artifact, name: str, codec_config: Any, prior_config: Any
) -> Trained:
    model = codec.train(name, data, store, codec_config)
    table = latents.encode(model, data, store)
    generator = prior.train("gan", table, model, store, prior_config)
    artifacts = artifacts_of(f"{name}_gan", model, generator, sound)
    samples = generation.generate(artifacts, data, store, GENERATION)
    figures = evaluation.evaluate(artifacts, data, store, EVALUATION, GENERATION)
    return Trained(store, data, table, samples, figures, artifacts)
