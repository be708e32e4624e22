"""The end of `melodygan run`: what each job did, what there is now, and the next command.

Lines are not wrapped and paths are on lines of their own, so that they can be copied whole.
"""

from __future__ import annotations

import shlex
import shutil
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from melodygan_core.cli.terminal import echo

if TYPE_CHECKING:
    from melodygan_core.storage import Artifact, Store
    from melodygan_dagster.deployment import Deployment
    from melodygan_dagster.runner import StageResult

# Of a job; a store may have thousands of failed tracks.
FAILED_SHOWN = 20


def report(deployment: Deployment, results: Iterable[StageResult]) -> bool:
    """Prints the result of each job as it ends, then what there is now.

    A failed job hides nothing: what succeeded is listed in any case.

    Returns:
        Whether no job failed as a whole.
    """
    finished: dict[str, StageResult] = {}
    good = True
    for result in results:
        finished[result.job] = result
        good &= result.success or bool(result.failed)
        _print_result(result)
    config, store = deployment.load_config(), deployment.opened
    pipelines = config.trained_pipelines()
    evaluations, releases = (
        {n: store.record(f"{n}/{kind}") for n in pipelines} for kind in ("evaluation", "release")
    )
    names = ranked(pipelines, {n: e.metrics for n, e in evaluations.items() if e is not None})
    echo()
    for line in _data_lines(store):
        echo(line)
    for name in names:
        echo()
        for line in _pipeline_lines(name, evaluations[name], releases[name], finished.get(f"{name}_job")):
            echo(line)
        samples = store.record(f"{name}/generated_samples")
        if samples is not None:
            echo("  samples:")
            echo(f"    {store.at(samples.uri)}")
    usable = [str(store.at(r.uri)) for n in names if (r := releases[n]) is not None]
    if usable:
        echo()
        echo("Make more:")
        for folder in usable:
            echo(f"  {command('generate', folder)}")
    gallery = store.record("gallery")
    if gallery is not None:
        echo("Listen:")
        echo(f"  {store.at(gallery.uri) / gallery.metrics['page']}")
    return good


def ranked(pipelines: Iterable[str], figures: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """Names of pipelines, the best one first.

    The best is the one with the lowest KAD of generated sound among the evaluations that can be compared with
    the first pipeline's: those of the same test tracks, embedding and settings. The rest follow in the order of
    the config, pipelines with an evaluation before those without.

    Args:
        pipelines: Names, in the order of the config.
        figures: Metrics of the evaluations, by pipeline.
    """
    from melodygan_core.evaluation.distances import SETUP

    def setup(name: str) -> list[Any]:
        return [figures[name].get(key) for key in SETUP]

    def kad(name: str) -> float | None:
        return figures.get(name, {}).get("generated/kad")

    # Where evaluations cannot be compared, the config's order stands.
    order = sorted(pipelines, key=lambda name: name not in figures)
    if not order or kad(order[0]) is None:
        return order
    comparable = [name for name in order if kad(name) is not None and setup(name) == setup(order[0])]
    best = min(comparable, key=lambda name: kad(name) or 0.0)
    return [best, *(name for name in order if name != best)]


def command(*arguments: str) -> str:
    """A `melodygan` command as a shell takes it, with the path of the program unless it is on PATH."""
    program = Path(sys.argv[0])
    found = shutil.which("melodygan")
    known = found is not None and program.exists() and Path(found).samefile(program)
    name = str(program) if program.name == "melodygan" and not known else "melodygan"
    return shlex.join([name, *arguments])


def _print_result(result: StageResult) -> None:
    partly = bool(result.failed)
    word, colour = (
        ("done", "green") if result.success else ("partly", "yellow") if partly else ("failed", "red")
    )
    echo(f" {result.job} in {result.duration_s:.0f} s", mark=word, colour=colour)
    for track, reason in list(result.failed.items())[:FAILED_SHOWN]:
        echo(f"  {track}: {reason}")
    if len(result.failed) > FAILED_SHOWN:
        echo(f"  and {len(result.failed) - FAILED_SHOWN} more")
    if not result.success and not partly:
        for line in result.reason.splitlines():
            echo(f"  {line}")


def _data_lines(store: Store) -> list[str]:
    from melodygan_core import catalogue
    from melodygan_core.storage import list_files

    tracks = catalogue.load(store)
    raw = set(list_files(store.raw_json("").parent))
    fetched = sum(store.raw_json(t.track_id).name in raw for t in tracks)
    lines = [f"Tracks: {len(tracks)} in the catalogue, {fetched} fetched"]
    dataset = store.record("feature_table")
    if dataset is not None:
        splits = [s for s in ("train", "validation", "test") if f"{s}/segments" in dataset.metrics]
        counts = ", ".join(f"{dataset.metrics[f'{s}/segments']} {s}" for s in splits)
        lines.append(f"Dataset: {counts} segments")
    vocoder = store.record("vocoder_checkpoint")
    if vocoder is not None:
        kad = {k: vocoder.metrics.get(f"test/{k}/kad") for k in ("neural", "griffin_lim")}
        lines.append(f"Vocoder: KAD {_short(kad['neural'])}; Griffin-Lim {_short(kad['griffin_lim'])}")
    return lines


def _pipeline_lines(
    name: str, evaluation: Artifact | None, release: Artifact | None, result: StageResult | None
) -> list[str]:
    failed = result is not None and not result.success
    if result is not None and failed:
        lines = [f"{name}: failed: {' '.join(result.reason.split())}"]
    else:
        lines = [f"{name}: {'released' if release is not None else 'not released'}"]
    earlier = " of an earlier run" if failed else ""
    if evaluation is not None:
        lines.append(f"  evaluation{earlier}: {_evaluation_text(evaluation.metrics)}")
    if release is not None:
        lines.append(f"  release in use{earlier}: version {release.version}")
    return lines


def _evaluation_text(figures: Mapping[str, Any]) -> str:
    kad, excess = figures.get("generated/kad"), figures.get("generated/excess_kad")
    note = str(figures.get("generated/note") or "")
    if kad is None:
        return note or "no KAD"
    parts = [f"KAD of generated sound {_short(kad)}", f"codec {_short(figures.get('codec/kad'))}"]
    parts.append(f"real music {_short(figures.get('real_baseline/kad'))}")
    parts.append(f"excess {_short(excess)}" if excess is not None else note or "no excess")
    return ", ".join(parts)


def _short(value: Any) -> str:
    return f"{value:.3g}" if isinstance(value, int | float) else "not measured"
