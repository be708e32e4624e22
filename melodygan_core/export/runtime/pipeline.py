"""An exported release as the object that makes sound: codec, prior and vocoder without torch."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from melodygan_core.config import GenerationConfig, SamplingConfig, require
from melodygan_core.config.registry import able
from melodygan_core.errors import InputError
from melodygan_core.export import manifest as manifests
from melodygan_core.export.manifest import ExportManifest
from melodygan_core.export.runtime.codec import Codec, Decoded, DenseCodec, TemporalCodec
from melodygan_core.export.runtime.flow import Flow
from melodygan_core.export.runtime.noise import piece_noise, truncated_noise
from melodygan_core.export.runtime.sessions import Session
from melodygan_core.export.runtime.stereo import stereo_sound
from melodygan_core.export.runtime.torch_random import TorchRandom
from melodygan_core.export.runtime.vocoder import GriffinLim, NeuralVocoder
from melodygan_core.piece_files import (
    Piece,
    check_sound,
    condition_index,
    frames_of,
    piece_seed,
    random_condition,
)

# float32; the operations of numpy are typed as of any precision.
Values = NDArray[Any]
# Priors that are solved; a plan is left open.
FLOWS = ("temporal/flow", "temporal/plan")


class ExportedPipeline:
    """The networks of an exported folder, and what is computed around them. All arrays are of one piece.

    Args:
        folder: With an `export.json`.
        vocoder: `neural` or `griffin_lim`; the release's own when empty.
        threads: Of onnxruntime; 0 for one per core.

    Raises:
        InputError: no export, changed since it was written, or damaged, or a vocoder that it does not have.
    """

    def __init__(self, folder: Path, vocoder: str = "", threads: int = 0) -> None:
        self.manifest: ExportManifest = manifests.read(folder)
        m, kind = self.manifest, vocoder or self.manifest.vocoder.kind
        require(kind in m.vocoders, "vocoder", kind, " or ".join(m.vocoders))
        self._folder, self._threads, self._kind = folder, threads, kind
        self._sessions: dict[str, Session] = {}
        self._prior_config = m.prior.read_config()
        if m.prior.kind in FLOWS:
            for name, limits in (("lowest", m.prior.lowest), ("highest", m.prior.highest)):
                wanted = f"{m.codec.latent_dim}, the codec's latent_dim"
                require(len(limits) == m.codec.latent_dim, f"length of {name}", len(limits), wanted)

    @property
    def conditions(self) -> tuple[str, ...]:
        """Names of the prior's conditions; empty for none."""
        return self.manifest.prior.conditions

    def pieces(self, config: GenerationConfig) -> Iterator[Piece]:
        """Yields pieces one by one, those that the release makes of the same seeds; see `generation.pieces`.

        Raises:
            InputError: an unknown condition, or settings that the prior does not have.
            MelodyGANError: a piece is not finite, clipped noise or silent.
        """
        feature, names = self.manifest.feature, self.conditions
        wanted = condition_index(names, config.condition) if config.condition else None
        frames = frames_of(config.duration_s, feature)
        for index in range(config.count):
            seed = piece_seed(config.seed, index)
            condition = random_condition(seed, len(names)) if names and wanted is None else wanted
            latents = self.latents(self.codec.tokens_for(frames), seed, condition, config.truncation, config)
            wav = self.sound(self.codec.decode(latents, frames), seed % 2**31)
            check_sound(wav, f"piece {index} of seed {config.seed}")
            yield Piece(
                index=index,
                condition="" if condition is None else names[condition],
                latents=latents,
                vectors=self.codec.feature_vectors(latents),
                wav=wav[:, : round(config.duration_s * feature.sample_rate)],
            )

    def latents(
        self,
        tokens: int,
        seed: int,
        condition: int | None = None,
        truncation: float = 0.0,
        sampling: SamplingConfig | None = None,
    ) -> Values:
        """New latents (tokens, latent_dim); see `Pipeline.sample`.

        Raises:
            InputError: settings other than the defaults for a prior that has none.
        """
        sampling, prior = sampling or SamplingConfig(), self.manifest.prior
        if prior.kind in FLOWS:
            return self._flow().sample(tokens, seed, condition, sampling)
        for name, field in SamplingConfig.model_fields.items():
            value, flows = getattr(sampling, name), able("stream")
            allowed = f"{field.default:g} with this release: it is a setting of {flows}"
            require(value == field.default, name, value, allowed)
        config = self._prior_config
        if prior.kind == "temporal/gan":
            return self.generate(piece_noise(config, tokens, seed, truncation)[None], condition)[0, :tokens]
        noise = truncated_noise(TorchRandom(seed), truncation, tokens, config.noise_dim)
        return self.generate(noise, condition)

    def generate(self, noise: Values, condition: int | None = None) -> Values:
        """Latents of the generator's input.

        Args:
            noise: (1, margin + tokens + margin, noise_dim) over the temporal codec, (tokens, noise_dim) over
                the dense one.
            condition: Index in `conditions`; None where there are none.

        Returns:
            (1, tokens, latent_dim) or (tokens, latent_dim), in the codec's latent space.
        """
        given = (
            [np.full(len(noise), 0 if condition is None else condition, np.int64)] if self.conditions else []
        )
        return self.session("generator")(noise, *given)[0]

    def sound(self, decoded: Decoded, seed: int = 0) -> Values:
        """Spectrum and stereo of a piece -> wav (channels, (frames - 1) * hop_length).

        Args:
            decoded: By the codec. Without stereo the sound has one channel.
            seed: Of the initial phases of `griffin_lim`.
        """
        feature = self.manifest.feature
        wav = self._vocode(decoded.spectrum, seed)
        if decoded.stereo is None:
            return wav[None]
        return stereo_sound(wav, decoded.stereo, feature.sample_rate, feature.hop_length)

    @property
    def codec(self) -> Codec:
        """Decodes latents."""
        shape, feature = self.manifest.codec, self.manifest.feature
        if shape.kind == "temporal":
            return TemporalCodec(shape, self.session("decoder"))
        return DenseCodec(shape, feature, self.session("decoder"), self.session("spectrum"))

    def session(self, name: str) -> Session:
        """A network, read on first use.

        Raises:
            InputError: the export has no such network, or it cannot be read.
        """
        if name not in self._sessions:
            networks = self.manifest.by_name
            if name not in networks:
                raise InputError(f"networks of {manifests.FILE} must have {name!r}, got {', '.join(networks)}")
            self._sessions[name] = Session(self._folder, networks[name], self._threads)
        return self._sessions[name]

    def _vocode(self, spectrum: Values, seed: int) -> Values:
        shape, feature = self.manifest.vocoder, self.manifest.feature
        magnitude = self.session("magnitude")
        if self._kind == "griffin_lim":
            return GriffinLim(feature, shape.griffin_lim, lambda x: magnitude(x)[0])(spectrum, seed)
        change, config = self.session("vocoder"), shape.config
        if config is None:
            raise InputError("config of the vocoder must be given for 'neural', got None")
        reach = config.blocks * (config.kernel // 2)
        return NeuralVocoder(
            feature, shape.iterations, reach, lambda x: magnitude(x)[0], lambda *x: change(*x)[0]
        )(spectrum)

    def _flow(self) -> Flow:
        prior = self.manifest.prior
        return Flow(
            self._prior_config,
            len(prior.conditions),
            self.session("velocity"),
            self.session("guide"),
            self.session("latents"),
            np.array(prior.lowest, np.float32),
            np.array(prior.highest, np.float32),
        )
