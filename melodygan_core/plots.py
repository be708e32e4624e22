"""Pictures for people: spectrograms, waveforms, curves, as PNG bytes. Matplotlib without a display."""

from __future__ import annotations

import io
from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from numpy.typing import NDArray

# Colours that stay apart for colour-blind readers (Okabe and Ito).
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")
DB_RANGE = 80.0


def _png(figure: Figure, dpi: int = 80) -> bytes:
    FigureCanvasAgg(figure)
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=dpi, bbox_inches="tight")
    return buffer.getvalue()


def sound_png(wav: NDArray[np.float32], sample_rate: int, width: float = 6.0) -> bytes:
    """Waveform above spectrogram, on one time axis.

    Args:
        wav: (samples,) mono in [-1, 1].
        sample_rate: In Hz.
        width: Of the picture in inches.
    """
    figure = Figure(figsize=(width, 2.6))
    top, bottom = figure.subplots(2, 1, sharex=True, height_ratios=(1, 3))
    seconds = len(wav) / sample_rate
    columns = np.array_split(wav, min(1200, max(1, len(wav))))
    time_s = np.linspace(0, seconds, len(columns))
    top.fill_between(time_s, [c.min() for c in columns], [c.max() for c in columns], color=COLOURS[0], lw=0)
    top.set_ylim(-1, 1)
    top.set_yticks([])
    n_fft = 1024
    padded = np.pad(wav, (0, max(0, 2 * n_fft - len(wav))))
    with np.errstate(divide="ignore"):
        _, _, _, image = bottom.specgram(
            padded + 1e-9, NFFT=n_fft, Fs=sample_rate, noverlap=768, cmap="magma", mode="magnitude", scale="dB"
        )
    peak = float(np.nanmax(np.where(np.isfinite(image.get_array()), image.get_array(), -np.inf)))
    image.set_clim(peak - DB_RANGE, peak)
    bottom.set_ylim(50, sample_rate / 2)
    bottom.set_yscale("symlog", linthresh=1000)
    bottom.set_ylabel("Hz")
    bottom.set_xlabel("s")
    bottom.set_xlim(0, max(seconds, 1e-3))
    return _png(figure)


def log_mel_png(log_mel: NDArray[np.float32], frame_rate: float, title: str = "") -> bytes:
    """A log-mel (n_mels, frames) as a picture; `frame_rate` in frames a second."""
    figure = Figure(figsize=(6, 2.2))
    axes = figure.subplots()
    axes.imshow(
        log_mel,
        origin="lower",
        aspect="auto",
        cmap="magma",
        extent=(0, log_mel.shape[1] / frame_rate, 0, len(log_mel)),
    )
    axes.set_xlabel("s")
    axes.set_ylabel("mel band")
    axes.set_title(title, fontsize=9)
    return _png(figure, dpi=60)


def curves_png(history: Sequence[dict[str, Any]], groups: Sequence[Sequence[str]]) -> bytes:
    """Training curves over the step, one panel a group of names.

    Args:
        history: Rows with `step` and figures.
        groups: Names drawn in one panel each; names that no row has are left out.
    """
    figure = Figure(figsize=(3.4 * len(groups), 2.4))
    for axes, names in zip(np.atleast_1d(figure.subplots(1, len(groups))), groups, strict=True):
        for colour, name in zip(COLOURS, names, strict=False):
            points = [(row["step"], row[name]) for row in history if name in row]
            if points:
                axes.plot(*zip(*points, strict=True), color=colour, label=name, lw=1.4)
        axes.set_xlabel("step")
        if axes.lines:
            axes.legend(fontsize=7, frameon=False)
        axes.grid(alpha=0.25)
    return _png(figure, dpi=60)


def intervals_png(rows: Sequence[tuple[str, float, float, float]], label: str) -> bytes:
    """Values with their intervals on one axis.

    Args:
        rows: name, value, low, high.
        label: Of the axis.
    """
    figure = Figure(figsize=(6, 0.45 * len(rows) + 0.8))
    axes = figure.subplots()
    for i, (_, value, low, high) in enumerate(reversed(rows)):
        axes.plot([low, high], [i, i], color=COLOURS[0], lw=3, alpha=0.4)
        axes.plot([value], [i], "o", color=COLOURS[0])
    axes.set_yticks(range(len(rows)), [r[0] for r in reversed(rows)])
    axes.set_xlabel(label)
    axes.grid(axis="x", alpha=0.25)
    return _png(figure, dpi=60)


def stems_png(segments: Sequence[NDArray[np.float16]], names: Sequence[str], frame_rate: float) -> bytes:
    """A small picture of a track's stems, one log-mel above the other.

    Small because one is kept in the event log for every track.

    Args:
        segments: For each stem (rows, segment_frames, n_mels).
        names: Of the stems.
        frame_rate: In frames a second.
    """
    figure = Figure(figsize=(4.2, 2.4))
    rows = np.atleast_1d(figure.subplots(len(names), 1, sharex=True))
    for axes, name, values in zip(rows, names, segments, strict=True):
        log_mel = values.reshape(-1, values.shape[-1]).T.astype(np.float32)
        step = max(1, log_mel.shape[1] // 600)
        axes.imshow(
            log_mel[:, ::step],
            origin="lower",
            aspect="auto",
            cmap="magma",
            extent=(0, log_mel.shape[1] / frame_rate, 0, len(log_mel)),
        )
        axes.set_yticks([])
        axes.set_ylabel(name, fontsize=6)
        axes.tick_params(labelsize=6)
    return _png(figure, dpi=50)
