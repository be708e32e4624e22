"""The vocoders beside one another: speed, and on test tracks distance to the truth and pitch.

    python benchmarks/vocoder.py
    python benchmarks/vocoder.py STORE --steps 1 --steps 4 --noise 0.5

Without STORE, the vocoders of each preset take the same spectra of 10 s of noise, in turn, round after round;
the best round counts. The weights are untrained, which costs as much time as trained ones.

With STORE, the recorded vocoders take the true spectra of test tracks. Rows of the flow without its network
show what projection onto bands and sounds does alone.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import click
import torch
from torch import Tensor

from melodygan_core import vocoder
from melodygan_core.config import replace
from melodygan_core.config.presets import PRESETS
from melodygan_core.dataset import Dataset
from melodygan_core.evaluation.pitch import BANDS_HZ, pitch_figures
from melodygan_core.features import FeatureExtractor
from melodygan_core.storage import Store
from melodygan_core.vocoder import FlowVocoder, GriffinLim, NeuralVocoder
from melodygan_core.vocoder.comparison import compare
from melodygan_core.vocoder.flow import WaveformFlow

DURATION_S = 10
ROUNDS = 5
# Constant-Q transforms take longer than any vocoder.
PITCH_WINDOWS = 12


def speed() -> None:
    """Prints how many seconds of sound per second each preset makes."""
    for threads in (1, 2):
        torch.set_num_threads(threads)
        for name, preset in PRESETS.items():
            feature = preset.features
            noise = torch.randn(DURATION_S * feature.sample_rate, generator=torch.Generator().manual_seed(0))
            spectrum = FeatureExtractor(feature)(0.1 * noise)[feature.spectrum][None]
            neural = NeuralVocoder(preset.vocoder, feature).eval()
            ways: dict[str, Callable[[Tensor], Tensor]] = {
                "neural": neural,
                "griffin_lim": GriffinLim(feature, preset.griffin_lim),
                "flow": FlowVocoder(neural, WaveformFlow(preset.flow_vocoder, feature)).eval(),
            }
            best = dict.fromkeys(ways, float("inf"))
            with torch.no_grad():
                for _ in range(ROUNDS):
                    for way, make in ways.items():
                        started = time.perf_counter()
                        make(spectrum)
                        best[way] = min(best[way], time.perf_counter() - started)
            rates = {way: DURATION_S / elapsed_s for way, elapsed_s in best.items()}
            print(
                f"{threads} threads, {name}: neural {rates['neural']:.0f}x real time, Griffin-Lim "
                f"{rates['griffin_lim']:.0f}x, ratio {rates['neural'] / rates['griffin_lim']:.1f}, flow "
                f"({preset.flow_vocoder.steps} steps) {rates['flow']:.1f}x"
            )


def without_network(model: FlowVocoder, steps: int) -> FlowVocoder:
    """The vocoder with an untrained network and no noise."""
    config = replace(model.flow.config, steps=steps, noise=0.0)
    flow = WaveformFlow(config, model.feature)
    flow.noise_std.copy_(model.flow.noise_std)
    return FlowVocoder(model.neural, flow).eval()


def with_settings(model: FlowVocoder, steps: int, noise: float) -> FlowVocoder:
    """The vocoder with other settings of its steps."""
    config = replace(model.flow.config, steps=steps, noise=noise)
    flow = WaveformFlow(config, model.feature)
    flow.load_state_dict(model.flow.state_dict())
    return FlowVocoder(model.neural, flow).eval()


def quality(root: str, steps: tuple[int, ...], noises: tuple[float, ...], windows: int) -> None:
    """Prints a table of the vocoders that a store has."""
    store = Store(root)
    table, checkpoint = (store.record(name) for name in ("feature_table", vocoder.flow.NAME))
    if table is None or checkpoint is None:
        raise click.UsageError(f"STORE must have a feature_table and a {vocoder.flow.NAME}, got {root!r}")
    data = Dataset(store, table)
    with store.reading(store.at(checkpoint.uri)) as folder:
        model = vocoder.flow.load(folder)
    vocoders: dict[str, Callable[[Tensor], Tensor]] = {
        "neural": model.neural,
        "griffin_lim": GriffinLim(data.feature),
    }
    for count in steps:
        vocoders[f"no network, {count} steps"] = without_network(model, count)
        for noise in noises:
            vocoders[f"flow, {count} steps, noise {noise:g}"] = with_settings(model, count, noise)
    pitch: dict[str, dict[str, float]] = {}

    def heard(name: str, real: Tensor, fake: Tensor) -> None:
        chosen = torch.linspace(0, len(real) - 1, min(len(real), PITCH_WINDOWS)).round().long()
        pairs = ((real[k].numpy(), fake[k].numpy()) for k in chosen)
        pitch[name] = pitch_figures(pairs, data.feature.sample_rate)

    measure = partial(compare, windows=windows, heard=heard)
    with tempfile.TemporaryDirectory() as work:
        figures = measure(data, store, model.neural.config.stems, vocoders, torch.device("cpu"), Path(work))
    bands = [f"{low}-{high} Hz" for low, high in BANDS_HZ]
    print(f"| vocoder | KAD | excess KAD | log bands L1 | STFT | {' | '.join(bands)} | partials, dB | x RT |")
    print("|---" * (len(bands) + 7) + "|")
    for name in vocoders:
        cells = [figures[f"test/{name}/{k}"] for k in ("kad", "excess_kad", "log_bands_l1", "stft")]
        cells += [pitch[name].get(f"pitch/{low}-{high}") for low, high in BANDS_HZ]
        cells += [pitch[name].get("pitch/partials_error_db"), figures[f"test/{name}/times_real_time"]]
        written = ["-" if cell is None else f"{cell:.3g}" for cell in cells]
        print(f"| {name} | {' | '.join(written)} |")


@click.command(help=__doc__)
@click.argument("store", required=False)
@click.option("--steps", type=int, multiple=True, default=(1, 2, 4), show_default=True)
@click.option("--noise", type=float, multiple=True, default=(0.0, 0.5, 1.0), show_default=True)
@click.option("--windows", type=int, default=150, show_default=True, help="Windows of 3 s of test tracks.")
@click.option("--threads", type=int, default=1, show_default=True)
def main(
    store: str | None, steps: tuple[int, ...], noise: tuple[float, ...], windows: int, threads: int
) -> None:
    """Prints one of the tables."""
    if store is None:
        speed()
        return
    torch.set_num_threads(threads)
    quality(store, steps, noise, windows)


if __name__ == "__main__":
    main()
