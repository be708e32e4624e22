"""The networks of the codecs' decoders as modules of tensors alone, and what is computed outside them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import Tensor, nn

from melodygan_core.codec import Codec
from melodygan_core.codec.dense import DenseCodec
from melodygan_core.codec.refiner.model import Refiner
from melodygan_core.codec.temporal import TemporalCodec
from melodygan_core.config import require
from melodygan_core.export.graph import Axes, Graph
from melodygan_core.export.manifest import CodecShape


class _TemporalDecoder(nn.Module):
    """Latents (and noise of the refiner) -> spectrum and stereo."""

    def __init__(self, codec: TemporalCodec) -> None:
        super().__init__()
        self.codec = codec
        self.refiner = codec.refiner if isinstance(codec.refiner, Refiner) else None

    def forward(self, latents: Tensor, noise: Tensor | None = None) -> tuple[Tensor, ...]:
        targets = self.codec.decode_targets(latents)
        if self.refiner is not None:
            assert noise is not None
            targets = self.refiner.integrate(targets, latents, noise)
        spectrum, stereo = self.codec.from_targets(targets)
        return (spectrum,) if stereo is None else (spectrum, stereo)


class _DenseDecoder(nn.Module):
    """Latents -> feature vectors and log-mel of each segment."""

    def __init__(self, codec: DenseCodec) -> None:
        super().__init__()
        self.codec = codec

    def forward(self, latents: Tensor) -> tuple[Tensor, Tensor]:
        vectors = self.codec.decode_targets(latents)
        return vectors, self.codec.log_mel(vectors)


class _Spectrum(nn.Module):
    """log_mel -> spectrum of the vocoders."""

    def __init__(self, codec: DenseCodec) -> None:
        super().__init__()
        self.convert = codec.spectrum_of_mels

    def forward(self, log_mel: Tensor) -> Tensor:
        # An output must not be an input, which it is where bands are mels.
        return self.convert(log_mel).clone()


def _refiner(codec: Codec) -> Refiner | None:
    refiner = codec.refiner
    assert refiner is None or isinstance(refiner, Refiner), "the only kind of refiner"
    return refiner


def _temporal_graphs(codec: TemporalCodec) -> list[Graph]:
    feature, refiner = codec.feature, _refiner(codec)
    inputs: dict[str, Axes] = {"latents": (1, "tokens", codec.latent_dim)}
    if refiner is not None:
        inputs["noise"] = (1, "tokens", refiner.values)
    outputs: dict[str, Axes] = {"spectrum": (1, "frames", feature.n_bands)}
    if feature.n_stereo:
        outputs["stereo"] = (1, "frames", feature.n_stereo)
    return [Graph("decoder", _TemporalDecoder(codec), inputs, outputs)]


def _temporal_shape(codec: TemporalCodec) -> CodecShape:
    reach, values, refiner = codec.config.reach, 0, _refiner(codec)
    if refiner is not None:
        # Each step sees as far again.
        reach += refiner.config.steps * refiner.config.blocks * (refiner.config.kernel // 2)
        values = refiner.values
    return CodecShape(
        kind="temporal",
        token_frames=codec.token_frames,
        latent_dim=codec.latent_dim,
        noise_values=values,
        reach_tokens=reach,
    )


def _dense_graphs(codec: DenseCodec) -> list[Graph]:
    feature = codec.feature
    inputs: dict[str, Axes] = {"latents": ("tokens", codec.latent_dim)}
    outputs: dict[str, Axes] = {
        "vectors": ("tokens", codec.vector_dim),
        "log_mel": ("tokens", feature.n_mels, feature.segment_frames),
    }
    mels: dict[str, Axes] = {"log_mel": ("frames", feature.n_mels)}
    return [
        Graph("decoder", _DenseDecoder(codec), inputs, outputs),
        Graph("spectrum", _Spectrum(codec), mels, {"spectrum": ("frames", feature.n_bands)}),
    ]


def _dense_shape(codec: DenseCodec) -> CodecShape:
    return CodecShape(
        kind="dense",
        token_frames=codec.token_frames,
        latent_dim=codec.latent_dim,
        overlap_frames=codec.overlap_frames,
    )


# By the kind that a release names. Another kind needs networks here and its decoding in `runtime`.
_GRAPHS: dict[str, Callable[[Any], list[Graph]]] = {"dense": _dense_graphs, "temporal": _temporal_graphs}
_SHAPES: dict[str, Callable[[Any], CodecShape]] = {"dense": _dense_shape, "temporal": _temporal_shape}


def codec_graphs(kind: str, codec: Codec) -> list[Graph]:
    """The networks that decode latents.

    Args:
        kind: Of the release's codec, such as `temporal`.
        codec: On the CPU.

    Raises:
        InputError: a codec that cannot be exported.
    """
    require(kind in _GRAPHS, "codec", kind, f"one that can be exported: {', '.join(_GRAPHS)}")
    return _GRAPHS[kind](codec)


def codec_shape(kind: str, codec: Codec) -> CodecShape:
    """What of a codec is computed outside its networks."""
    return _SHAPES[kind](codec)
