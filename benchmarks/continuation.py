"""Seams of continuations beside real music's own steps, and inpainted gaps beside cross-faded ones.

    python -m benchmarks.continuation STORE RELEASE [--tracks 12] [--count 2] [--random 12]

On the store's validation and test tracks. Steps are measured at the join of a continuation and, by the same
rule, at random places of the same music. The gaps of 2 s are filled by the flow, by a cross-fade of what lies
before into what lies behind, and by the real sound through codec and vocoder: the best that the flow can do.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from benchmarks.excerpts import UNSEEN, Track, evenly, random_excerpts, rms_db, table, tracks_of
from melodygan_core import metrics, release
from melodygan_core.config import EditConfig, FeatureConfig
from melodygan_core.metrics.music import music_sound
from melodygan_core.metrics.music.rhythm import tempo_bpm
from melodygan_core.pipeline import Pipeline
from melodygan_core.release import styles
from melodygan_core.services.continuation import filled_wav
from melodygan_core.services.editing import FADE_S, crossfade
from melodygan_core.services.reconstruct import reconstruct_wav
from melodygan_core.services.sound import Samples, log_mel_of

# Known before and behind what is made, and what is made.
CONTEXT_S, CONTINUED_S, GAP_S = 8.0, 6.0, 2.0
# On each side of a join.
CLICK_S, BESIDE_S, TEMPO_S = 0.03, 0.5, 6.0
# Windows that are compared lie around the middle of a gap.
WINDOW_S = 3.0

Steps = dict[str, list[float]]


def steps_at(wav: Samples, join: int, feature: FeatureConfig) -> dict[str, float]:
    """How far the sound behind a sample differs from the sound before it.

    Args:
        wav: (channels, samples), at least TEMPO_S on both sides.
        join: The sample.
        feature: Rate and bands.

    Returns:
        `level, 30 ms` and `level, 0.5 s`: in dB; `spectrum`: RMS over mel bands of the difference of the mean
        log-mel of 0.5 s at equal level, in dB; `tempo`: in octaves, up to the next octave, 0 to 0.5.
    """
    rate = feature.sample_rate

    def sides(length_s: float) -> tuple[Samples, Samples]:
        length = round(length_s * rate)
        return wav[:, join - length : join], wav[:, join : join + length]

    figures = {}
    for length_s, name in ((CLICK_S, "level, 30 ms"), (BESIDE_S, "level, 0.5 s")):
        before, after = sides(length_s)
        figures[name] = abs(rms_db(after) - rms_db(before))
    bands = [log_mel_of(side, feature).numpy().mean(axis=0) for side in sides(BESIDE_S)]
    change = np.subtract(*bands)
    figures["spectrum"] = float(np.std(change)) * 20 / np.log(10)
    sounds = [music_sound(side, rate) for side in sides(TEMPO_S)]
    if not any(sound.silent for sound in sounds):
        octaves = float(np.log2(tempo_bpm(sounds[0]) / tempo_bpm(sounds[1])))
        figures["tempo"] = abs(octaves - round(octaves))
    return figures


def collect(steps: Steps, figures: dict[str, float]) -> None:
    """Appends each figure to its list."""
    for name, value in figures.items():
        steps.setdefault(name, []).append(value)


def seam_rows(real: Steps, made: dict[str, Steps]) -> list[list[str | float]]:
    """Per measure: real music's median and 95th percentile; of each set the median and the share beyond."""
    rows: list[list[str | float]] = []
    for name, values in real.items():
        limit = float(np.percentile(values, 95))
        row: list[str | float] = [name, float(np.median(values)), limit]
        for steps in made.values():
            beyond = float(np.mean(np.array(steps[name]) > limit))
            row += [float(np.median(steps[name])), f"{100 * beyond:.0f} %"]
        rows.append(row)
    return rows


def joined_to(first: Samples, second: Samples, rate: int) -> Samples:
    """Another track behind a sound, cross-faded as `continue` does: what a seam without a model is."""
    fade = round(FADE_S * rate)
    middle = crossfade(first[:, -fade:], second[:, :fade])
    return np.concatenate([first[:, :-fade], middle, second[:, fade:]], axis=1)


def seams(pipeline: Pipeline, tracks: Sequence[Track], count: int, at_random: int, context_s: float) -> str:
    """The table of the steps."""
    feature, rng = pipeline.feature, np.random.default_rng(0)
    rate = feature.sample_rate
    real: Steps = {}
    made: dict[str, Steps] = {"continued": {}, "another track": {}}
    start = round(context_s * rate)
    stop = start + round(CONTINUED_S * rate)
    previous: Samples | None = None
    for number, track in enumerate(tqdm(tracks, desc="seams")):
        for wav in random_excerpts(track, context_s + CONTINUED_S, at_random, rng, feature):
            collect(real, steps_at(wav, start, feature))
        for index, wav in enumerate(random_excerpts(track, context_s + CONTINUED_S, count, rng, feature)):
            known = wav[:, :start]
            continued, _ = filled_wav(pipeline, known, start, stop, EditConfig(seed=number), index)
            collect(made["continued"], steps_at(continued, start, feature))
            if previous is not None:
                other = previous[:, : stop - start + round(FADE_S * rate)]
                collect(made["another track"], steps_at(joined_to(known, other, rate), start, feature))
            previous = wav
    header = ["step", "real, median", "real, 95 %"]
    header += [cell for name in made for cell in (f"{name}, median", "beyond 95 % of real")]
    joins = {name: len(next(iter(steps.values()), [])) for name, steps in {"real": real, **made}.items()}
    return f"{table(header, seam_rows(real, made))}\n\njoins: {joins}"


def faded_gap(wav: Samples, start: int, stop: int) -> Samples:
    """The sound with a part in which what lies before it fades into what lies behind it, at constant power."""
    size = stop - start
    out = wav.copy()
    out[:, start:stop] = crossfade(wav[:, start - size : start], wav[:, stop : stop + size])
    return out


def through_codec(pipeline: Pipeline, wav: Samples, start: int, stop: int) -> Samples:
    """The sound with a part as codec and vocoder keep it, at its level and cross-faded."""
    rate = pipeline.feature.sample_rate
    fade = round(FADE_S * rate)
    through = reconstruct_wav(pipeline, wav)
    through = np.repeat(through, len(wav), axis=0) if len(through) < len(wav) else through
    through = through * np.float32(10 ** ((rms_db(wav) - rms_db(through)) / 20))
    out = wav.copy()
    out[:, start:stop] = through[:, start:stop]
    out[:, start - fade : start] = crossfade(wav[:, start - fade : start], through[:, start - fade : start])
    out[:, stop : stop + fade] = crossfade(through[:, stop : stop + fade], wav[:, stop : stop + fade])
    return out


def gaps(pipeline: Pipeline, tracks: Sequence[Track], count: int, at_random: int, context_s: float) -> str:
    """The table of the windows around gaps: KAD by track to random windows, and distance to the real window."""
    feature, rng = pipeline.feature, np.random.default_rng(1)
    rate = feature.sample_rate
    start = round(context_s * rate)
    stop = start + round(GAP_S * rate)
    length_s = 2 * context_s + GAP_S
    fills: dict[str, Callable[[Samples, int, int], Samples]] = {
        "real": lambda wav, number, index: wav,
        "codec": lambda wav, number, index: through_codec(pipeline, wav, start, stop),
        "inpainted": lambda wav, number, index: filled_wav(
            pipeline, wav, start, stop, EditConfig(seed=number), index
        )[0],
        "cross-faded": lambda wav, number, index: faded_gap(wav, start, stop),
    }
    reference: list[NDArray[np.float64]] = []
    reference_tracks: list[int] = []
    found: dict[str, list[NDArray[np.float64]]] = {name: [] for name in fills}
    gap_tracks: list[int] = []

    def window(wav: Samples) -> NDArray[np.float64]:
        size, middle = round(WINDOW_S * rate), wav.shape[1] // 2
        return styles.embed(log_mel_of(wav[:, middle - size // 2 : middle + size // 2], feature), feature)[0]

    for number, track in enumerate(tqdm(tracks, desc="gaps")):
        for wav in random_excerpts(track, 2 * WINDOW_S, at_random, rng, feature):
            reference.append(window(wav))
            reference_tracks.append(number)
        for index, wav in enumerate(random_excerpts(track, length_s, count, rng, feature)):
            gap_tracks.append(number)
            for name, fill in fills.items():
                found[name].append(window(fill(wav, number, index)))
    rows: list[list[str | float]] = []
    few = metrics.too_few_groups(reference_tracks, gap_tracks)
    for name, embeddings in found.items():
        sets = np.stack(reference), np.stack(embeddings), reference_tracks, gap_tracks
        distance = float(np.linalg.norm(np.stack(embeddings) - np.stack(found["real"]), axis=1).mean())
        kad = "-" if few else metrics.kad(*sets, shared_groups=True)
        rows.append([name, str(len(embeddings)), kad, distance])
    made = table(["gap", "windows", "KAD by track", "distance to the real window"], rows)
    return f"{made}\n\n{len(set(gap_tracks))} tracks{f': {few}' if few else ''}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("store", type=Path)
    parser.add_argument("release", type=Path)
    parser.add_argument("--tracks", type=int, default=12)
    parser.add_argument("--count", type=int, default=2, help="continuations and gaps of each track")
    parser.add_argument("--random", type=int, default=12, help="random places of real music of each track")
    help_text = f"seconds that are known on each side, {TEMPO_S:g} or more"
    parser.add_argument("--context", type=float, default=CONTEXT_S, help=help_text)
    given = parser.parse_args()
    pipeline = release.load(given.release).pipeline
    shortest_s = 2 * given.context + GAP_S + 1
    tracks = evenly(tracks_of(given.store, shortest_s, UNSEEN), given.tracks)
    if len(tracks) < 2:
        raise SystemExit(f"STORE must have two or more unseen tracks of {shortest_s:g} s, got {len(tracks)}")
    print(seams(pipeline, tracks, given.count, given.random, given.context), flush=True)
    print(f"\n{gaps(pipeline, tracks, given.count, given.random, given.context)}")


if __name__ == "__main__":
    main()
