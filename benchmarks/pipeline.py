"""The graph beside a script of well-known tools, and beside direct calls of its own core.

    python benchmarks/pipeline.py script          # 8 tracks of 30 s, URLs to a trained autoencoder
    python benchmarks/pipeline.py orchestration   # 64 tracks of 30 s, URLs to the dataset

Every side runs in a process of its own, from nothing, and is timed from start to end. The URLs are served on
loopback, so that no network is measured.
"""

from __future__ import annotations

import json
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from library import timed, timed_python, write_songs

from melodygan_core.config.presets import PRESETS
from melodygan_core.demo import server
from melodygan_core.storage import Store

DURATION_S = 30.0
# Runs of each side of `orchestration`: the machine varies as much as the sides differ.
TURNS = 2
CODEC = "dense/autoencoder_checkpoint"


@contextmanager
def served(base: Path, count: int) -> Iterator[list[str]]:
    """The URLs of songs on loopback, which `base/sources.yaml` lists."""
    write_songs(base / "site", count, DURATION_S)
    with server.serve(base / "site") as url:
        server.write_sources(base, url)
        yield [f"{url}/{name}" for name in server.titles(base / "site")]


def graph(base: Path, store: str, last: str) -> None:
    """Runs the graph to its dataset, or to an asset that follows it."""
    import dagster as dg

    from melodygan_dagster import runner
    from melodygan_dagster.deployment import Deployment

    deployment = Deployment(store, base / "sources.yaml", "demo", allow_private=True, own_home=True)
    took = {}
    for result in runner.run(deployment):
        if not result.success:
            raise SystemExit(f"{result.job}: {result.reason}")
        took[result.job] = took.get(result.job, 0.0) + result.duration_s
        if result.job == "dataset_job":
            break
    if last != "dataset":
        from melodygan_dagster.definitions import defs

        job = defs().resolve_implicit_global_asset_job_def()
        started = time.perf_counter()
        with deployment.instance() as instance:
            chosen = job.get_subset(asset_selection={dg.AssetKey(last.split("/"))})
            if not chosen.execute_in_process(instance=instance).success:
                raise SystemExit(f"{last} failed")
        took[last] = time.perf_counter() - started
    print(json.dumps(took))


def core(base: Path, store: str) -> None:
    """Calls what the assets call, without Dagster."""
    from melodygan_core import catalogue, dataset, download, features, separation

    settings, opened = PRESETS["demo"], Store(store)
    took = {}

    def timed_call(stage: str, call: Callable[[], object]) -> object:
        started = time.perf_counter()
        made = call()
        took[stage] = time.perf_counter() - started
        return made

    timed_call("catalogue", lambda: catalogue.expand(base / "sources.yaml", opened, settings.catalogue))
    ids = [t.track_id for t in catalogue.load(opened)]
    timed_call("raw_wav", lambda: download.fetch(ids, opened, settings.download))
    timed_call("stems", lambda: separation.separate(ids, opened, settings.separation))
    timed_call("features", lambda: features.extract(ids, opened, settings.features, settings.separation))
    configs = (settings.dataset, settings.features, settings.separation)
    timed_call("dataset", lambda: dataset.describe(opened, dataset.assemble(opened, *configs)))
    print(json.dumps(took))


def against_script(base: Path, count: int = 8) -> None:
    with served(base, count) as urls:
        elapsed_s, stages = timed_python(__file__, "graph", str(base), str(base / "store"), CODEC)
        script = Path(__file__).with_name("script.py")
        command = [sys.executable, str(script), str(base / "script"), str(base / "models"), *urls]
        script_s, _ = timed(command)
    print(f"{count} tracks of {DURATION_S:g} s, URLs to a trained autoencoder")
    print(f"script of yt-dlp, audio-separator, librosa and PyTorch: {script_s:.1f} s")
    print(f"the graph: {elapsed_s:.1f} s, {script_s / elapsed_s:.1f} times as fast; {_listed(stages)}")


def orchestration(base: Path, count: int = 64) -> None:
    bare, graph = [], []
    with served(base, count):
        for turn in range(TURNS):
            bare.append(timed_python(__file__, "core", str(base), str(base / f"core{turn}")))
            graph.append(timed_python(__file__, "graph", str(base), str(base / f"graph{turn}"), "dataset"))
    (core_s, calls), (graph_s, stages) = (min(runs, key=lambda run: run[0]) for runs in (bare, graph))
    print(f"{count} tracks of {DURATION_S:g} s, URLs to the dataset, best of {TURNS} turns")
    print(f"calls of the core: {core_s:.1f} s; {_listed(calls)}")
    print(f"the graph: {graph_s:.1f} s, {100 * (graph_s / core_s - 1):.0f} % more; {_listed(stages)}")


def _listed(stages: dict[str, float]) -> str:
    return ", ".join(f"{name} {elapsed_s:.1f}" for name, elapsed_s in stages.items())


if __name__ == "__main__":
    match sys.argv[1:]:
        case ["graph", base, store, last]:
            graph(Path(base), store, last)
        case ["core", base, store]:
            core(Path(base), store)
        case ["script"]:
            with tempfile.TemporaryDirectory() as temporary:
                against_script(Path(temporary))
        case ["orchestration"]:
            with tempfile.TemporaryDirectory() as temporary:
                orchestration(Path(temporary))
        case _:
            raise SystemExit(__doc__)
