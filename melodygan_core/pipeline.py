"""A family's models as one thing that turns noise, or log-mel, into log-mel."""

from __future__ import annotations

import math
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from melodygan_core import codec, vocoder
from melodygan_core.codec import Autoencoder, DenseAutoencoder
from melodygan_core.config import DenseGanConfig, FeatureConfig, GenerationConfig
from melodygan_core.dataset import Statistics, to_vectors
from melodygan_core.errors import InputError
from melodygan_core.prior import gan
from melodygan_core.prior.gan import LatentGan, piece_noise, truncated_noise
from melodygan_core.storage.store import Artifact, Store
from melodygan_core.vocoder import GriffinLim

# Neighbouring segments of a dense piece share this part of a segment and fade into each other.
OVERLAP = 0.125


# (log_mel (batch, n_mels, frames), seed) -> wav (batch, (frames - 1) * hop_length)
Vocoder = Callable[[Tensor, int], Tensor]


def vocoder_of(config: GenerationConfig, feature: FeatureConfig, folder: Path | None) -> Vocoder:
    """The vocoder that a config asks for.

    Args:
        config: Names it.
        feature: Of the log-mels that it will be given.
        folder: Of the neural vocoder's checkpoint, if there is one.

    Raises:
        InputError: the neural one is asked for and not there, or was trained on other features.
    """
    if config.vocoder == "griffin_lim":
        return GriffinLim(feature, config.griffin_lim)
    if folder is None:
        raise InputError("vocoder is 'neural', and there is no vocoder checkpoint; allowed: 'griffin_lim'")
    model = vocoder.load(folder)
    if model.feature.spectral_id != feature.spectral_id:
        raise InputError(f"the vocoder takes log-mels of {model.feature}; allowed: {feature}")

    @torch.no_grad()
    def sound(log_mel: Tensor, seed: int) -> Tensor:
        return model(log_mel)

    return sound


@dataclass(frozen=True)
class PipelineSample:
    """What the models made of noise.

    Attributes:
        latents: (positions, latent_dim), one a segment (dense) or a token (temporal).
        vectors: (segments, vector_dim) standardised, of the dense family; None otherwise.
        log_mel: (n_mels, frames), natural log of magnitude.
    """

    latents: Tensor
    vectors: Tensor | None
    log_mel: Tensor


@dataclass(frozen=True)
class Models:
    """Everything that turns noise into sound.

    Attributes:
        autoencoder: Its decoder is used.
        gan: Makes latents.
        vocoder: log-mel -> wav.
    """

    autoencoder: Autoencoder
    gan: LatentGan
    vocoder: Vocoder

    @classmethod
    def load(
        cls, autoencoder_folder: Path, gan_folder: Path, vocoder_folder: Path | None, config: GenerationConfig
    ) -> Models:
        """Reads the checkpoints.

        Args:
            autoencoder_folder: Of its checkpoint.
            gan_folder: Of its checkpoint.
            vocoder_folder: Of the neural vocoder's; None when there is none.
            config: Says which vocoder is used.

        Raises:
            InputError: missing, damaged, or not of one another.
        """
        model = codec.load(autoencoder_folder)
        made = cls(model, gan.load(gan_folder), vocoder_of(config, model.feature, vocoder_folder))
        families = made.autoencoder.config.family, made.gan.config.family
        if len(set(families)) > 1:
            raise InputError(f"the autoencoder is {families[0]} and the GAN {families[1]}; allowed: one family")
        expected, found = made.autoencoder.config.latent_dim, len(made.gan.mean)
        if expected != found:
            raise InputError(f"the GAN makes latents of {found} values; allowed: {expected}, the autoencoder's")
        return made

    @classmethod
    def of(
        cls,
        checkpoint: Artifact,
        gan_checkpoint: Artifact,
        vocoder_checkpoint: Artifact,
        store: Store,
        config: GenerationConfig,
    ) -> Models:
        """Reads the checkpoints from the store; see load."""
        with ExitStack() as stack:
            artifacts = (checkpoint, gan_checkpoint, vocoder_checkpoint)
            folders = [stack.enter_context(store.reading(store.at(a.uri))) for a in artifacts]
            return cls.load(folders[0], folders[1], folders[2], config)

    @property
    def family(self) -> str:
        """Its name."""
        return self.autoencoder.config.family

    @property
    def feature(self) -> FeatureConfig:
        """How log-mels are made."""
        return self.autoencoder.feature

    @property
    def token_frames(self) -> int:
        """Frames that one latent stands for."""
        model = self.autoencoder
        return self.feature.segment_frames if isinstance(model, DenseAutoencoder) else model.config.token_frames

    @property
    def stems(self) -> tuple[str, ...]:
        """What it was trained on."""
        return self.autoencoder.config.stems

    @torch.no_grad()
    def sample(self, frames: int, seed: int, condition: int | None, truncation: float) -> PipelineSample:
        """One piece; of the temporal family, a longer one begins with the latents of a shorter one.

        Args:
            frames: Wanted.
            seed: Of the piece.
            condition: Index among the GAN's conditions, or None.
            truncation: Limit of the noise in standard deviations; 0 for none.
        """
        if isinstance(self.autoencoder, DenseAutoencoder):
            return self._segments(frames, seed, condition, truncation)
        config = self.gan.config
        assert not isinstance(config, DenseGanConfig), "one family"
        tokens = math.ceil(frames / self.autoencoder.config.token_frames)
        noise = piece_noise(config, tokens, seed, truncation)
        latents = self.gan.latents(noise[None], condition)[0, :tokens]
        log_mel = self.autoencoder.decode(latents[None])[0, :frames].T
        return PipelineSample(latents, None, log_mel)

    def _segments(self, frames: int, seed: int, condition: int | None, truncation: float) -> PipelineSample:
        model, config = self.autoencoder, self.gan.config
        assert isinstance(model, DenseAutoencoder), "one family"
        length = self.feature.segment_frames
        overlap = int(length * OVERLAP)
        count = max(1, math.ceil((frames - overlap) / (length - overlap)))
        rng = torch.Generator().manual_seed(seed)
        noise = truncated_noise((count, config.noise_dim), truncation, rng)
        latents = self.gan.latents(noise, condition)
        vectors = model.decode(latents)
        return PipelineSample(latents, vectors, _join(model.log_mel(vectors), overlap, frames))

    @torch.no_grad()
    def reconstruct(self, log_mel: Tensor, mfcc: Tensor, statistics: Statistics) -> Tensor:
        """What the autoencoder keeps of real sound.

        Args:
            log_mel: (n, frames, n_mels), whole segments.
            mfcc: (n, frames, n_mfcc) of the same sound; the dense family encodes it as well.
            statistics: Of the training frames of its stems.

        Returns:
            log_mel_hat (n, frames, n_mels).
        """
        model = self.autoencoder
        if not isinstance(model, DenseAutoencoder):
            return torch.cat([model(part) for part in log_mel.split(64)])
        length = self.feature.segment_frames
        segments = [x.reshape(-1, length, x.shape[2]).numpy() for x in (log_mel, mfcc)]
        vector = torch.from_numpy(to_vectors(segments[0], segments[1], statistics, model.config.time_bins))
        made = torch.cat([model.log_mel(model(part)) for part in vector.split(512)])
        return made.transpose(1, 2).reshape(log_mel.shape)


def _join(segments: Tensor, overlap: int, frames: int) -> Tensor:
    """Fades segments (n, n_mels, segment_frames) into one log-mel (n_mels, frames), linear in magnitude."""
    n, n_mels, length = segments.shape
    hop = length - overlap
    total = torch.zeros(n_mels, hop * (n - 1) + length)
    ramp = torch.arange(1, overlap + 1) / (overlap + 1)
    for i, magnitude in enumerate(segments.exp()):
        weight = torch.ones(length)
        if i > 0:
            weight[:overlap] = ramp
        if i < n - 1:
            weight[length - overlap :] = 1 - ramp
        total[:, i * hop : i * hop + length] += magnitude * weight
    return total[:, :frames].log()
