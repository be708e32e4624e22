"""A generated set against real test tracks, beside the floor and the ceilings of its own chain.

Every set is compared with the *test* tracks. The floor is real sound of *validation* tracks; the ceilings are
the same validation segments through a part of the chain: the vocoder alone, then autoencoder and vocoder. What
generation adds on top of these is the GAN's.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from numpy.typing import NDArray
from tqdm.auto import tqdm

from melodygan_core import metrics
from melodygan_core.autoencoder.train import Vectors, vectors
from melodygan_core.config import VERSIONS, EvaluationConfig, GenerationConfig, config_id, to_dict
from melodygan_core.dataset import Dataset, Rows, to_vectors
from melodygan_core.errors import InputError
from melodygan_core.features import FeatureExtractor
from melodygan_core.generation import Models, Piece, pieces
from melodygan_core.store import Artifact, Store
from melodygan_core.vocoder import GriffinLim

NAME = "dense/evaluation"
MEMORISATION_SEGMENTS = 20_000


@dataclass(frozen=True)
class _Set:
    """Embedded windows of one kind.

    Attributes:
        embeddings: (n, dim)
        groups: (n,) the track or piece that each window is of.
    """

    embeddings: NDArray[np.float64]
    groups: NDArray[np.int64]


class _Embedder:
    """Windows of log-mel or of sound -> embeddings."""

    def __init__(self, dataset: Dataset, generation: GenerationConfig) -> None:
        self.feature = dataset.feature
        self._extract = FeatureExtractor(dataset.feature)
        self._vocoder = GriffinLim(dataset.feature, generation.griffin_lim)

    def log_mel(self, log_mel: NDArray[np.float32]) -> NDArray[np.float64]:
        """(n, n_mels, frames) -> (n, dim)."""
        # The dataset holds float16; everything is rounded alike, so that no set is known by its rounding.
        return metrics.embed(log_mel.astype(np.float16).astype(np.float32), self.feature.frame_rate)

    def wav(self, wav: NDArray[np.float32], frames: int) -> NDArray[np.float64]:
        """(samples,) -> as many whole windows of `frames` as fit (n, dim)."""
        log_mel = self._extract(torch.from_numpy(wav))[0].numpy()
        count = log_mel.shape[1] // frames
        windows = log_mel[:, : count * frames].reshape(len(log_mel), count, frames).transpose(1, 0, 2)
        return self.log_mel(windows)

    def vocoded(self, log_mel: NDArray[np.float32], name: str) -> NDArray[np.float64]:
        """(n, n_mels, frames) -> sound -> (n, dim)."""
        embedded = []
        for k in tqdm(range(len(log_mel)), desc=name, unit="window", mininterval=1.0):
            wav = self._vocoder(torch.from_numpy(log_mel[k : k + 1]), seed=k)[0].numpy()
            embedded.append(self.wav(wav, log_mel.shape[2]))
        return np.concatenate(embedded)


def _windows(
    dataset: Dataset, split: str, stems: tuple[str, ...], config: EvaluationConfig
) -> tuple[Rows, int]:
    """Rows of consecutive segments (n * length) and the length of a window in segments."""
    found = [dataset.windows(split, s, config.window_s, config.max_windows // len(stems)) for s in stems]
    length = found[0][1]
    rows = [r for r, _ in found]
    return Rows(
        *(np.concatenate([getattr(r, f) for r in rows]) for f in ("shard", "row", "track", "stem"))
    ), length


def _stretch(segments: NDArray[np.float32], length: int, frames: int) -> NDArray[np.float32]:
    """Segments (n * length, segment_frames, n_mels) -> windows (n, n_mels, frames)."""
    joined = segments.reshape(len(segments) // length, -1, segments.shape[2])
    return np.ascontiguousarray(joined[:, :frames].transpose(0, 2, 1))


@torch.no_grad()
def _reconstructed(dataset: Dataset, rows: Rows, models: Models) -> NDArray[np.float32]:
    """What the autoencoder makes of segments: (n, segment_frames, n_mels)."""
    model = models.autoencoder
    out = []
    for start in range(0, len(rows), 512):
        part = rows.take(np.arange(start, min(start + 512, len(rows))))
        statistics = dataset.statistics(model.config.stems)
        vector = to_vectors(dataset.log_mel(part), dataset.mfcc(part), statistics, model.config.time_bins)
        out.append(model.log_mel(model(torch.from_numpy(vector))).transpose(1, 2).numpy())
    return np.concatenate(out)


def _sets(
    dataset: Dataset, models: Models, made: list[Piece], config: EvaluationConfig, generation: GenerationConfig
) -> dict[str, _Set]:
    embedder = _Embedder(dataset, generation)
    stems = models.autoencoder.config.stems
    frames = round(config.window_s * dataset.feature.frame_rate)
    sets: dict[str, _Set] = {}
    for name, split in (("reference", "test"), ("floor", "validation")):
        rows, length = _windows(dataset, split, stems, config)
        sets[name] = _Set(
            embedder.log_mel(_stretch(dataset.log_mel(rows), length, frames)), rows.track[::length]
        )
    rows, length = _windows(dataset, "validation", stems, config)
    for name, segments in (
        ("vocoder", dataset.log_mel(rows)),
        ("autoencoder", _reconstructed(dataset, rows, models)),
    ):
        sets[name] = _Set(embedder.vocoded(_stretch(segments, length, frames), name), rows.track[::length])
    windows = [embedder.wav(piece.wav, frames) for piece in made]
    groups = np.concatenate([np.full(len(w), i) for i, w in enumerate(windows)])
    sets["generated"] = _Set(np.concatenate(windows), groups)
    return sets


def _compare(sets: dict[str, _Set], config: EvaluationConfig) -> list[dict[str, Any]]:
    """One row a set: its distances to the reference, with intervals by track."""
    reference, floor = sets["reference"], sets["floor"]
    sigma = metrics.median_distance(reference.embeddings)

    def kad(r: NDArray, s: NDArray) -> float:
        return metrics.kad(r, s, sigma)

    floor_kad = kad(reference.embeddings, floor.embeddings)
    table = []
    for name, members in sets.items():
        if name == "reference":
            continue
        low, high = _interval(kad, [reference, members], config)
        row: dict[str, Any] = {
            "set": name,
            "n": len(members.embeddings),
            "tracks": len(np.unique(members.groups)),
            "kad": kad(reference.embeddings, members.embeddings),
            "kad_low": low,
            "kad_high": high,
        }
        if len(members.embeddings) >= metrics.fewest_for_fad(members.embeddings.shape[1]):
            row["fad_inf"] = metrics.fad_infinity(reference.embeddings, members.embeddings, seed=config.seed)
        row["density"], row["coverage"] = metrics.density_coverage(
            reference.embeddings, members.embeddings, config.neighbours
        )
        if name != "floor":

            def excess(r: NDArray, f: NDArray, s: NDArray) -> float:
                return kad(r, s) - kad(r, f)

            row["excess_kad"] = row["kad"] - floor_kad
            row["excess_kad_low"], row["excess_kad_high"] = _interval(
                excess, [reference, floor, members], config
            )
        table.append(row)
    return table


def _interval(
    statistic: Callable[..., float], sets: list[_Set], config: EvaluationConfig
) -> tuple[float, float]:
    return metrics.bootstrap_by_group(
        statistic, [(s.embeddings, s.groups) for s in sets], n=config.bootstrap, seed=config.seed
    )


@torch.no_grad()
def _memorisation(dataset: Dataset, models: Models, made: list[Piece]) -> dict[str, float]:
    """5th percentile of the distance to the nearest training segment: of generated and of validation segments.

    All are compared as the autoencoder decodes them, in standardised, binned log-mel; a generated set that lies
    nearer to the training segments than unseen real music does has learned them by heart.
    """
    model = models.autoencoder
    width = model.feature.n_mels * model.config.time_bins

    def decoded(data: Vectors) -> NDArray[np.float64]:
        sample = data.sample(MEMORISATION_SEGMENTS)
        return np.concatenate([model(part)[:, :width].double().numpy() for part in sample.split(1024)])

    training = decoded(vectors(dataset, "train", model.config))
    validation = decoded(vectors(dataset, "validation", model.config))
    generated = torch.cat([p.vectors[:, :width] for p in made]).double().numpy()
    figures = {}
    for name, queries in (("generated", generated), ("validation", validation)):
        figures[f"memorisation/{name}_p5"] = float(
            np.percentile(metrics.nearest_distances(queries, training), 5)
        )
    if figures["memorisation/validation_p5"] <= 0:
        raise InputError("validation holds copies of training segments (distance 0): remove the duplicates")
    figures["memorisation/ratio"] = figures["memorisation/generated_p5"] / figures["memorisation/validation_p5"]
    return figures


def _refuse_leaks(store: Store, trained_on: str, dataset: Dataset) -> None:
    """Makes sure that no model has learned from what it is compared with.

    A split is for ever but for one case: where forgotten tracks leave too few to test on, tracks of training
    take their place in the next dataset, and models of the one before must not be judged by it.
    """
    if trained_on == dataset.version:
        return
    table = store.dataset(trained_on) / "tracks.parquet"
    if not table.exists():
        raise InputError(f"dataset {trained_on} that the models were trained on is gone: train them again")
    with store.reading(table) as path:
        before = pq.read_table(path, columns=["group", "split"]).to_pylist()
    learned = {row["group"] for row in before if row["split"] == "train"}
    leaked = [t["track_id"] for t in dataset.tracks if t["split"] != "train" and t["group"] in learned]
    if leaked:
        raise InputError(f"the models were trained on {', '.join(leaked[:5])}, now held out: train them again")


def evaluate(
    gan_checkpoint: Artifact,
    checkpoint: Artifact,
    dataset: Artifact,
    store: Store,
    config: EvaluationConfig,
    generation: GenerationConfig,
) -> Artifact:
    """Generates a set of its own and compares it with test tracks; writes `table.parquet` and the figures.

    Args:
        gan_checkpoint: What `gan.train` returned.
        checkpoint: The autoencoder of its latents.
        dataset: With the test tracks.
        store: Where the evaluation goes.
        config: Windows, neighbours, resamplings, seed.
        generation: How pieces are made; its count and seed are replaced by those of `config`.

    Raises:
        InputError: too little real sound for windows of this length, or models that were trained on some of it.
    """
    generation = replace(
        generation,
        count=config.generated_count,
        seed=config.seed,
        duration_s=max(generation.duration_s, config.window_s + 0.1),
    )
    version = config_id(
        config, generation, gan_checkpoint.version, dataset.version, metrics.EMBEDDING, VERSIONS["evaluation"]
    )

    def build(folder: Path) -> dict[str, Any]:
        with store.reading(store.at(checkpoint.uri)) as ae, store.reading(store.at(gan_checkpoint.uri)) as g:
            models = Models.load(ae, g)
        data = Dataset(store, dataset)
        _refuse_leaks(store, checkpoint.inputs["feature_table"], data)
        bar = tqdm(pieces(models, generation), total=generation.count, desc="evaluation pieces", unit="piece")
        made = list(bar)
        table = _compare(_sets(data, models, made, config, generation), config)
        pq.write_table(pa.Table.from_pylist(table), folder / "table.parquet")
        figures: dict[str, Any] = {"embedding": metrics.EMBEDDING, "window_s": config.window_s}
        for row in table:
            figures |= {f"{row['set']}/{k}": v for k, v in row.items() if k != "set"}
        return {**figures, **_memorisation(data, models, made), "table": table}

    return store.once(
        NAME,
        store.evaluation("dense", version),
        build,
        config=to_dict(config),
        inputs={
            "dense/gan_checkpoint": gan_checkpoint.version,
            "dense/autoencoder_checkpoint": checkpoint.version,
            "feature_table": dataset.version,
        },
    )
