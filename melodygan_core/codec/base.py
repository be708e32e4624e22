"""What every codec is (features -> latents -> log-mel) and what it needs to be trained."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, ClassVar, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from tqdm.auto import tqdm

from melodygan_core.config import FeatureConfig, require
from melodygan_core.dataset import Dataset, SpanDataset
from melodygan_core.training import Task


class Codec(nn.Module, ABC):
    """Features <-> latents: one latent stands for `token_frames` frames.

    Args:
        config: The codec's config; it has `stems`, `latent_dim` and `optimizer`.
        feature: How the features were made.
    """

    # A codec that ignores MFCC is given none: (batch, frames, 0).
    uses_mfcc: ClassVar[bool] = True

    def __init__(self, config: Any, feature: FeatureConfig) -> None:
        super().__init__()
        self.config = config
        self.feature = feature

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
    def targets(self, log_mel: Tensor, mfcc: Tensor) -> Tensor:
        """What it is trained to reconstruct.

        Args:
            log_mel: (batch, frames, n_mels), natural log; frames a multiple of `token_frames`.
            mfcc: (batch, frames, n_mfcc).

        Returns:
            (batch, tokens, values), standardised by the training frames.

        Raises:
            InputError: frames is not a multiple of `token_frames`.
        """

    @abstractmethod
    def encode(self, log_mel: Tensor, mfcc: Tensor) -> Tensor:
        """Features of the same shapes as for `targets` -> latents (batch, tokens, latent_dim)."""

    @abstractmethod
    def decode_targets(self, latents: Tensor) -> Tensor:
        """Latents (batch, tokens, latent_dim) -> reconstruction of the targets (batch, tokens, values)."""

    @abstractmethod
    def decode(self, latents: Tensor) -> Tensor:
        """Latents (batch, tokens, latent_dim) -> log_mel_hat (batch, tokens * token_frames, n_mels)."""

    def reconstruct(self, log_mel: Tensor, mfcc: Tensor) -> Tensor:
        """Features (batch, frames, ...) -> log_mel_hat (batch, frames, n_mels)."""
        return self.decode(self.encode(log_mel, mfcc))

    def clamp(self, latents: Tensor) -> Tensor:
        """Latents of any shape, moved to the range that the encoder can produce."""
        return latents

    def tokens_for(self, frames: int) -> int:
        """Latents needed for a generated piece of so many frames."""
        return max(1, -(-frames // self.token_frames))

    def decode_piece(self, latents: Tensor, frames: int) -> Tensor:
        """Latents (tokens_for(frames), latent_dim) of one piece -> log_mel (frames, n_mels)."""
        return self.decode(latents[None])[0, :frames]

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
            log_mel = torch.from_numpy(spans.read(span))[None].to(device)
            mfcc = log_mel[..., :0]
            if self.uses_mfcc:
                mfcc = torch.from_numpy(spans.read(span, which=1))[None].to(device)
            latents = self.encode(log_mel, mfcc)[0].cpu().numpy()
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


@dataclass(frozen=True)
class CodecKind:
    """How a registered codec is built and trained.

    Attributes:
        model: (config, feature) -> an untrained codec.
        task: (dataset, config, device) -> its training.
    """

    model: Callable[[Any, FeatureConfig], Codec]
    task: Callable[[Dataset, Any, torch.device], CodecTask]
