"""Stems of 8 tracks of 30 s: ours beside a loop of the audio-separator command, with the same model.

    python benchmarks/separation.py

The model is the built-in `centre`, a filter that computes little, so that the software around a model is
measured. With a large network both sides spend their time in it, and the ratio falls towards one.
"""

from __future__ import annotations

import json
import sys
import tempfile
from pathlib import Path

from library import timed, timed_python, write_songs

from melodygan_core import catalogue, download, separation
from melodygan_core.config import CatalogueConfig, DownloadConfig, SeparationConfig
from melodygan_core.sandbox.ffmpeg import on_path
from melodygan_core.separation import centre
from melodygan_core.storage import Store

TRACKS, DURATION_S, ROUNDS = 8, 30.0, 1
CONFIG = SeparationConfig(model="centre", device="cpu")


def command_loop(wavs: list[Path], models: Path, out: Path) -> float:
    """Runs the command once per track, as its README says; returns the seconds of all."""
    folder, parameters = centre.write_model(models), centre.separator_parameters()
    command = ["-m", centre.MODEL_FILE, "--model_file_dir", str(folder), "--output_dir", str(out)]
    for name in ("hop_length", "segment_size", "overlap"):
        command += [f"--mdx_{name}", str(parameters[name])]
    program = str(Path(sys.executable).with_name("audio-separator"))
    with on_path():
        return sum(timed([program, str(wav), *command])[0] for wav in wavs)


def ours(root: Path, models: Path) -> None:
    """Runs the stage on a store that has the wavs; called in a process of its own, so that imports count."""
    store = Store(str(root))
    config = SeparationConfig(model=CONFIG.model, device=CONFIG.device, model_dir=str(models))
    track_ids = [t.track_id for t in catalogue.load(store)]
    report = separation.separate(track_ids, store, config)
    if report.failed:
        raise SystemExit(report.failed[0].error)
    print(json.dumps({"tracks": len(report.computed)}))


def main() -> None:
    with tempfile.TemporaryDirectory() as temporary:
        base = Path(temporary)
        models = base / "models"
        wavs = write_songs(base / "songs", TRACKS, DURATION_S)
        (base / "sources.yaml").write_text("sources:\n  - path: songs\n    rights: own\n", "utf-8")
        best = {"ours": float("inf"), "loop": float("inf")}
        for attempt in range(ROUNDS):
            store = Store(str(base / f"store-{attempt}"))
            listed = catalogue.expand(base / "sources.yaml", store, CatalogueConfig()).tracks
            download.fetch([t.track_id for t in listed], store, DownloadConfig(pause_s=0))
            elapsed_s, made = timed_python(__file__, store.root, str(models))
            assert made == {"tracks": TRACKS}
            best["ours"] = min(best["ours"], elapsed_s)
            best["loop"] = min(best["loop"], command_loop(wavs, models, base / f"out-{attempt}"))
    print(f"{TRACKS} tracks of {DURATION_S:g} s, best of {ROUNDS}; both from start to end of their processes")
    print(f"audio-separator, once per track: {best['loop']:.1f} s")
    print(f"ours: {best['ours']:.1f} s, {best['loop'] / best['ours']:.1f} times as fast")


if __name__ == "__main__":
    match sys.argv[1:]:
        case [root, models]:
            ours(Path(root), Path(models))
        case _:
            main()
