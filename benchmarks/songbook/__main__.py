"""A songbook: tunes in the public domain, arranged and rendered, with stems and all notes known.

    python -m benchmarks.songbook OUT --hours 10 --seed 0

Needs the dependency group `songbook`: `uv pip install --group songbook`. OUT gets

    tracks/NAME.flac           the mixes, 44.1 kHz stereo
    stems/NAME/STEM.flac       melody, accompaniment, bass, and drums if any; they add up to the mix
    notes/NAME.json, .mid      notes, chords, beats, key, tempo, tags
    sources.yaml               for `melodygan run`; the tag `album:` keeps a tune in one split
    songbook.json              what was asked for, and the totals

A run that was interrupted goes on where it was. The same seed gives the same files.
"""

from __future__ import annotations

import json
import os
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from pathlib import Path
from typing import Any

import click
from tqdm import tqdm

from benchmarks.songbook.arrange import arrange
from benchmarks.songbook.sound import RATE, default_sound_font, render, require_packages, write_midi
from benchmarks.songbook.tunes import (
    TuneRef,
    corpus_folder,
    read_tune,
    shuffled,
    tune_refs,
    variants,
    version_hash,
)
from melodygan_core import audio
from melodygan_core.config import plain_yaml
from melodygan_core.errors import InputError, MelodyGANError

# Changed when the same seed gives other files: what lies there from an older version is made again.
VERSION = "1"
# A rendering holds samples of the sound font.
LICENCE = "public domain tune, rendered with {font}"
# sources.yaml may have 1 MB, which is some 3,500 tracks.
_MOST_HOURS = 50.0


def make_tracks(root: Path, ref: TuneRef, out: Path, seed: int, count: int, font: Path) -> dict[str, Any]:
    """Writes the arrangements of one tune, but for those that are there.

    Returns:
        `tracks`: name, seconds and whether each was made now; or `reason`, if the tune cannot be used.
    """
    names = [f"{ref.tune_id}-{number}" for number in range(count)]
    version = version_hash(VERSION, seed, font.name, font.stat().st_size)
    done = [_known(out, name, version) for name in names]
    if all(done):
        return {"tracks": [(n, d["duration_s"], False) for n, d in zip(names, done, strict=True) if d]}
    try:
        tune = read_tune(root, ref)
    except InputError as error:
        return {"reason": str(error).removeprefix(f"{ref.tune_id} must ").partition(", got")[0]}
    tracks = []
    for number, name in enumerate(names):
        arrangement = arrange(tune, seed, number)
        folder = out / "stems" / name
        folder.mkdir(parents=True, exist_ok=True)
        for stem, wav in render(arrangement, font).items():
            path = out / "tracks" / f"{name}.flac" if stem == "mix" else folder / f"{stem}.flac"
            temporary = path.with_suffix(".tmp.flac")
            audio.write_wav(temporary, wav, RATE)
            temporary.replace(path)
        midi = out / "notes" / f"{name}.mid"
        write_midi(arrangement, midi.with_suffix(".tmp"))
        midi.with_suffix(".tmp").replace(midi)
        # The notes come last: a track is complete once it has them.
        facts = {
            "version": version,
            "licence": LICENCE.format(font=font.name),
            "sample_rate": RATE,
            **arrangement.facts(),
        }
        _write(out / "notes" / f"{name}.json", json.dumps(facts))
        tracks.append((name, arrangement.duration_s, True))
    return {"tracks": tracks}


def _known(out: Path, name: str, version: str) -> dict[str, Any] | None:
    path = out / "notes" / f"{name}.json"
    if not path.is_file():
        return None
    facts = json.loads(path.read_text("utf-8"))
    return facts if facts["version"] == version else None


def _write(path: Path, text: str) -> None:
    temporary = path.with_suffix(".tmp")
    temporary.write_text(text, "utf-8")
    temporary.replace(path)


def _results(
    pool: ProcessPoolExecutor, refs: list[TuneRef], in_progress: int, *rest: Any
) -> Iterator[dict[str, Any]]:
    """Yields the result of each tune in order, with a few tunes in progress at once."""
    root, *others = rest
    waiting: list[Future[dict[str, Any]]] = []
    for ref in refs:
        waiting.append(pool.submit(make_tracks, root, ref, *others))
        if len(waiting) >= in_progress:
            yield waiting.pop(0).result()
    for future in waiting:
        yield future.result()


def make(
    out: Path,
    hours: float,
    seed: int,
    arrangements: int = 2,
    workers: int = 2,
    sound_font: Path | None = None,
) -> dict[str, Any]:
    """Writes a songbook; returns what `songbook.json` says.

    Args:
        out: Folder; what it has already is used.
        hours: Duration of all tracks, reached by the last one.
        seed: Of the choice of tunes and of the arrangements.
        arrangements: Of each tune.
        workers: Processes.
        sound_font: An SF2 file; pretty_midi's by default.

    Raises:
        InputError: a value out of range, a missing package, or fewer tunes than the hours take.
    """
    if not 0 < hours <= _MOST_HOURS:
        raise InputError(f"--hours must be above 0 and at most {_MOST_HOURS:g}, got {hours:g}")
    require_packages()
    font, root = sound_font or default_sound_font(), corpus_folder()
    for folder in ("tracks", "stems", "notes"):
        (out / folder).mkdir(parents=True, exist_ok=True)
    refs = shuffled(tune_refs(root), seed)
    chosen: list[str] = []
    refused: Counter[str] = Counter()
    total_s, made, wanted_s = 0.0, 0, 3600 * hours
    pool = ProcessPoolExecutor(workers)
    bar = tqdm(total=round(wanted_s), desc="songbook", unit="s of sound")
    try:
        for result in _results(pool, refs, 2 * workers, root, out, seed, arrangements, font):
            if "reason" in result:
                refused[result["reason"]] += 1
                continue
            for name, duration_s, new in result["tracks"]:
                chosen.append(name)
                total_s, made = total_s + duration_s, made + new
                bar.update(min(round(duration_s), bar.total - bar.n))
            if total_s >= wanted_s:
                break
    finally:
        bar.close()
        pool.shutdown(cancel_futures=True)
    if total_s < wanted_s:
        raise InputError(
            f"--hours must be at most {total_s / 3600:.1f}, all there is of this seed, got {hours:g}"
        )
    facts = _write_sources(out, chosen)
    summary = {
        "version": VERSION,
        "seed": seed,
        "hours": round(total_s / 3600, 3),
        "tracks": len(chosen),
        "made_now": made,
        "sound_font": font.name,
        "tunes_refused": dict(refused.most_common()),
        **facts,
    }
    _write(out / "songbook.json", json.dumps(summary, indent=2) + "\n")
    return summary


def _write_sources(out: Path, names: list[str]) -> dict[str, Any]:
    """Writes sources.yaml for the chosen tracks; others that lie there, made ahead, are not listed."""
    facts = {name: json.loads((out / "notes" / f"{name}.json").read_text("utf-8")) for name in names}
    melodies: dict[str, Sequence[int]] = {
        f["tune"]["tune_id"]: [int(n[2]) for n in f["tune"]["melody"]] for f in facts.values()
    }
    group = variants(melodies)
    lines = ["# Tunes in the public domain, rendered by benchmarks/songbook.", "sources:"]
    for name, f in facts.items():
        tags = [f"album:{group[f['tune']['tune_id']]}", *f["tags"]]
        entry = {"path": f"tracks/{name}.flac", "rights": "open", "licence": f["licence"], "tags": tags}
        # JSON is YAML.
        lines.append(f"  - {json.dumps(entry)}")
    text = "\n".join(lines) + "\n"
    plain_yaml.parse("sources.yaml", text, typed=False)
    _write(out / "sources.yaml", text)
    return {
        "tunes": len(melodies),
        "tune_groups": len(set(group.values())),
        "tags": dict(Counter(tag for f in facts.values() for tag in f["tags"]).most_common()),
    }


@click.command(help="Render a songbook into OUT: tunes in the public domain with known stems and notes.")
@click.argument("out", type=click.Path(file_okay=False, path_type=Path))
@click.option("--hours", type=float, default=1.0, show_default=True, help="Duration of all tracks.")
@click.option("--seed", type=click.IntRange(0), default=0, show_default=True, help="Of tunes and arrangements.")
@click.option("--arrangements", type=click.IntRange(1, 20), default=2, show_default=True, help="Of each tune.")
@click.option("--workers", type=click.IntRange(1, 64), default=min(2, os.cpu_count() or 1), show_default=True)
@click.option("--sound-font", type=click.Path(exists=True, dir_okay=False, path_type=Path), help="An SF2 file.")
def main(out: Path, hours: float, seed: int, arrangements: int, workers: int, sound_font: Path | None) -> None:
    try:
        summary = make(out, hours, seed, arrangements, workers, sound_font)
    except MelodyGANError as error:
        raise click.ClickException(str(error)) from error
    click.echo(json.dumps({k: v for k, v in summary.items() if k != "tags"}, indent=2), file=sys.stdout)


if __name__ == "__main__":
    main()
