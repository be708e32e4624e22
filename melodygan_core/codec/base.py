"""What every codec is (features -> latents -> spectrum) and what it needs to be trained."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol, runtime_checkable

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from tqdm.auto import tqdm

from melodygan_core.config import FeatureConfig, require
from melodygan_core.dataset import Dataset, SpanDataset
from melodygan_core.training import Task

# Column of features, by name, to (batch, frames, bands).
Features = Mapping[str, Tensor]


class Decoded(NamedTuple):
    """What a codec decodes latents to.

    Attributes:
        spectrum: (batch, frames, n_bands), natural log of magnitude: what vocoders take, the column
            `feature.spectrum`.
        stereo: (batch, frames, 2 * STEREO_BANDS), the column `stereo`; None for mono.
    """

    spectrum: Tensor
    stereo: Tensor | None = None

    def frames(self, index: slice | Tensor) -> Decoded:
        """Some of the frames, by a slice or by their indices."""
        return Decoded(self.spectrum[:, index], None if self.stereo is None else self.stereo[:, index])


class Refines(Protocol):
    """What gives decoded targets the detail that a decoder averages away."""

    def sample(self, decoded: Tensor, latents: Tensor) -> Tensor:
        """Decoded targets (batch, tokens, values) and their latents -> refined targets of the same shape."""
        ...


class Codec(nn.Module, ABC):
    """Features <-> latents: one latent stands for `token_frames` frames.

    Args:
        config: The codec's config; it has `stems`, `latent_dim` and `optimizer`.
        feature: How the features were made.
    """

    def __init__(self, config: Any, feature: FeatureConfig) -> None:
        super().__init__()
        self.config = config
        self.feature = feature
        # Not a part of the codec's checkpoint; it has one of its own.
        self.refiner: Refines | None = None

    @property
    @abstractmethod
    def columns(self) -> tuple[str, ...]:
        """Names of the columns of features that it reads, of `feature.columns`."""

    @property
    @abstractmethod
    def token_frames(self) -> int:
        """Frames that one latent stands for."""

    @property
    def crop_frames(self) -> int:
        """Frames of one training example."""
        return self.token_frames

    @property
    def latent_dim(self) -> int:
        """Values in one latent."""
        return self.config.latent_dim

    @property
    def latent_rate(self) -> float:
        """Latents per second."""
        return self.feature.frame_rate / self.token_frames

    @property
    def stems(self) -> tuple[str, ...]:
        """Stems that it was trained on."""
        return self.config.stems

    @abstractmethod
    def targets(self, features: Features) -> Tensor:
        """What it is trained to reconstruct.

        Args:
            features: Its `columns`, each (batch, frames, bands); frames a multiple of `token_frames`.

        Returns:
            (batch, tokens, values), standardised by the training frames.

        Raises:
            InputError: frames is not a multiple of `token_frames`.
        """

    @abstractmethod
    def encode(self, features: Features) -> Tensor:
        """Features of the same shapes as for `targets` -> latents (batch, tokens, latent_dim)."""

    @abstractmethod
    def decode_targets(self, latents: Tensor) -> Tensor:
        """Latents (batch, tokens, latent_dim) -> reconstruction of the targets (batch, tokens, values)."""

    @abstractmethod
    def from_targets(self, targets: Tensor) -> Decoded:
        """Targets (batch, tokens, values) -> what they stand for, of tokens * token_frames frames."""

    def decode(self, latents: Tensor) -> Decoded:
        """Latents (batch, tokens, latent_dim) -> tokens * token_frames frames, refined."""
        targets = self.decode_targets(latents)
        if self.refiner is not None:
            targets = self.refiner.sample(targets, latents)
        return self.from_targets(targets)

    def reconstruct(self, features: Features) -> Decoded:
        """Features (batch, frames, ...) -> what is left of them after the latents."""
        return self.decode(self.encode(features))

    def clamp(self, latents: Tensor) -> Tensor:
        """Latents of any shape, moved to the range that the encoder can produce."""
        return latents

    def tokens_for(self, frames: int) -> int:
        """Latents needed for a generated piece of so many frames."""
        return max(1, -(-frames // self.token_frames))

    def decode_piece(self, latents: Tensor, frames: int) -> Decoded:
        """Latents (tokens_for(frames), latent_dim) of one piece -> (1, frames, ...)."""
        return self.decode(latents[None]).frames(slice(frames))

    def feature_vectors(self, latents: Tensor) -> Tensor | None:
        """Latents (tokens, latent_dim) -> feature vectors (tokens, values); None for a codec without any."""
        return None

    @torch.no_grad()
    def encode_split(self, dataset: Dataset, split: str) -> Iterator[NDArray[np.float32]]:
        """Latents of every usable segment of a split, in the order of `dataset.rows`.

        A span of consecutive segments is encoded at once: a latent may depend on what is before and after it.

        Yields:
            (segments, tokens per segment, latent_dim).

        Raises:
            InputError: `token_frames` does not divide a segment.
        """
        size = dataset.feature.segment_frames
        require(size % self.token_frames == 0, "token_frames", self.token_frames, f"a divisor of {size}")
        device = next(self.parameters()).device
        spans = SpanDataset(dataset, split, self.stems)
        for span in tqdm(spans.all, desc=f"latents of {split}", unit="span"):
            features = {
                name: torch.from_numpy(spans.read(span, name))[None].to(device) for name in self.columns
            }
            latents = self.encode(features)[0].cpu().numpy()
            yield latents.reshape(span.segments, size // self.token_frames, -1)


class CodecTask(Task, Protocol):
    """The training of a codec; see training.Task."""

    @property
    def model(self) -> Codec:
        """The codec that is trained."""
        ...

    @property
    def betas(self) -> tuple[float, float]:
        """Of the optimizer."""
        ...

    def report(self) -> dict[str, Any]:
        """Figures of the trained codec on test tracks, and sizes."""
        ...


@runtime_checkable
class StartableCodecTask(Protocol):
    """The training of a codec that can begin with the weights of another one of the same shapes."""

    def start_from(self, pretrained: Codec) -> None:
        """Takes over the weights and the standardisation of a trained codec on the task's device."""
        ...


@dataclass(frozen=True)
class CodecKind:
    """How a registered codec is built and trained.

    Attributes:
        model: (config, feature) -> an untrained codec.
        task: (dataset, config, device) -> its training.
    """

    model: Callable[[Any, FeatureConfig], Codec]
    task: Callable[[Dataset, Any, torch.device], CodecTask]
