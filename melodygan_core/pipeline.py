"""A pipeline: one codec, one prior and one vocoder on a device, as the one object that makes sound."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from melodygan_core import codec as codecs
from melodygan_core import prior as priors
from melodygan_core.audio.stereo import StereoSynthesis
from melodygan_core.codec import Codec, Decoded, Features
from melodygan_core.config import STEREO_BANDS, FeatureConfig, GriffinLimConfig, require
from melodygan_core.errors import InputError
from melodygan_core.plan import Grid, Plan, channels, codec_grid
from melodygan_core.prior import Prior, Sampling
from melodygan_core.storage import Artifact, Store
from melodygan_core.training import allow_tf32, resolve_device
from melodygan_core.vocoder import Seeds, Vocoder, load_vocoder

# Examples that go through a model at once.
BATCH = 64


@dataclass(frozen=True)
class Sample:
    """What a pipeline made of noise, before the vocoder.

    Attributes:
        latents: (tokens, latent_dim), on the CPU.
        vectors: (tokens, values) feature vectors, of a codec that has them; None otherwise.
        decoded: Spectrum and stereo (1, frames, ...), on the CPU.
    """

    latents: Tensor
    vectors: Tensor | None
    decoded: Decoded


class Pipeline:
    """Codec, prior and vocoder on one device. Tensors go in and come out on the CPU.

    Args:
        name: Such as `temporal_gan`.
        codec: features <-> latents.
        prior: noise -> latents.
        vocoder: spectrum -> wav.
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
        self.vocoder = vocoder
        self._stereo = StereoSynthesis(codec.feature.sample_rate, codec.feature.hop_length, STEREO_BANDS)

    @property
    def feature(self) -> FeatureConfig:
        """How features are made."""
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
    def encode(self, features: Features) -> Tensor:
        """Features (batch, frames, ...), whole tokens -> latents (batch, tokens, latent_dim)."""
        return self._batched(self.codec.encode, features)

    @torch.no_grad()
    def decode(self, latents: Tensor) -> Decoded:
        """Latents (batch, tokens, latent_dim) -> spectrum and stereo of tokens * token_frames frames."""
        return joined([self.codec.decode(x.to(self.device)) for x in latents.split(BATCH)])

    def reconstruct(self, features: Features) -> Decoded:
        """Features (batch, frames, ...), whole tokens -> what the codec keeps of them."""
        return self.decode(self.encode(features))

    @torch.no_grad()
    def sample(
        self,
        frames: int,
        seed: int,
        condition: int | None = None,
        truncation: float = 0.0,
        sampling: Sampling = priors.DEFAULT_SAMPLING,
        plan: Plan | None = None,
    ) -> Sample:
        """One new piece.

        Args:
            frames: Wanted.
            seed: Of the piece; 0 and above.
            condition: Index in `conditions`, or None.
            truncation: Limit of the noise in standard deviations; 0 for none.
            sampling: Settings that some priors have.
            plan: What the piece plays, of any length, at the codec's tokens; None to leave it open.

        Raises:
            InputError: settings other than the defaults for a prior that has none, a plan for a prior that
                follows none, or a plan of other tokens.
        """
        tokens = self.codec.tokens_for(frames)
        followed = None if plan is None else self.plan_tensor(plan)
        latents = priors.sample(self.prior, tokens, seed, condition, truncation, sampling, followed)
        decoded = joined([self.codec.decode_piece(latents, frames)])
        vectors = self.codec.feature_vectors(latents)
        return Sample(latents.cpu(), None if vectors is None else vectors.cpu(), decoded)

    @property
    def grid(self) -> Grid:
        """When the tokens of the codec are."""
        return codec_grid(self.feature, self.codec.token_frames)

    def plan_tensor(self, plan: Plan) -> Tensor:
        """A plan as the prior takes it: (tokens, plan.CHANNELS).

        Raises:
            InputError: the plan is of other tokens than the codec's.
        """
        ours, theirs = self.grid, plan.grid
        same = math.isclose(ours.token_s, theirs.token_s, rel_tol=1e-6)
        require(same, "plan", f"tokens of {theirs.token_s:.5f} s", f"of tokens of {ours.token_s:.5f} s")
        return torch.from_numpy(channels(plan))

    @torch.no_grad()
    def sound(self, decoded: Decoded, seed: Seeds = 0) -> Tensor:
        """Spectrum and stereo (batch, frames, ...) -> wav (batch, channels, (frames - 1) * hop_length).

        Args:
            decoded: By the codec. Without stereo the sound has one channel.
            seed: See `vocode`.
        """
        wavs = self.vocode(decoded.spectrum.transpose(1, 2).contiguous(), seed)
        if decoded.stereo is None:
            return wavs[:, None]
        return torch.stack([self._stereo(wav, s) for wav, s in zip(wavs, decoded.stereo, strict=True)])

    @torch.no_grad()
    def vocode(self, spectrum: Tensor, seed: Seeds = 0) -> Tensor:
        """Spectrum (batch, n_bands, frames) -> wav (batch, (frames - 1) * hop_length).

        Args:
            spectrum: Natural log of magnitude.
            seed: Of a vocoder that starts from random phases; one for all examples, or one for each.
        """
        return self.vocoder(spectrum, seed)

    def _batched(self, function: Callable[[Features], Tensor], features: Features) -> Tensor:
        names = self.codec.columns
        parts = zip(*(features[name].split(BATCH) for name in names), strict=True)
        return torch.cat(
            [
                function({name: x.to(self.device) for name, x in zip(names, part, strict=True)}).cpu()
                for part in parts
            ]
        )


def joined(parts: Sequence[Decoded]) -> Decoded:
    """One batch of several, on the CPU."""
    stereo = [part.stereo.cpu() for part in parts if part.stereo is not None]
    return Decoded(torch.cat([part.spectrum.cpu() for part in parts]), torch.cat(stereo) if stereo else None)


@dataclass(frozen=True)
class PipelineArtifacts:
    """The artifacts of one trained pipeline: what generation, evaluation and release take.

    Attributes:
        name: Of the pipeline.
        codec: Checkpoint of the codec.
        prior: Checkpoint of the prior.
        vocoder: Checkpoint of the vocoder; None for a pipeline that needs none.
        vocoder_kind: `neural`, `griffin_lim` or `flow`.
        griffin_lim: See GriffinLimConfig.
        device: `auto`, `cpu`, `cuda` or `mps`: of the present config, because checkpoints move to machines that
            have other devices.
        refiner: Checkpoint of the codec's refiner; None for a pipeline without one.
    """

    name: str
    codec: Artifact
    prior: Artifact
    vocoder: Artifact | None
    vocoder_kind: str = "neural"
    griffin_lim: GriffinLimConfig | None = None
    device: str = "auto"
    refiner: Artifact | None = None

    @property
    def parts(self) -> dict[str, Artifact]:
        """Component to checkpoint: `codec`, `prior` and, where there are, `refiner` and `vocoder`."""
        found = {"codec": self.codec, "refiner": self.refiner, "prior": self.prior, "vocoder": self.vocoder}
        return {part: artifact for part, artifact in found.items() if artifact is not None}

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
        return list(
            dict.fromkeys(a.inputs["feature_table"] for part, a in self.parts.items() if part != "prior")
        )

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
            codec = codecs.load_refined(folders["codec"], folders.get("refiner"), where)
            vocoder = load_vocoder(
                self.vocoder_kind, codec.feature, folders.get("vocoder"), self.griffin_lim, where
            )
            return Pipeline(self.name, codec, priors.load(folders["prior"], where), vocoder, where)
