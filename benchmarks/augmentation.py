"""Whether `augment` is useful: a small classifier, trained with and without copies of its examples.

    python -m benchmarks.augmentation DATASET RELEASE [--labels label|tags|track] [--examples 5 20] [--seeds 5]

DATASET is a labelled folder or a store. `tags` are the classes given by --tags, and a sound must have exactly
one of them; `track` asks which track an excerpt is of, for music without tags. Test excerpts are of other
sounds than the examples, for `track` of the other half of each track. All make the same number of copies.
audiomentations is in the dependency group `benchmarks`.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from tqdm import tqdm

from benchmarks.excerpts import MIN_RMS_DB, Track, rms_db, table, tracks_of
from melodygan_core import release
from melodygan_core.config import FeatureConfig
from melodygan_core.pipeline import Pipeline
from melodygan_core.release import styles
from melodygan_core.services.augmented_sound import flow_variation, variation
from melodygan_core.services.sound import Samples, log_mel_of

EXCERPT_S = 3.0
# Test excerpts of each class.
TEST_EXCERPTS = 12
# Frames of log-mel that become one.
POOLED = 4
STEPS, BATCH_SIZE, LEARNING_RATE = 150, 32, 3e-3

# (sound, its class's sounds, random numbers) -> a copy
Augment = Callable[[Samples, list[Samples], np.random.Generator], Samples]


@dataclass(frozen=True)
class Excerpts:
    """Labelled excerpts: sounds of each class that examples are drawn of, and sounds to test with."""

    train: list[list[Samples]]
    test: list[list[Samples]]


def classes_of(tracks: list[Track], labels: str, tags: list[str], at_most: int) -> dict[str, list[Track]]:
    """Class to its tracks, the classes with most tracks first.

    Args:
        tracks: Of the set.
        labels: `label`, `tags` or `track`.
        tags: That are classes.
        at_most: Classes.
    """
    found: dict[str, list[Track]] = {}
    for track in tracks:
        own = track.item.labels
        if labels == "tags":
            names = [t for t in own.get("tags", "").split("; ") if t in tags]
        else:
            names = [track.item.name] if labels == "track" else [own[labels]] if own.get(labels) else []
        if len(names) == 1:
            found.setdefault(names[0], []).append(track)
    largest = sorted(found, key=lambda name: (-len(found[name]), name))[:at_most]
    return {name: found[name] for name in largest}


def excerpts_of(classes: dict[str, list[Track]], count: int, by_half: bool, feature: FeatureConfig) -> Excerpts:
    """Excerpts of every class: `count` to draw examples of, TEST_EXCERPTS to test with.

    Args:
        classes: Class to its tracks.
        count: Of each class.
        by_half: Test with the second halves of the tracks, not with every other track.
        feature: Of the sounds.
    """
    rng = np.random.default_rng(0)

    def drawn(tracks: list[Track], wanted: int, low: float, high: float) -> list[Samples]:
        made: list[Samples] = []
        for attempt in range(4 * wanted):
            track = tracks[attempt % len(tracks)]
            start_s = rng.uniform(low * track.duration_s, max(0.0, high * track.duration_s - EXCERPT_S))
            wav = track.excerpt(start_s, EXCERPT_S, feature)
            if rms_db(wav) > MIN_RMS_DB:
                made.append(wav)
            if len(made) == wanted:
                break
        return made

    train, test = [], []
    for tracks in classes.values():
        of_train, of_test = (tracks, tracks) if by_half else (tracks[::2], tracks[1::2])
        train.append(drawn(of_train, count, 0.0, 0.5 if by_half else 1.0))
        test.append(drawn(of_test, TEST_EXCERPTS, 0.5 if by_half else 0.0, 1.0))
    return Excerpts(train, test)


def augmentations(pipeline: Pipeline, strength: float) -> dict[str, Augment]:
    """Name to how a copy is made, by what the package has and by audiomentations."""
    from audiomentations import AddGaussianSNR, Compose, Gain, PitchShift, SevenBandParametricEQ, TimeStretch

    feature = pipeline.feature
    chain = Compose(
        [
            Gain(min_gain_db=-6, max_gain_db=6, p=0.5),
            SevenBandParametricEQ(min_gain_db=-8, max_gain_db=8, p=0.5),
            PitchShift(min_semitones=-1, max_semitones=1, p=0.5),
            TimeStretch(min_rate=0.9, max_rate=1.1, p=0.5),
            AddGaussianSNR(min_snr_db=15, max_snr_db=40, p=0.3),
        ]
    )

    def eq(wav: Samples, others: list[Samples], rng: np.random.Generator) -> Samples:
        other = others[int(rng.integers(len(others)))]
        style = styles.style_of(log_mel_of(other, feature), feature)
        return variation(pipeline, wav, style, strength, rng)

    def flow(wav: Samples, others: list[Samples], rng: np.random.Generator) -> Samples:
        return flow_variation(pipeline, wav, strength, rng)

    def peers(wav: Samples, others: list[Samples], rng: np.random.Generator) -> Samples:
        return np.asarray(chain(wav, sample_rate=feature.sample_rate), np.float32)

    return {"augment, eq": eq, "augment, flow": flow, "audiomentations": peers}


def pooled(wav: Samples, feature: FeatureConfig) -> Tensor:
    """(channels, samples) -> log-mel (n_mels, frames / POOLED) of EXCERPT_S."""
    frames = round(EXCERPT_S * feature.frame_rate) // POOLED * POOLED
    log_mel = log_mel_of(wav, feature).T
    log_mel = nn.functional.pad(log_mel, (0, max(0, frames - log_mel.shape[1])), mode="replicate")[:, :frames]
    return log_mel.unflatten(1, (-1, POOLED)).mean(dim=2)


def accuracy(train: tuple[Tensor, Tensor], test: tuple[Tensor, Tensor], seed: int) -> float:
    """Trains a convolutional network of some 20,000 weights and returns its share of right answers.

    Args:
        train: Inputs (n, n_mels, frames) and classes (n,).
        test: The same of other sounds.
        seed: Of weights, batches and dropout.
    """
    torch.manual_seed(seed)
    inputs, classes = train
    mean, std = inputs.mean(dim=(0, 2), keepdim=True), inputs.std(dim=(0, 2), keepdim=True).clamp_min(1e-3)
    model = nn.Sequential(
        nn.Conv1d(inputs.shape[1], 32, 5, padding=2),
        nn.GELU(),
        nn.AvgPool1d(2),
        nn.Conv1d(32, 48, 5, padding=2),
        nn.GELU(),
        nn.AdaptiveAvgPool1d(1),
        nn.Flatten(),
        nn.Dropout(0.3),
        nn.Linear(48, int(classes.max()) + 1),
    )
    optimizer = torch.optim.AdamW(model.parameters(), lr=LEARNING_RATE, weight_decay=0.01)
    for _ in range(STEPS):
        rows = torch.randint(len(inputs), (BATCH_SIZE,))
        loss = nn.functional.cross_entropy(model((inputs[rows] - mean) / std), classes[rows])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    model.eval()
    with torch.no_grad():
        answers = model((test[0] - mean) / std).argmax(dim=1)
    return float((answers == test[1]).float().mean())


def stacked(by_class: list[list[Tensor]]) -> tuple[Tensor, Tensor]:
    """Inputs of each class -> all of them and their classes."""
    classes = torch.cat([torch.full((len(rows),), k) for k, rows in enumerate(by_class)])
    return torch.stack([row for rows in by_class for row in rows]), classes


def copies_of(
    augment: Augment, excerpts: Excerpts, count: int, feature: FeatureConfig, name: str
) -> list[list[list[Tensor]]]:
    """Class, excerpt, copy -> input."""
    made = []
    for label, wavs in enumerate(tqdm(excerpts.train, desc=name)):
        of_class = []
        for index, wav in enumerate(wavs):
            others = [w for k, w in enumerate(wavs) if k != index] or [wav]
            rngs = [np.random.default_rng((label, index, copy)) for copy in range(count)]
            of_class.append([pooled(augment(wav, others, rng), feature) for rng in rngs])
        made.append(of_class)
    return made


def scores_of(
    originals: list[list[Tensor]],
    copies: list[list[list[Tensor]]],
    test: tuple[Tensor, Tensor],
    examples: int,
    seeds: int,
) -> NDArray[np.float64]:
    """Accuracies (seeds,); each seed draws its own examples, the same ones for all augmentations."""
    scores = []
    for seed in range(seeds):
        rng = np.random.default_rng(seed)
        inputs: list[list[Tensor]] = []
        for own, of_class in zip(originals, copies, strict=True):
            chosen = rng.permutation(len(own))[:examples]
            inputs.append([x for k in chosen for x in (own[k], *of_class[k])])
        scores.append(accuracy(stacked(inputs), test, seed))
    return np.array(scores)


def arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("dataset", type=Path)
    parser.add_argument("release", type=Path)
    parser.add_argument("--labels", default="label", help="column of a folder, or tags or track of a store")
    parser.add_argument("--tags", nargs="+", default=[], help="tags that are classes")
    parser.add_argument("--classes", type=int, default=8, help="most classes")
    parser.add_argument("--examples", type=int, nargs="+", default=[5, 20], help="of each class")
    parser.add_argument("--copies", type=int, default=3)
    parser.add_argument("--strength", type=float, default=0.5)
    parser.add_argument("--seeds", type=int, default=5)
    return parser.parse_args()


def main() -> None:
    given = arguments()
    pipeline = release.load(given.release).pipeline
    feature, by_half = pipeline.feature, given.labels == "track"
    tracks = tracks_of(given.dataset, (4 if by_half else 1) * EXCERPT_S)
    classes = classes_of(tracks, given.labels, given.tags, given.classes)
    if len(classes) < 2 or (not by_half and min(map(len, classes.values())) < 2):
        raise SystemExit(f"DATASET must have two or more classes of two or more sounds, got {list(classes)}")
    # A pool that is half as large again as what a seed draws of it.
    excerpts = excerpts_of(classes, max(given.examples) * 3 // 2, by_half, feature)
    originals = [[pooled(w, feature) for w in wavs] for wavs in excerpts.train]
    test = stacked([[pooled(w, feature) for w in wavs] for wavs in excerpts.test])
    copies: dict[str, list[list[list[Tensor]]]] = {"none": [[[] for _ in rows] for rows in originals]}
    for name, augment in augmentations(pipeline, given.strength).items():
        copies[name] = copies_of(augment, excerpts, given.copies, feature, name)
    rows: list[list[str | float]] = []
    for examples in given.examples:
        plain = np.zeros(given.seeds)
        for name, made in copies.items():
            scores = scores_of(originals, made, test, examples, given.seeds)
            plain = scores if name == "none" else plain
            gain = scores - plain
            error = float(gain.std(ddof=1) / np.sqrt(len(gain))) if len(gain) > 1 else float("nan")
            rows.append([name, str(examples), float(scores.mean()), f"{gain.mean():+.3f} +- {error:.3f}"])
    header = ["copies", "examples of each class", "accuracy", "gain over none, by seed"]
    print(f"{len(classes)} classes ({', '.join(classes)}), {len(test[1])} test excerpts, {given.copies} copies")
    print(table(header, rows))


if __name__ == "__main__":
    main()
