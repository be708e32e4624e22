"""A pipeline: one codec, one prior and one vocoder on a device, as the one object that makes sound."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from melodygan_core import codec as codecs
from melodygan_core import prior as priors
from melodygan_core import vocoder as vocoders
from melodygan_core.codec import Codec
from melodygan_core.config import VOCODERS, FeatureConfig, GriffinLimConfig, require
from melodygan_core.errors import InputError
from melodygan_core.prior import Prior
from melodygan_core.storage import Artifact, Store
from melodygan_core.training import allow_tf32, resolve_device

# Examples that go through a model at once.
BATCH = 64

# One for all examples of a batch, or one for each.
Seeds = int | Sequence[int]
# (log_mel (batch, n_mels, frames), seeds) -> wav (batch, (frames - 1) * hop_length)
Vocoder = Callable[[Tensor, Seeds], Tensor]


@dataclass(frozen=True)
class Sample:
    """What a pipeline made of noise, before the vocoder.

    Attributes:
        latents: (tokens, latent_dim), on the CPU.
        vectors: (tokens, values) feature vectors, of a codec that has them; None otherwise.
        log_mel: (n_mels, frames), natural log of magnitude, on the CPU.
    """

    latents: Tensor
    vectors: Tensor | None
    log_mel: Tensor


class Pipeline:
    """Codec, prior and vocoder on one device. Tensors go in and come out on the CPU.

    Args:
        name: Such as `temporal_gan`.
        codec: features <-> latents.
        prior: noise -> latents.
        vocoder: log-mel -> wav.
        device: Where codec and prior are.

    Raises:
        InputError: the prior makes latents of another size than the codec's.
    """

    def __init__(self, name: str, codec: Codec, prior: Prior, vocoder: Vocoder, device: torch.device) -> None:
        if prior.latent_dim != codec.latent_dim:
            raise InputError(
                f"the prior's latent_dim must be {codec.latent_dim}, the codec's, got {prior.latent_dim}"
            )
        allow_tf32(device)
        self.name, self.codec, self.prior, self.device = name, codec, prior, device
        self._vocoder = vocoder

    @property
    def feature(self) -> FeatureConfig:
        """How log-mels are made."""
        return self.codec.feature

    @property
    def stems(self) -> tuple[str, ...]:
        """Stems that the codec was trained on."""
        return self.codec.stems

    @property
    def conditions(self) -> tuple[str, ...]:
        """Names of the prior's conditions; empty for none."""
        return self.prior.conditions

    @torch.no_grad()
    def encode(self, log_mel: Tensor, mfcc: Tensor) -> Tensor:
        """Features (batch, frames, ...), whole tokens -> latents (batch, tokens, latent_dim)."""
        return self._batched(self.codec.encode, log_mel, mfcc)

    @torch.no_grad()
    def decode(self, latents: Tensor) -> Tensor:
        """Latents (batch, tokens, latent_dim) -> log_mel_hat (batch, tokens * token_frames, n_mels)."""
        return self._batched(self.codec.decode, latents)

    @torch.no_grad()
    def reconstruct(self, log_mel: Tensor, mfcc: Tensor) -> Tensor:
        """Features (batch, frames, ...), whole tokens -> log_mel_hat (batch, frames, n_mels)."""
        return self._batched(self.codec.reconstruct, log_mel, mfcc)

    @torch.no_grad()
    def sample(self, frames: int, seed: int, condition: int | None = None, truncation: float = 0.0) -> Sample:
        """One new piece.

        Args:
            frames: Wanted.
            seed: Of the piece; 0 and above.
            condition: Index in `conditions`, or None.
            truncation: Limit of the noise in standard deviations; 0 for none.
        """
        latents = self.prior.sample(self.codec.tokens_for(frames), seed, condition, truncation)
        log_mel = self.codec.decode_piece(latents, frames).T.cpu()
        vectors = self.codec.feature_vectors(latents)
        return Sample(latents.cpu(), None if vectors is None else vectors.cpu(), log_mel)

    @torch.no_grad()
    def vocode(self, log_mel: Tensor, seed: Seeds = 0) -> Tensor:
        """log_mel (batch, n_mels, frames) -> wav (batch, (frames - 1) * hop_length).

        Args:
            log_mel: Natural log of magnitude.
            seed: Of a vocoder that starts from random phases; one for all examples, or one for each.
        """
        return self._vocoder(log_mel, seed)

    def _batched(self, function: Callable[..., Tensor], *inputs: Tensor) -> Tensor:
        parts = zip(*(x.split(BATCH) for x in inputs), strict=True)
        return torch.cat([function(*(x.to(self.device) for x in part)).cpu() for part in parts])


def load_vocoder(
    kind: str,
    feature: FeatureConfig,
    folder: Path | None,
    griffin_lim: GriffinLimConfig | None = None,
    device: torch.device | None = None,
) -> Vocoder:
    """The vocoder of a pipeline.

    Args:
        kind: `neural` or `griffin_lim`.
        feature: Of the log-mels that it is given.
        folder: Of the neural vocoder's checkpoint, if there is one.
        griffin_lim: See GriffinLimConfig.
        device: Where it computes; the CPU by default.

    Raises:
        InputError: an unknown vocoder, or the neural one is asked for and not there, or was trained on other
            features.
    """
    require(kind in VOCODERS, "vocoder", kind, " or ".join(VOCODERS))
    if kind == "griffin_lim":
        return _in_batches(vocoders.GriffinLim(feature, griffin_lim), device or torch.device("cpu"))
    if folder is None:
        raise InputError("vocoder must be 'griffin_lim' where there is no vocoder checkpoint, got 'neural'")
    return neural_vocoder(vocoders.load(folder, device or "cpu"), feature)


def neural_vocoder(model: vocoders.NeuralVocoder, feature: FeatureConfig) -> Vocoder:
    """A neural vocoder as a pipeline uses it: in batches, tensors on the CPU.

    Raises:
        InputError: it was trained on other features.
    """
    if model.feature.spectral_id != feature.spectral_id:
        raise InputError(f"the vocoder's features must be {feature}, got {model.feature}")

    return _in_batches(lambda log_mel, seed: model(log_mel), next(model.parameters()).device)


def _in_batches(vocoder: Vocoder, device: torch.device) -> Vocoder:
    """A vocoder that computes on a device, of tensors on the CPU."""

    def vocode(log_mel: Tensor, seed: Seeds) -> Tensor:
        starts = range(0, len(log_mel), BATCH)
        seeds = [seed if isinstance(seed, int) else seed[k : k + BATCH] for k in starts]
        parts = zip(log_mel.split(BATCH), seeds, strict=True)
        return torch.cat([vocoder(part.to(device), of_part).cpu() for part, of_part in parts])

    return vocode


@dataclass(frozen=True)
class PipelineArtifacts:
    """The artifacts of one trained pipeline: what generation, evaluation and release take.

    Attributes:
        name: Of the pipeline.
        codec: Checkpoint of the codec.
        prior: Checkpoint of the prior.
        vocoder: Checkpoint of the neural vocoder; None for a pipeline that needs none.
        vocoder_kind: `neural` or `griffin_lim`.
        griffin_lim: See GriffinLimConfig.
        device: `auto`, `cpu`, `cuda` or `mps`: of the present config, because checkpoints move to machines that
            have other devices.
    """

    name: str
    codec: Artifact
    prior: Artifact
    vocoder: Artifact | None
    vocoder_kind: str = "neural"
    griffin_lim: GriffinLimConfig | None = None
    device: str = "auto"

    @property
    def parts(self) -> dict[str, Artifact]:
        """Component to checkpoint: `codec`, `prior` and, where there is one, `vocoder`."""
        found = {"codec": self.codec, "prior": self.prior}
        return found if self.vocoder is None else {**found, "vocoder": self.vocoder}

    @property
    def inputs(self) -> dict[str, str]:
        """Name of each checkpoint to its version."""
        return {a.name: a.version for a in self.parts.values()}

    @property
    def identity(self) -> list[Any]:
        """What a version of something made with the pipeline depends on."""
        griffin_lim = self.griffin_lim if self.vocoder_kind == "griffin_lim" else None
        settings = None if griffin_lim is None else [griffin_lim.iterations, griffin_lim.momentum]
        return [self.name, sorted(self.inputs.items()), self.vocoder_kind, settings]

    @property
    def datasets(self) -> list[str]:
        """Versions of the dataset that the checkpoints were trained on."""
        checkpoints = [self.codec, *([self.vocoder] if self.vocoder else [])]
        return list(dict.fromkeys(a.inputs["feature_table"] for a in checkpoints))

    def open(self, store: Store) -> Pipeline:
        """The pipeline on its device.

        Raises:
            InputError: a checkpoint is damaged or missing, or they do not fit one another.
        """
        of = self.codec.name
        require(of in self.prior.inputs, "prior", self.prior.name, f"one over the latents of {of}")
        where = resolve_device(self.device)
        with ExitStack() as stack:
            folders = {
                part: stack.enter_context(store.reading(store.at(a.uri))) for part, a in self.parts.items()
            }
            codec = codecs.load(folders["codec"], where)
            vocoder = load_vocoder(
                self.vocoder_kind, codec.feature, folders.get("vocoder"), self.griffin_lim, where
            )
            return Pipeline(self.name, codec, priors.load(folders["prior"], where), vocoder, where)


def frames_of(duration_s: float, feature: FeatureConfig) -> int:
    """Frames of a piece of so many seconds: one more than hops, as in a centred STFT."""
    return math.ceil(duration_s * feature.frame_rate) + 1
