"""Test tracks as they are, through vocoder and codecs; their stems; what lies between two of them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor
from tqdm.auto import tqdm

from melodygan_core import audio
from melodygan_core.codec import Features
from melodygan_core.config import STEMS
from melodygan_core.dataset import Dataset, Rows
from melodygan_core.gallery import samples
from melodygan_core.gallery.sounds import EXAMPLE_S, Excerpt, Folder, GalleryEntry, read_excerpt
from melodygan_core.pipeline import Pipeline
from melodygan_core.release import styles
from melodygan_core.services.interpolate import interpolate_wavs
from melodygan_core.services.sound import log_mel_of
from melodygan_core.services.transfer import transfer_wav
from melodygan_core.storage import Store
from melodygan_core.vocoder import load_vocoder

EXAMPLES = 4
# Of the sounds between two tracks, both ends included.
_STEPS = ("start", "a quarter of the way", "half way", "three quarters of the way", "end")

# Of a sound through a part of the chain: the part of its file's name, and the line below its caption.
_KINDS = (("codec", "what the codec keeps of it"), ("vocoder", "the codec left out"))

Chain = Callable[[Features], Tensor]


def excerpts(store: Store, dataset: Dataset, stem: str) -> list[tuple[Excerpt, Rows]]:
    """Returns an excerpt from the middle of each of the first EXAMPLES test tracks, and its segments."""
    feature = dataset.feature
    rows, length = dataset.windows("test", stem, EXAMPLE_S - feature.segment_s, 10_000)
    position = dataset.start(rows)
    found = []
    for track in np.unique(rows.track)[:EXAMPLES]:
        of_track = np.flatnonzero(rows.track == track)
        first = of_track[(len(of_track) // length // 2) * length]
        excerpt = read_excerpt(store, dataset, dataset.tracks[track], stem, position[first] * feature.segment_s)
        found.append((excerpt, rows.take(np.arange(first, first + length))))
    return found


def compared(
    dataset: Dataset,
    found: Sequence[tuple[Excerpt, Rows]],
    chains: tuple[dict[str, Chain], dict[str, Chain]],
    made: dict[str, list[dict[str, Any]]],
    out: Folder,
) -> list[dict[str, Any]]:
    """Writes a row per excerpt.

    Args:
        dataset: Of the excerpts.
        found: See `excerpts`.
        chains: See `chains_of`.
        made: See `samples.generated`; each row gets the next of each pipeline, nearest first.
        out: Gets sounds and pictures.

    Returns:
        Per excerpt: `title`, `licence`, `group` of its sounds, `sounds` (real, each codec, a new piece of each
        pipeline), and `parts` (vocoders).
    """
    rows = []
    for k, (excerpt, segments) in enumerate(tqdm(found, desc="examples", unit="track")):
        track_id, title = excerpt.track["track_id"], excerpt.title
        real = out.sound(
            f"{track_id}-real",
            "real",
            excerpt.wav,
            excerpt.sample_rate,
            title=f"real: {title}",
            note="a test track, as it is",
        )
        features = dataset.columns(segments, tuple(dataset.feature.columns))
        joined = {name: x.flatten(0, 1)[None] for name, x in features.items()}
        heard: list[list[dict[str, Any]]] = []
        for (kind, note), of_kind in zip(_KINDS, chains, strict=True):
            heard.append([])
            for i, (label, chain) in enumerate(of_kind.items()):
                wav = chain(joined)[0].numpy()
                wav = wav * np.float32(min(1.0, 0.99 / max(1e-9, float(np.abs(wav).max()))))
                name, rate = f"{track_id}-{kind}-{i}", dataset.feature.sample_rate
                heard[-1].append(out.sound(name, label, wav, rate, title=f"{label}: {title}", note=note))
        new = [
            samples.labelled(samples.nearest(sounds)[k % len(sounds)], f"new, by {name}")
            for name, sounds in made.items()
        ]
        row = {"title": title, "licence": excerpt.licence, "sounds": [real, *heard[0], *new]}
        rows.append(row | {"parts": heard[1], "group": f"row-{k}"})
    return rows


def chains_of(
    entries: Sequence[GalleryEntry], pipelines: Sequence[Pipeline]
) -> tuple[dict[str, Chain], dict[str, Chain]]:
    """Returns what a sound goes through: each codec with the vocoder, and each vocoder on the true spectrum.

    Both are label -> (features -> wav (1, channels, samples)).
    """
    first = pipelines[0]
    griffin_lim = load_vocoder(
        "griffin_lim", first.feature, None, entries[0].pipeline.griffin_lim, first.device
    )

    def mono(vocode: Callable[[Tensor, int], Tensor]) -> Chain:
        return lambda features: vocode(features[first.feature.spectrum].transpose(1, 2), 0)[:, None]

    def through(pipeline: Pipeline) -> Chain:
        return lambda features: pipeline.sound(pipeline.reconstruct(features))

    vocoders = {"true spectrum, Griffin-Lim": mono(griffin_lim)}
    if entries[0].pipeline.vocoder_kind != "griffin_lim":
        vocoders["true spectrum, vocoder"] = mono(first.vocode)
    codecs: dict[str, Chain] = {}
    for entry, pipeline in zip(entries, pipelines, strict=True):
        codecs.setdefault(f"{entry.pipeline.codec.group} codec, vocoder", through(pipeline))
    return codecs, vocoders


def separated(store: Store, dataset: Dataset, out: Folder) -> dict[str, Any]:
    """Writes the stems of a test track."""
    track = next(t for t in dataset.tracks if t["split"] == "test")
    middle = max(0.0, track["duration_s"] / 2 - EXAMPLE_S / 2)
    sounds = []
    for stem in reversed(STEMS):
        excerpt = read_excerpt(store, dataset, track, stem, middle)
        title = f"{stem}: {excerpt.title}"
        sounds.append(out.sound(f"stems-{stem}", stem, excerpt.wav, excerpt.sample_rate, title=title))
    return {"title": excerpt.title, "licence": excerpt.licence, "sounds": sounds}


def between(pipeline: Pipeline, first: Excerpt, second: Excerpt, out: Folder) -> list[dict[str, Any]]:
    """Writes five sounds from one excerpt to another, linear in the latents, all as loud as the first."""
    start, end = (excerpt.at(pipeline.feature) for excerpt in (first, second))
    sounds = []
    for k, (label, wav) in enumerate(
        zip(_STEPS, interpolate_wavs(pipeline, start, end, len(_STEPS)), strict=True)
    ):
        title = f"{label}: {first.title} to {second.title}"
        note = {0: first.title, len(_STEPS) - 1: second.title}.get(k, "")
        made = _as_loud_as(start, wav, pipeline.feature.sample_rate)
        sounds.append(
            out.sound(f"between-{k}", label, made, pipeline.feature.sample_rate, title=title, note=note)
        )
    return sounds


def timbre(dataset: Dataset, content: Excerpt, style: Excerpt, out: Folder) -> dict[str, Any]:
    """Writes an excerpt with the timbre of another; `melody` is the share of its melody that is kept."""
    feature = dataset.feature
    wav = content.at(feature)
    target = styles.style_of(log_mel_of(style.at(feature), feature), feature)
    made = transfer_wav(wav, target, feature)
    label = f"{content.title} with the timbre of {style.title}"
    given = [
        out.sound(f"timbre-{name}", caption, e.wav, e.sample_rate, title=f"{caption}: {e.title}", note=e.title)
        for name, caption, e in (("content", "melody", content), ("style", "timbre", style))
    ]
    result = _as_loud_as(wav, made.wav, feature.sample_rate)
    new = out.sound("timbre-result", "both", result, feature.sample_rate, title=label, note=label)
    return {"sounds": [*given, new], "melody": made.figures["chroma_correlation"]}


def _as_loud_as(like: NDArray[np.float32], wav: NDArray[np.float32], sample_rate: int) -> NDArray[np.float32]:
    return audio.normalise_loudness(wav, sample_rate, audio.loudness_lufs(like, sample_rate))
