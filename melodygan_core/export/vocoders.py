"""The networks of the vocoders as modules of tensors alone, and what is computed outside them."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn

from melodygan_core.config import FeatureConfig, GriffinLimConfig, require
from melodygan_core.export.graph import Axes, Graph
from melodygan_core.export.manifest import VocoderShape
from melodygan_core.vocoder import BatchedVocoder, NeuralVocoder
from melodygan_core.vocoder.phase import BandInverse


class _Magnitude(nn.Module):
    """Spectrum -> magnitudes of the bins of the STFT, at least 0."""

    def __init__(self, inverse: BandInverse) -> None:
        super().__init__()
        self.inverse = inverse

    def forward(self, spectrum: Tensor) -> Tensor:
        return self.inverse(spectrum.transpose(1, 2)).transpose(1, 2)


class _Change(nn.Module):
    """Spectrum and consistency ratio -> changes of log magnitudes and phases."""

    def __init__(self, vocoder: NeuralVocoder) -> None:
        super().__init__()
        self.vocoder = vocoder

    def forward(self, spectrum: Tensor, ratio_real: Tensor, ratio_imag: Tensor) -> Tensor:
        return self.vocoder.change(spectrum, ratio_real, ratio_imag)


def vocoder_graphs(feature: FeatureConfig, vocoder: BatchedVocoder) -> list[Graph]:
    """The networks of a vocoder: magnitudes of bins, and what changes them where it is the neural one.

    Raises:
        InputError: a vocoder that cannot be exported.
    """
    allowed = "neural or griffin_lim for an export (a flow has the neural one inside: `vocoder` neural)"
    require(vocoder.kind in ("neural", "griffin_lim"), "vocoder", vocoder.kind, allowed)
    bins = feature.n_fft // 2 + 1
    spectrum: dict[str, Axes] = {"spectrum": (1, "frames", feature.n_bands)}
    outputs: dict[str, Axes] = {"magnitude": (1, "frames", bins)}
    made = [Graph("magnitude", _Magnitude(BandInverse(feature)), spectrum, outputs)]
    if vocoder.kind == "neural":
        part: Axes = (1, "frames", bins)
        inputs = {**spectrum, "ratio_real": part, "ratio_imag": part}
        changes: dict[str, Axes] = {"change": (1, "frames", 2 * bins)}
        made.append(Graph("vocoder", _Change(vocoder.model), inputs, changes))
    return made


def vocoder_shape(vocoder: BatchedVocoder, griffin_lim: GriffinLimConfig) -> VocoderShape:
    """What of a vocoder is computed outside its networks."""
    if vocoder.kind == "griffin_lim":
        return VocoderShape(kind="griffin_lim", griffin_lim=griffin_lim)
    model: Any = vocoder.model
    iterations = model.initial_spectrum.iterations
    return VocoderShape(kind="neural", iterations=iterations, config=model.config, griffin_lim=griffin_lim)
