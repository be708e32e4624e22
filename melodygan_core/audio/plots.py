"""Plots as PNG bytes: spectrograms, waveforms, curves. Matplotlib runs without a display."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from melodygan_core.audio.previews import LOWEST_HZ, SPECTROGRAM_ROWS, magma, spectrogram_db

# Colours that colour-blind readers can tell apart (Okabe and Ito).
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")
DB_RANGE = 80.0
# Sizes in pixels in the picture of a track: each stem, the names on the left, the time axis below.
_STEM, _NAMES, _TIME = (240, 48), 76, 14


def _png(figure: Figure, dpi: int = 80, *, tight: bool = True) -> bytes:
    FigureCanvasAgg(figure)
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=dpi, bbox_inches="tight" if tight else None)
    return buffer.getvalue()


def _row(frequency_hz: float, sample_rate: int) -> float:
    return SPECTROGRAM_ROWS * np.log(frequency_hz / LOWEST_HZ) / np.log(sample_rate / 2 / LOWEST_HZ)


def sound_png(wav: NDArray[np.float32], sample_rate: int, width: float = 6.0) -> bytes:
    """Returns a plot of the waveform above the spectrogram, on one time axis.

    Args:
        wav: (samples,) mono in [-1, 1].
        sample_rate: In Hz.
        width: Width of the plot in inches.
    """
    figure = Figure(figsize=(width, 2.6))
    top, bottom = figure.subplots(2, 1, sharex=True, height_ratios=(1, 3))
    seconds = len(wav) / sample_rate
    columns = np.array_split(wav, min(1200, max(1, len(wav))))
    time_s = np.linspace(0, seconds, len(columns))
    top.fill_between(time_s, [c.min() for c in columns], [c.max() for c in columns], color=COLOURS[0], lw=0)
    top.set_ylim(-1, 1)
    top.set_yticks([])
    level_db = spectrogram_db(wav, sample_rate)
    bottom.imshow(
        level_db,
        origin="lower",
        aspect="auto",
        cmap="magma",
        vmin=level_db.max() - DB_RANGE,
        vmax=level_db.max(),
        extent=(0, max(seconds, 1e-3), 0, SPECTROGRAM_ROWS),
    )
    marks = [f for f in (100, 300, 1000, 3000, 10_000) if f < sample_rate / 2]
    bottom.set_yticks(
        [_row(f, sample_rate) for f in marks], [f"{f / 1000:g}k" if f >= 1000 else f for f in marks]
    )
    bottom.set_ylabel("Hz")
    bottom.set_xlabel("s")
    bottom.set_xlim(0, max(seconds, 1e-3))
    return _png(figure)


def log_mel_png(log_mel: NDArray[np.float32], frame_rate: float, title: str = "") -> bytes:
    """Returns a plot of a log-mel (n_mels, frames); `frame_rate` in frames per second."""
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
    """Returns a plot of training curves over the step, one panel below the other per group of names.

    It is as wide as the Dagster UI shows pictures: scaled down, the legends could not be read.

    Args:
        history: Rows with `step` and metrics.
        groups: The metrics of each panel; names without a row are left out.
    """
    figure = Figure(figsize=(3.8, 2.2 * len(groups)), layout="constrained")
    panels = np.atleast_1d(figure.subplots(len(groups), 1, sharex=True))
    for axes, names in zip(panels, groups, strict=True):
        for colour, name in zip(COLOURS, names, strict=False):
            points = [(row["step"], row[name]) for row in history if name in row]
            if points:
                axes.plot(*zip(*points, strict=True), color=colour, label=name, lw=1.4)
        if axes.lines:
            # Above the panel, where it hides no curve.
            axes.legend(fontsize=9, frameon=False, loc="lower left", bbox_to_anchor=(0, 1), borderaxespad=0)
        axes.grid(alpha=0.25)
    panels[-1].set_xlabel("step")
    return _png(figure)


def intervals_png(rows: Sequence[tuple[str, float, float, float]], label: str) -> bytes:
    """Returns a plot of values with their intervals on one axis.

    Args:
        rows: (name, value, low, high) of each.
        label: Label of the axis.
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


def distributions_png(values: Mapping[str, Mapping[str, Sequence[float]]], units: Mapping[str, str]) -> bytes:
    """Returns a plot of histograms: one small panel per quantity, one row per set, with a line at its median.

    Args:
        values: Quantity to set to values; sets without a value are left out.
        units: Quantity to unit, where it has one.
    """
    columns = 3
    figure = Figure(figsize=(9, 1.5 * -(-len(values) // columns)), layout="constrained")
    panels = np.atleast_1d(figure.subplots(-(-len(values) // columns), columns)).ravel()
    for axes in panels[len(values) :]:
        axes.set_axis_off()
    for axes, (name, sets) in zip(panels, values.items(), strict=False):
        found = {k: np.asarray(v, np.float64) for k, v in sets.items() if len(v)}
        joined = np.concatenate(list(found.values()))
        low, high = float(joined.min()), float(joined.max())
        edges = np.linspace(low, high if high > low else low + 1.0, 21)
        for row, (label, colour) in enumerate(zip(found, COLOURS, strict=False)):
            counts = np.histogram(found[label], edges)[0]
            base = len(found) - 1 - row
            axes.stairs(
                base + 0.9 * counts / counts.max(), edges, baseline=base, fill=True, color=colour, alpha=0.6
            )
            median = float(np.median(found[label]))
            axes.plot([median, median], [base, base + 0.9], color="black", lw=1.2)
        axes.set_yticks([len(found) - 0.7 - k for k in range(len(found))], list(found), fontsize=7)
        axes.tick_params(axis="x", labelsize=7)
        axes.set_title(f"{name} ({units[name]})" if units.get(name) else name, fontsize=8)
    return _png(figure)


def stems_png(segments: Sequence[NDArray[np.float16]], names: Sequence[str], frame_rate: float) -> bytes:
    """Returns a small picture of the stems of a track, one log-mel above the other.

    Every track has one. Pillow draws it, because the axes of matplotlib take ten times as long.

    Args:
        segments: (rows, segment_frames, n_mels) of each stem.
        names: Name of each stem.
        frame_rate: In frames per second.
    """
    picture = Image.new("RGB", (_NAMES + _STEM[0] + 8, len(names) * (_STEM[1] + 2) + _TIME), "white")
    canvas, font = ImageDraw.Draw(picture), ImageFont.load_default(11)
    for k, (name, values) in enumerate(zip(names, segments, strict=True)):
        log_mel = values.reshape(-1, values.shape[-1]).T.astype(np.float32)
        low, high = log_mel.min(), log_mel.max()
        level = (255 * (log_mel[::-1] - low) / max(high - low, 1e-6)).astype(np.uint8)
        top = k * (_STEM[1] + 2)
        # 32 levels look the same and take a third of the file size.
        scaled = np.asarray(Image.fromarray(level).resize(_STEM, Image.Resampling.BOX)) & 0xF8
        picture.paste(Image.fromarray(magma()[scaled]), (_NAMES, top))
        canvas.text((_NAMES - 5, top + _STEM[1] // 2), name, "black", font, anchor="rm")
    seconds = segments[0].shape[0] * segments[0].shape[1] / frame_rate
    for share in (0.0, 0.5, 1.0):
        x, anchor = _NAMES + share * _STEM[0], "lmr"[round(2 * share)] + "b"
        canvas.text((x, picture.height), f"{share * seconds:.3g} s", "black", font, anchor=anchor)
    buffer = io.BytesIO()
    picture.save(buffer, "png")
    return buffer.getvalue()
