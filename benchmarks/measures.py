"""The measures of music on a songbook: errors against known notes, and what they tell from disorder.

    python -m benchmarks.songbook SONGBOOK --hours 2
    python -m benchmarks.measures SONGBOOK transcription
    python -m benchmarks.measures SONGBOOK controls
    python -m benchmarks.measures SONGBOOK separation

`transcription` and part of `controls` need basic-pitch (`uv pip install --no-deps basic-pitch`). One track of
each tune is taken, 15 s from its middle. The tables are those of docs/results.md, "Melody and metre".
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import click
import numpy as np
import soxr
from numpy.typing import NDArray
from scipy.stats import spearmanr
from tqdm import tqdm

from melodygan_core import audio
from melodygan_core.catalogue.sources import read_sources
from melodygan_core.config import SeparationConfig
from melodygan_core.metrics import music
from melodygan_core.metrics.music import Note, harmony, measures, rhythm
from melodygan_core.separation.audio_separator import Separator

EXCERPT_S, ONSET_S = 15.0, 0.05
RATE = 22_050


class Excerpt(NamedTuple):
    """15 s of a track: its facts, where the excerpt begins, and how to read its stems."""

    facts: dict[str, Any]
    start_s: float
    root: Path

    def wav(self, stem: str = "mix", rate: int = RATE) -> NDArray[np.float32]:
        """(channels, samples) of a stem."""
        name = self.facts["track"]
        folder = self.root / "tracks" if stem == "mix" else self.root / "stems" / name
        wav, from_rate = audio.read_wav(folder / f"{name if stem == 'mix' else stem}.flac")
        first = round(self.start_s * from_rate)
        return audio.resample(wav[:, first : first + round(EXCERPT_S * from_rate)], from_rate, rate)

    def notes(self, *stems: str) -> list[Note]:
        """Known notes of some pitched stems that begin in the excerpt, in its own time."""
        found = [n for s in stems for n in self.facts["stems"][s]["notes"]]
        shifted = [Note(a - self.start_s, b - self.start_s, p, v / 127) for a, b, p, v in found]
        return sorted(n for n in shifted if 0 <= n.start_s < EXCERPT_S - 0.1)


PITCHED = ("melody", "accompaniment", "bass")


def excerpts(root: Path, most: int, number: int = 0) -> list[Excerpt]:
    """Returns one excerpt per tune of sources.yaml, of one arrangement of each, evenly over all tunes."""
    names = [Path(source.path).stem for source in read_sources(root / "sources.yaml")]
    first = [name for name in names if name.endswith(f"-{number}")]
    picked = np.unique(np.linspace(0, len(first) - 1, min(most, len(first))).round().astype(int))
    found = []
    for k in picked:
        facts = json.loads((root / "notes" / f"{first[k]}.json").read_text("utf-8"))
        found.append(Excerpt(facts, max(0.0, (facts["duration_s"] - EXCERPT_S) / 2), root))
    return found


def matched(found: Sequence[float], true: Sequence[float]) -> int:
    """Returns the largest number of pairs of sorted times at most 50 ms apart, each time used in one pair."""
    count = i = j = 0
    while i < len(found) and j < len(true):
        if abs(found[i] - true[j]) <= ONSET_S:
            count, i, j = count + 1, i + 1, j + 1
        elif found[i] < true[j]:
            i += 1
        else:
            j += 1
    return count


def note_matches(found: Sequence[Note], true: Sequence[Note], octaves: bool = False) -> int:
    """Returns the number of notes found with their onset within 50 ms and the pitch (class, with `octaves`)."""

    def onsets(notes: Sequence[Note]) -> dict[int, list[float]]:
        by_pitch: dict[int, list[float]] = {}
        for note in sorted(notes):
            by_pitch.setdefault(note.pitch % 12 if octaves else note.pitch, []).append(note.start_s)
        return by_pitch

    a, b = onsets(found), onsets(true)
    return sum(matched(a[pitch], b[pitch]) for pitch in a.keys() & b.keys())


def onset_times(notes: Sequence[Note]) -> list[float]:
    """Returns the times at which at least one note begins."""
    times = np.unique([n.start_s for n in notes])
    return times[np.concatenate([[True], np.diff(times) >= 0.04])].tolist() if len(times) else []


def scores(hits: int, found: int, true: int) -> tuple[float, float, float]:
    """Returns precision, recall and F."""
    precision, recall = hits / max(1, found), hits / max(1, true)
    return precision, recall, 2 * precision * recall / max(1e-9, precision + recall)


def transcription(items: Sequence[Excerpt]) -> None:
    """Prints the error of the transcription against the known notes."""
    rows: dict[str, list[tuple[float, float, float]]] = {}
    known: dict[str, list[tuple[float, float]]] = {}
    for item in tqdm(items, desc="transcription", unit="excerpt"):
        for stem in ("melody", "mix"):
            sound = music.music_sound(item.wav(stem), RATE)
            found = music.transcribe(sound)
            true = item.notes(*(PITCHED if stem == "mix" else ("melody",)))
            pairs = {
                "onset": (
                    matched(onset_times(found), onset_times(true)),
                    onset_times(found),
                    onset_times(true),
                ),
                "onset and pitch": (note_matches(found, true), found, true),
                "onset and pitch class": (note_matches(found, true, octaves=True), found, true),
            }
            if stem == "mix":
                top, melody = music.melody_line(found), item.notes("melody")
                pairs["melody line, onset and pitch"] = (note_matches(top, melody), top, melody)
                of_true = music.note_measures(true, item.facts["tempo_bpm"])
                of_found = music.note_measures(found, rhythm.tempo_bpm(sound))
                for name, value in of_true.items():
                    known.setdefault(name, []).append((value, of_found[name]))
            for name, (hits, a, b) in pairs.items():
                rows.setdefault(f"{stem} | {name}", []).append(scores(hits, len(a), len(b)))
    print(f"{len(items)} excerpts of {EXCERPT_S:g} s, onsets within {1000 * ONSET_S:g} ms; means\n")
    print("| sound | what | precision | recall | F |\n|---|---|---|---|---|")
    for name, values in rows.items():
        print(f"| {name} | " + " | ".join(f"{v:.2f}" for v in np.mean(values, axis=0)) + " |")
    print("\n| measure | known notes, median | transcribed mix, median | rank correlation |\n|---|---|---|---|")
    for name, pairs in known.items():
        a, b = np.array(pairs).T
        correlation = float(spearmanr(a, b).statistic)
        print(f"| {name} | {np.median(a):.2f} | {np.median(b):.2f} | {correlation:.2f} |")


def transposed_pieces(wav: NDArray[np.float32], seed: int) -> NDArray[np.float32]:
    """Returns mono sound cut into pieces of 0.2 to 0.6 s, each at -6 to 6 semitones, in their order."""
    rng = np.random.default_rng(seed)
    pieces, at = [], 0
    while at < len(wav):
        size = int(rng.integers(round(0.2 * RATE), round(0.6 * RATE)))
        factor = 2 ** (rng.integers(-6, 7) / 12)
        # Played faster or slower, then cut to its time: a piece that is too short is repeated.
        played = soxr.resample(wav[at : at + size], RATE, RATE / factor)
        pieces.append(np.resize(played, len(wav[at : at + size])).astype(np.float32))
        at += size
    return np.concatenate(pieces)


def halves_ks(values: Sequence[float], repetitions: int = 100) -> float:
    """Returns the mean KS distance of two random halves of a sample."""
    rng, found = np.random.default_rng(0), np.asarray(values)
    mixed = [rng.permutation(found) for _ in range(repetitions)]
    return float(np.mean([music.ks_distance(m[::2], m[1::2]) for m in mixed]))


def controls(items: Sequence[Excerpt]) -> None:
    """Prints how well each measure tells tunes from shuffled and transposed ones, and tempo and key found."""
    wavs = {"real": [audio.to_mono(item.wav()) for item in items]}
    wavs["shuffled"] = [music.time_shuffled(w, RATE, k) for k, w in enumerate(wavs["real"])]
    wavs["transposed"] = [transposed_pieces(w, k) for k, w in enumerate(wavs["real"])]
    groups = [item.facts["tune"]["tune_id"] for item in items]
    sets = {}
    for name, sounds in wavs.items():
        progress = tqdm(sounds, desc=name, unit="excerpt")
        sets[name] = music.MeasuredSet([measures.measure(w, RATE) for w in progress], groups)
    values = music.values_of(sets, "real")
    print(
        f"{len(items)} excerpts of {EXCERPT_S:g} s, one per tune; median; AUC: 0.5 tells nothing, 0 and 1 all\n"
    )
    print("| measure | real | shuffled | AUC | d | KS | transposed | AUC | KS | KS of two halves of real |")
    print("|---|---|---|---|---|---|---|---|---|---|")
    for name in music.MEASURES:
        real, cells = values["real"][name], []
        if not real:
            print(f"| {name} | {music.NOT_INSTALLED} |")
            continue
        for other in ("shuffled", "transposed"):
            found = values[other][name]
            cells += [f"{np.median(found):.2f}", f"{music.auc(real, found):.2f}"]
            cells += [f"{music.effect_size(real, found):.1f}"] * (other == "shuffled")
            cells.append(f"{music.ks_distance(real, found):.2f}")
        print(f"| {name} | {np.median(real):.2f} | " + " | ".join(cells) + f" | {halves_ks(real):.2f} |")
    _tempo_and_key(items, wavs["real"])


def _tempo_and_key(items: Sequence[Excerpt], wavs: Sequence[NDArray[np.float32]]) -> None:
    tempo, octave, key, fifth = [], [], [], []
    for item, wav in zip(items, wavs, strict=True):
        sound, facts = music.music_sound(wav, RATE), item.facts
        ratio = rhythm.tempo_bpm(sound) / facts["tempo_bpm"]
        tempo.append(abs(ratio - 1) < 0.03)
        octave.append(min(abs(ratio / r - 1) for r in (1, 2, 0.5, 3, 1 / 3, 1.5, 2 / 3)) < 0.03)
        true, found = f"{harmony.NAMES[facts['tonic']]} {facts['mode']}", harmony.key_name(sound)
        key.append(found == true)
        fifth.append(found in _near(facts["tonic"], facts["mode"]))
    print(f"\ntempo within 3 %: {np.mean(tempo):.2f}; or at a factor of 2, 3 or 1.5: {np.mean(octave):.2f}")
    print(f"key: {np.mean(key):.2f}; or a fifth away, relative or parallel: {np.mean(fifth):.2f}")


def _near(tonic: int, mode: str) -> set[str]:
    other = "minor" if mode == "major" else "major"
    relative = tonic + (9 if mode == "major" else 3)
    near = [(tonic, mode), (tonic + 7, mode), (tonic + 5, mode), (tonic, other), (relative, other)]
    return {f"{harmony.NAMES[t % 12]} {m}" for t, m in near}


def si_sdr_db(estimate: NDArray[np.float32], reference: NDArray[np.float32]) -> float:
    """Scale-invariant signal-to-distortion ratio (arXiv 1811.02508) of two wavs of one shape, in dB."""
    a, b = estimate.astype(np.float64).ravel(), reference.astype(np.float64).ravel()
    target = b * (a @ b) / (b @ b)
    return float(10 * np.log10((target @ target) / ((a - target) @ (a - target))))


def separation(items: Sequence[Excerpt]) -> None:
    """Prints the SI-SDR gain of `centre`, with the melody as the voice."""
    gains: dict[str, list[float]] = {}
    with tempfile.TemporaryDirectory() as work:
        model = Separator(SeparationConfig(model="centre", device="cpu", model_dir=work))
        model.load()
        for item in tqdm(items, desc="separation", unit="excerpt"):
            mix, melody = item.wav("mix", 44_100), item.wav("melody", 44_100)
            if np.abs(melody).max() == 0:
                continue
            # The model takes a peak of 1; the ratio does not depend on the level.
            _, found = model.run(mix / np.abs(mix).max(), Path(work))
            gain = si_sdr_db(found, melody) - si_sdr_db(mix, melody)
            tags = item.facts["tags"]
            for tag in ("all", *(t for t in tags if t in ("wide", "narrow", "drums", "no-drums"))):
                gains.setdefault(tag, []).append(gain)
    print("| tracks | n | mean SI-SDR gain of the melody, dB | lowest |\n|---|---|---|---|")
    for tag, values in gains.items():
        print(f"| {tag} | {len(values)} | {np.mean(values):.1f} | {min(values):.1f} |")


PARTS = {"transcription": transcription, "controls": controls, "separation": separation}


@click.command(help="Print tables of the measures of music on SONGBOOK.")
@click.argument("songbook", type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.argument("part", type=click.Choice(list(PARTS)))
@click.option("--tracks", type=click.IntRange(10), default=60, show_default=True, help="Most tracks.")
@click.option("--arrangement", type=click.IntRange(0), default=0, show_default=True, help="Of each tune.")
def main(songbook: Path, part: str, tracks: int, arrangement: int) -> None:
    if not (songbook / "sources.yaml").is_file():
        raise click.ClickException(
            f"{songbook} must be a songbook with a sources.yaml: python -m benchmarks.songbook"
        )
    if part == "transcription" and music.model_path() is None:
        raise click.ClickException(music.NOT_INSTALLED)
    PARTS[part](excerpts(songbook, tracks, arrangement))


if __name__ == "__main__":
    main()
