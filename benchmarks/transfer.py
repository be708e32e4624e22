"""How near `transfer` comes to a style, and what it keeps of the content, over the strength.

    python -m benchmarks.transfer STORE RELEASE [--tracks 12] [--styles 2] [--strengths 0 0.25 0.5 0.75 1]

Contents and styles are excerpts of the store's validation and test tracks. `flow` lowers the distance and
raises the correlations that it reports, so that two measures stand beside them that it does not look at:
the distance to the style of MFCC (of their means, and of the deviation of their steps, which codec and vocoder
change by themselves: see strength 0), and the pitch by a constant-Q transform. The way is the share of the
distance from the content to the style's own spread: 1 is as near as the style's windows are to each other.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import librosa
import numpy as np
from numpy.typing import NDArray
from scipy.spatial.distance import cdist, pdist
from tqdm import tqdm

from benchmarks.excerpts import MIN_RMS_DB, UNSEEN, evenly, rms_db, table, tracks_of
from melodygan_core import audio, release
from melodygan_core.config import FeatureConfig, TransferConfig
from melodygan_core.evaluation.pitch import BANDS_HZ, cqt_correlation
from melodygan_core.pipeline import Pipeline
from melodygan_core.release import styles
from melodygan_core.services.sound import Samples, log_mel_of
from melodygan_core.services.transfer import flow_transfer_wav, transfer_wav

CONTENT_S, STYLE_S = 9.0, 18.0
WINDOW_S, HOP_LENGTH = 3.0, 512
PITCH = "pitch/{}-{}".format(*BANDS_HZ[1])
COEFFICIENTS = 19
# Of `timbre`: the colour, and how much it changes from frame to frame.
PARTS = {"means": slice(0, COEFFICIENTS), "changes": slice(2 * COEFFICIENTS, 3 * COEFFICIENTS)}
HEADER = (
    "method",
    "strength",
    "pairs",
    "before",
    "after",
    "spread",
    "way",
    "nearer",
    "way, MFCC means",
    "way, MFCC changes",
    "chroma",
    "onsets",
    "pitch 160-640",
)


@dataclass(frozen=True)
class Pair:
    """A content and a style, (channels, samples) each."""

    content: Samples
    style_wav: Samples
    style: styles.Style


@dataclass
class Curve:
    """Figures of one method at one strength, a value per pair each."""

    figures: dict[str, list[float]] = field(default_factory=dict)

    def add(self, figures: dict[str, float]) -> None:
        for name, value in figures.items():
            self.figures.setdefault(name, []).append(value)

    def mean(self, name: str) -> float:
        return float(np.mean(self.figures[name])) if self.figures.get(name) else float("nan")

    def way(self, prefix: str) -> float:
        """Share of the distance from before to the style's own spread."""
        before, after, own = (
            self.mean(f"{prefix}_{k}") for k in ("distance_before", "distance_after", "spread")
        )
        return (before - after) / (before - own)

    def row(self) -> list[str | float]:
        before, after = (np.array(self.figures[f"style_distance_{k}"]) for k in ("before", "after"))
        return [
            str(len(after)),
            float(before.mean()),
            float(after.mean()),
            self.mean("style_spread"),
            self.way("style"),
            float((after < before).mean()),
            *(self.way(part) for part in PARTS),
            *(self.mean(k) for k in ("chroma_correlation", "onset_correlation", PITCH)),
        ]


def timbre(wav: Samples, sample_rate: int) -> NDArray[np.float64]:
    """Means, deviations and deviations of the steps of MFCC 1 to 19 in windows of 3 s: (windows, 57)."""
    mfcc = librosa.feature.mfcc(
        y=audio.to_mono(wav), sr=sample_rate, n_mfcc=COEFFICIENTS + 1, hop_length=HOP_LENGTH
    )[1:]
    size = round(WINDOW_S * sample_rate / HOP_LENGTH)
    windows = [mfcc[:, k : k + size] for k in range(0, mfcc.shape[1] - size + 1, size)]
    rows = [np.concatenate([w.mean(1), w.std(1), np.diff(w).std(1)]) for w in windows]
    return np.stack(rows).astype(np.float64)


def pairs_of(
    store: Path, tracks: int, per_content: int, style_s: float, feature: FeatureConfig
) -> Iterator[Pair]:
    """Contents from the middle of unseen tracks, each with the middles of others as styles."""
    found = evenly(tracks_of(store, max(CONTENT_S, style_s), UNSEEN), tracks)
    excerpts = {
        length_s: [t.excerpt((t.duration_s - length_s) / 2, length_s, feature) for t in found]
        for length_s in (CONTENT_S, style_s)
    }
    for k, content in enumerate(excerpts[CONTENT_S]):
        others = [
            (k + 1 + j * max(1, len(found) // (per_content + 1))) % len(found) for j in range(per_content)
        ]
        for other in dict.fromkeys(o for o in others if o != k):
            style = excerpts[style_s][other]
            if min(rms_db(content), rms_db(style)) > MIN_RMS_DB:
                yield Pair(content, style, styles.style_of(log_mel_of(style, feature), feature))


def measured(
    pipeline: Pipeline, pair: Pair, config: TransferConfig, scale: NDArray[np.float64]
) -> dict[str, float]:
    """All figures of a pair by the method and strength of a config."""
    rate = pipeline.feature.sample_rate
    if config.method == "eq":
        made = transfer_wav(pair.content, pair.style, pipeline.feature, config.strength)
    else:
        made = flow_transfer_wav(pipeline, pair.content, pair.style, config)
    wanted, before, after = (timbre(w, rate) / scale for w in (pair.style_wav, pair.content, made.wav))
    pitch = cqt_correlation(audio.to_mono(made.wav), audio.to_mono(pair.content), rate)
    figures = made.figures | {k: v for k, v in pitch.items() if k == PITCH}
    for name, part in PARTS.items():
        figures[f"{name}_distance_before"] = float(cdist(before[:, part], wanted[:, part]).mean())
        figures[f"{name}_distance_after"] = float(cdist(after[:, part], wanted[:, part]).mean())
        figures[f"{name}_spread"] = float(pdist(wanted[:, part]).mean())
    return figures


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("store", type=Path)
    parser.add_argument("release", type=Path)
    parser.add_argument("--tracks", type=int, default=12, help="contents")
    parser.add_argument("--styles", type=int, default=2, help="styles of each content")
    parser.add_argument("--style-seconds", type=float, default=STYLE_S)
    parser.add_argument("--strengths", type=float, nargs="+", default=[0.0, 0.25, 0.5, 0.75, 1.0])
    parser.add_argument("--methods", nargs="+", default=["eq", "flow"], choices=["eq", "flow"])
    parser.add_argument(
        "--style-weight", type=float, default=TransferConfig.model_fields["style_weight"].default
    )
    parser.add_argument("--keep-melody", type=float, default=TransferConfig.model_fields["keep_melody"].default)
    given = parser.parse_args()
    pipeline = release.load(given.release).pipeline
    pairs = list(pairs_of(given.store, given.tracks, given.styles, given.style_seconds, pipeline.feature))
    if not pairs:
        raise SystemExit("STORE must have two or more unseen tracks that are long and loud enough, got fewer")
    rate = pipeline.feature.sample_rate
    scale = np.concatenate([timbre(w, rate) for p in pairs for w in (p.content, p.style_wav)]).std(axis=0)
    rows = []
    for method in given.methods:
        for strength in given.strengths:
            weights = (
                {"style_weight": given.style_weight, "keep_melody": given.keep_melody}
                if method == "flow"
                else {}
            )
            config = TransferConfig(content="-", style="-", method=method, strength=strength, **weights)
            curve = Curve()
            for pair in tqdm(pairs, desc=f"{method} {strength:g}"):
                curve.add(measured(pipeline, pair, config, scale))
            rows.append([method, f"{strength:g}", *curve.row()])
            print(table(HEADER, rows[-1:]).splitlines()[-1], flush=True)
    print(f"\n{table(HEADER, rows)}")


if __name__ == "__main__":
    main()
