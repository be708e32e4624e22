"""Trains the autoencoder on the dataset."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from melodygan_core.autoencoder.dense import DenseAutoencoder, explained_variance, pca
from melodygan_core.checkpoint import blaming, load_config, load_weights, save_weights
from melodygan_core.config import (
    VERSIONS,
    DenseAutoencoderConfig,
    FeatureConfig,
    config_id,
    from_dict,
    to_dict,
    training_id,
)
from melodygan_core.dataset import Dataset, Rows, Statistics, batches, to_vectors
from melodygan_core.store import Artifact, Store
from melodygan_core.training import (
    Best,
    Observer,
    Resumable,
    ignore,
    learning_rate,
    optimizer_for,
    resolve_device,
    seed_everything,
    steps,
    update,
)

NAME = "dense/autoencoder_checkpoint"
MAX_PCA_VECTORS = 20_000


class Vectors:
    """The vectors of some rows, computed as they are asked for."""

    def __init__(self, dataset: Dataset, rows: Rows, statistics: Statistics, time_bins: int) -> None:
        self.dataset, self.rows, self.statistics, self.time_bins = dataset, rows, statistics, time_bins

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, indices: NDArray[np.int64]) -> Tensor:
        rows = self.rows.take(indices)
        log_mel, mfcc = self.dataset.log_mel(rows), self.dataset.mfcc(rows)
        return torch.from_numpy(to_vectors(log_mel, mfcc, self.statistics, self.time_bins))

    def augmented(self, indices: NDArray[np.int64], config: DenseAutoencoderConfig, step: int) -> Tensor:
        """Vectors of segments that begin near these, at another level; random by (seed, step) alone."""
        rng = np.random.default_rng((config.optimizer.seed, step))
        frames = self.dataset.feature.segment_frames
        offset = rng.integers(0, frames if config.random_shift else 1, len(indices))
        log_mel, mfcc = self.dataset.shifted(self.rows.take(indices), offset)
        # A gain adds to every band of the log-mel; of the orthonormal cepstrum it moves the first coefficient.
        gain = rng.normal(0, config.gain_db * math.log(10) / 20, (len(indices), 1, 1)).astype(np.float32)
        log_mel = np.maximum(log_mel + gain, np.float32(math.log(self.dataset.feature.log_floor)))
        mfcc[:, :, :1] += 2 * gain * np.float32(math.sqrt(self.dataset.feature.n_mels))
        return torch.from_numpy(to_vectors(log_mel, mfcc, self.statistics, self.time_bins))

    def sample(self, at_most: int) -> Tensor:
        """Vectors spread evenly over the rows."""
        return self[np.linspace(0, len(self) - 1, min(len(self), at_most)).round().astype(np.int64)]

    def blocks(self, size: int = 1024) -> Iterator[Tensor]:
        """All vectors, in order, in blocks."""
        for start in range(0, len(self), size):
            yield self[np.arange(start, min(start + size, len(self)))]


def vectors(dataset: Dataset, split: str, config: DenseAutoencoderConfig) -> Vectors:
    """The standardised vectors of a split, lazily."""
    rows = dataset.rows(split, config.stems)
    return Vectors(dataset, rows, dataset.statistics(config.stems), config.time_bins)


@torch.no_grad()
def _evaluate(model: DenseAutoencoder, data: Vectors, mean: Tensor, device: torch.device) -> dict[str, float]:
    model.eval()
    vector = torch.cat(list(data.blocks()))
    vector_hat = torch.cat([model(block.to(device)).cpu() for block in data.blocks()])
    model.train()
    return {
        "loss": float(F.mse_loss(vector_hat, vector)),
        "explained_variance": explained_variance(vector, vector_hat, mean.cpu()),
    }


def load(folder: Path, device: str = "cpu") -> DenseAutoencoder:
    """The autoencoder of a checkpoint folder.

    Raises:
        InputError: missing or damaged.
    """
    stored = load_config(folder, "config", "feature")
    with blaming(folder), torch.device("meta"):
        model = DenseAutoencoder(
            from_dict(DenseAutoencoderConfig, stored["config"]), from_dict(FeatureConfig, stored["feature"])
        )
    load_weights(folder, {"model": model})
    return model.to(resolve_device(device)).eval()


def train(
    dataset: Artifact, store: Store, config: DenseAutoencoderConfig, observe: Observer = ignore
) -> Artifact:
    """Trains until the validation loss stops falling; keeps the best weights; resumes after a kill.

    Args:
        dataset: What `dataset.assemble` returned.
        store: Where the checkpoint goes.
        config: The model and its training.
        observe: Called after every validation.

    Raises:
        InputError: the dataset has none of the stems, or the latent is not smaller than the vector.
        MelodyGANError: training diverged.
    """
    version = config_id(training_id(config), dataset.version, VERSIONS["autoencoder"])
    work = f"dense.autoencoder.{version}"

    def build(folder: Path) -> dict[str, Any]:
        return _run(Dataset(store, dataset), store.work(work), folder, config, observe)

    artifact = store.once(
        NAME,
        store.model("dense", "autoencoder", version),
        build,
        config=to_dict(config),
        inputs={"feature_table": dataset.version},
    )
    store.drop_work(work)
    return artifact


def _run(
    dataset: Dataset, work: Path, folder: Path, config: DenseAutoencoderConfig, observe: Observer
) -> dict[str, Any]:
    opt = config.optimizer
    device = resolve_device(opt.device)
    seed_everything(opt.seed)
    training, validation, test = (vectors(dataset, s, config) for s in ("train", "validation", "test"))

    model = DenseAutoencoder(config, dataset.feature)
    sample = training.sample(MAX_PCA_VECTORS)
    model.initialise(sample, training.statistics)
    model.to(device)
    mean, components = pca(sample, config.latent_dim)
    optimizer = optimizer_for(model, opt, betas=(0.9, 0.99))

    best, history = Best(), []
    losses: list[Tensor] = []
    parts = {"model": model, "optimizer": optimizer}
    state = Resumable(work / "state.pt", opt.checkpoint_every_s, parts, losses)
    first = state.load(best, history)
    if first == 0:
        figures = _evaluate(model, validation, mean, device)
        best.offer(figures["loss"], 0, model)
        history.append({"step": 0, **{f"validation/{k}": v for k, v in figures.items()}})
    started = time.monotonic()

    data = batches(len(training), opt.batch_size, opt.seed, first)
    for step in steps("dense autoencoder", first, opt.max_steps):
        vector = training.augmented(next(data), config, step).to(device)
        loss = F.mse_loss(model(vector), vector)
        update(optimizer, loss, learning_rate(step, opt), opt.clip_norm, step, "the autoencoder")
        losses.append(loss.detach())
        if (step + 1) % opt.eval_every == 0 or step + 1 == opt.max_steps:
            figures = _evaluate(model, validation, mean, device)
            best.offer(figures["loss"], step + 1, model)
            row = {"train/loss": float(torch.stack([v.cpu() for v in losses]).mean())}
            row |= {f"validation/{k}": v for k, v in figures.items()}
            history.append({"step": step + 1, **row})
            losses.clear()
            observe(step + 1, row)
            if best.stale >= opt.patience:
                break
        state.save(step + 1, best, history)

    model.load_state_dict(best.state)
    vector = torch.cat(list(test.blocks()))
    projected = mean + (vector - mean) @ components.T @ components
    metrics = {
        "steps": history[-1]["step"],
        "best_step": best.step,
        "validation/loss": best.value,
        "test/explained_variance": _evaluate(model, test, mean, device)["explained_variance"],
        "test/explained_variance_pca": explained_variance(vector, projected, mean),
        "parameters": sum(p.numel() for p in model.parameters()),
        "vector_dim": model.vector_dim,
        "latent_dim": config.latent_dim,
        "train_segments": len(training),
        "duration_s": round(time.monotonic() - started, 1),
        "history": history,
    }
    stored = {
        "family": "dense",
        "config": to_dict(config),
        "feature": to_dict(dataset.feature),
        "step": best.step,
    }
    save_weights(folder, {"model": model}, stored)
    return metrics
