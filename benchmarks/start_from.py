"""Minutes of training to the same KAD: from nothing, and from a release of other music.

    python -m benchmarks.songbook songbook --hours 6
    python benchmarks/start_from.py songbook/sources.yaml OUT --minutes 20 60 120

`sources.yaml` names files (`path:`). The first tracks are one's own music. The other trainings start from a
release of the last ones, trained on `--base-minutes`, unless `--release` names one. For each amount of music,
`melodygan run` trains codec, refiner and prior with growing shares of the preset's steps, each share from
nothing and from the release. The time is that of the trainings. The KAD is that of the evaluation: against test
tracks, by track. A line has the smallest times whose KAD is at most that of the largest share from nothing.

Nothing is done twice: a run that was interrupted goes on. `--steps 0.02 --shares 0.5 1` is a smoke test.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import soundfile
import yaml
from library import timed

from melodygan_core.catalogue.sources import Source, read_sources
from melodygan_core.config import to_dict
from melodygan_core.config.presets import load
from melodygan_core.storage import Store
from melodygan_core.storage.start import NAME

PIPELINE = "temporal_gan"
PARTS = ("temporal/autoencoder_checkpoint", "temporal/refiner_checkpoint", "temporal/gan_checkpoint")
# A neural one takes as long either way, and can be trained while the others are.
VOCODER = "griffin_lim"


@dataclass(frozen=True)
class Point:
    """One training of a pipeline.

    Attributes:
        share: Of the preset's steps.
        minutes: That the trainings took.
        kad: Of generated pieces against test tracks; None where there are too few tracks to compare.
    """

    share: float
    minutes: float
    kad: float | None


def first_minutes(entries: Sequence[Source], folder: Path, minutes: float) -> list[Source]:
    """The first entries that are so many minutes together."""
    chosen: list[Source] = []
    total_s = 0.0
    for entry in entries:
        if total_s >= 60 * minutes:
            break
        info = soundfile.info(folder / entry.path)
        total_s += info.frames / info.samplerate
        chosen.append(entry)
    if total_s < 60 * minutes:
        raise SystemExit(
            f"--minutes must be at most {total_s / 60:.0f}, which the sources have, got {minutes:g}"
        )
    return chosen


def write_sources(path: Path, entries: Sequence[Source], folder: Path) -> None:
    """Writes a sources file with absolute paths."""
    rows = [
        {
            "path": str((folder / entry.path).absolute()),
            "licence": entry.licence,
            "rights": entry.rights,
            "tags": list(entry.tags),
        }
        for entry in entries
    ]
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(yaml.safe_dump({"sources": rows}, allow_unicode=True), "utf-8")


def write_config(path: Path, preset: str, steps: float) -> None:
    """Writes the settings of a run with a share of the preset's steps."""
    base = load(preset)

    def optimizer(config: Any) -> dict[str, Any]:
        preset_optimizer = config.optimizer
        most = max(2, round(steps * preset_optimizer.max_steps))
        every = max(1, min(preset_optimizer.eval_every, most // 4))
        # Every training ends with its share: patience would make the times those of the validations.
        shorter = {
            "max_steps": most,
            "eval_every": every,
            "warmup_steps": min(preset_optimizer.warmup_steps, most // 10),
        }
        return {"optimizer": {**to_dict(preset_optimizer), **shorter, "patience": 1_000_000}}

    codec, prior = base.pipelines[PIPELINE].codec, base.pipelines[PIPELINE].prior
    values = {
        "separation": {"model": "centre"},
        "codecs": {codec: optimizer(base.codecs[codec])},
        "refiner": optimizer(base.refiner),
        "priors": {codec: {prior: optimizer(base.priors[codec][prior])}},
        "pipelines": {PIPELINE: {"codec": codec, "prior": prior, "vocoder": VOCODER}},
        "train": [PIPELINE],
    }
    path.write_text(yaml.safe_dump(values), "utf-8")


def run(folder: Path, sources: Path, preset: str, steps: float, release: str) -> Point:
    """Runs the graph once; what exists is not made again."""
    config = folder / f"steps-{steps:g}.yaml"
    write_config(config, preset, steps)
    command = [sys.executable, "-m", "melodygan_core.cli", "run", "--sources", str(sources)]
    command += ["--store", str(folder / "store"), "--preset", preset, "--config", str(config)]
    if release:
        command += ["--from", release, "--from-parts", "codec,refiner,prior"]
    # Of files elsewhere.
    roots = {"MELODYGAN_ALLOW_ROOTS": "/", "DAGSTER_HOME": ""}
    timed(command, env={**os.environ, **roots})
    store = Store(str(folder / "store"))
    made = [store.record(name) for name in PARTS]
    evaluation = store.record(f"{PIPELINE}/evaluation")
    assert evaluation is not None and None not in made
    seconds = [a.metrics["duration_s"] for a in made if a is not None]
    begun = {NAME in a.inputs for a in made if a is not None}
    assert begun == {bool(release)}, "the records are those of this run"
    kad = evaluation.metrics.get("generated/kad")
    return Point(steps, sum(seconds) / 60, None if kad is None else 1000 * float(kad))


def reached(points: Sequence[Point], goal: float | None) -> Point | None:
    """The first point whose KAD is at most a goal."""
    good = [p for p in points if goal is not None and p.kad is not None and p.kad <= goal]
    return min(good, key=lambda p: p.minutes, default=None)


def main() -> None:
    """Measures and prints a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("sources", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--minutes", type=float, nargs="+", default=[20.0, 60.0, 120.0])
    parser.add_argument("--base-minutes", type=float, default=120.0)
    parser.add_argument("--release", default="")
    parser.add_argument("--preset", default="small")
    parser.add_argument("--shares", type=float, nargs="+", default=[0.125, 0.25, 0.5, 1.0])
    parser.add_argument("--steps", type=float, default=1.0, help="share of the preset's steps that is 1")
    options = parser.parse_args()
    entries, folder = read_sources(options.sources), options.sources.absolute().parent
    options.out.mkdir(parents=True, exist_ok=True)
    release = options.release
    if not release:
        # The other end of the list: with `album:` tags, no tune is in both.
        base = options.out / "base"
        chosen = first_minutes(entries[::-1], folder, options.base_minutes)
        write_sources(base / "sources.yaml", chosen, folder)
        run(base, base / "sources.yaml", options.preset, options.steps, "")
        release = str(base / "store" / "releases" / PIPELINE)
    rows = []
    for minutes in options.minutes:
        place = options.out / f"{minutes:g}"
        sources = place / "sources.yaml"
        write_sources(sources, first_minutes(entries, folder, minutes), folder)
        shares = [options.steps * share for share in sorted(options.shares)]
        nothing, begun = ([run(place, sources, options.preset, s, r) for s in shares] for r in ("", release))
        goal = nothing[-1].kad
        rows.append({"minutes": minutes, "nothing": [*map(vars, nothing)], "release": [*map(vars, begun)]})
        times = [found.minutes if (found := reached(p, goal)) else None for p in (nothing, begun)]
        columns = ["never" if t is None else f"{t:.2f} min" for t in times]
        kad = "too few tracks" if goal is None else f"{goal:.1f}"
        print(
            f"{minutes:g} min of music, KAD x1000 {kad}: {columns[0]} from nothing, {columns[1]} from a release"
        )
    (options.out / "start_from.json").write_text(json.dumps(rows, indent=2), "utf-8")


if __name__ == "__main__":
    main()
