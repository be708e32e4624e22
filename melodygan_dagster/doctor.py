"""What is there, what is missing and what is damaged, for `melodygan doctor`."""

from __future__ import annotations

import datetime
import importlib.metadata
import os
import re
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from melodygan_core.errors import MelodyGANError

if TYPE_CHECKING:
    from melodygan_core.maintenance.erasure import Mark
    from melodygan_core.maintenance.inspection import Report

STALE_DAYS = 60
# Of each kind; a store may hold a million files.
SHOWN = 20


@dataclass(frozen=True)
class Finding:
    """One thing that was looked for.

    Attributes:
        what: Its name.
        found: What was found, or what to do.
        good: Whether it is there.
        needed: Whether the project does not work without it.
    """

    what: str
    found: str
    good: bool = True
    needed: bool = True


def findings(store: str, model_dir: str) -> list[Finding]:
    """Looks for everything that the stages need."""
    return [_ffmpeg(), *_yt_dlp(), *_torch(), *_models(model_dir), *_ray(), *_store(store)]


def verify(root: str, *, quick: bool, repair: bool) -> tuple[list[str], bool]:
    """Inspects a store.

    Args:
        root: Of the store.
        quick: Hash nothing.
        repair: Also remove what is not whole.

    Returns:
        What to say, line by line, the sum last; and whether all is well, or was mended.
    """
    from melodygan_core.maintenance import erasure, inspection
    from melodygan_core.storage.store import Store

    store = Store(root)
    if not store.base.exists():
        return [], True
    report = inspection.inspect(store, hashes=not quick)
    lines = []
    for kind in dict.fromkeys(f.kind for f in report.findings):
        lines += _shown(kind, [f"{f.path}: {f.sentence}" for f in report.of(kind)])
    if not report.of("damaged"):
        lines += _shown("made of forgotten tracks", [mark_line(m) for m in erasure.marks(store)])
    if not repair:
        return [*lines, _sum(report)], report.good
    removed = inspection.repair(store, report)
    lines += _shown("mended (`melodygan run` makes again what is needed); removed", removed)
    after = inspection.inspect(store, hashes=False)
    # What was found by its hash and is still there was held by another run.
    stayed = [f for f in report.of(*inspection.BAD) if f.remove and not set(f.remove) & set(removed)]
    return [*lines, _sum(after)], after.good and not stayed


def _shown(title: str, found: list[str]) -> list[str]:
    if not found:
        return []
    more = [f"  and {len(found) - SHOWN} more"] if len(found) > SHOWN else []
    return [f"{title}: {len(found)}", *(f"  {line}" for line in found[:SHOWN]), *more]


def mark_line(mark: Mark) -> str:
    """What a forgotten track went into, on one line."""
    roles = {"train": "was trained on", "validation": "was chosen with", "test": "was compared with"}
    parts = [
        f"{said} {', '.join(t for t, s in mark.tracks.items() if s == split)}"
        for split, said in roles.items()
        if split in mark.tracks.values()
    ]
    return f"{mark.name} {mark.version} {' and '.join(parts)}"


def _sum(report: Report) -> str:
    from melodygan_core.maintenance.inspection import BAD

    parts = [f"{len(report.of(k))} {k}" for k in BAD if report.of(k)] or ["nothing torn or damaged"]
    parts += [f"{len(report.of(k))} {k}" for k in ("stale", "orphaned", "superseded") if report.of(k)]
    parts += [f"{report.busy} not judged, being written by another run"] if report.busy else []
    checked = "verified" if report.hashed else "looked through"
    return f"store: {report.files} files, {_size(report.bytes)} {checked}, {', '.join(parts)}"


def _size(count: int) -> str:
    return f"{count / 1e9:.1f} GB" if count >= 1e9 else f"{count / 1e6:.1f} MB"


def _ffmpeg() -> Finding:
    from melodygan_core.sandbox import ffmpeg

    try:
        return Finding("ffmpeg", str(ffmpeg.executable()))
    except MelodyGANError as error:
        return Finding("ffmpeg", str(error), good=False)


def _yt_dlp() -> Iterator[Finding]:
    version = importlib.metadata.version("yt-dlp")
    numbers = [int(n) for n in re.findall(r"\d+", version)[:3]]
    age = (datetime.datetime.now(datetime.UTC).date() - datetime.date(*numbers)).days
    advice = "" if age <= STALE_DAYS else "; sites change: update it with `make update-yt-dlp`"
    yield Finding("yt-dlp", f"{version}, {age} days old{advice}", good=age <= STALE_DAYS, needed=False)
    try:
        import deno

        runtime, good = deno.find_deno_bin(), True
    except (ImportError, FileNotFoundError):
        found = shutil.which("deno")
        runtime, good = found or "none: YouTube needs one; install yt-dlp[default,deno]", found is not None
    yield Finding("JavaScript runtime of yt-dlp", runtime, good, needed=False)


def _torch() -> Iterator[Finding]:
    import torch
    import torchaudio

    yield Finding("torch, torchaudio", f"{torch.__version__}, {torchaudio.__version__}")
    devices = ["cpu"]
    devices += [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())]
    devices += ["mps"] if torch.backends.mps.is_available() else []
    yield Finding("devices", f"{', '.join(devices)}; {torch.get_num_threads()} threads")


def _models(model_dir: str) -> Iterator[Finding]:
    from melodygan_core.separation import default_model_dir

    folder = Path(model_dir) if model_dir else default_model_dir()
    suffixes = {".onnx", ".ckpt", ".pth", ".th", ".safetensors"}
    models = sorted(p.name for p in folder.glob("*") if p.suffix in suffixes) if folder.is_dir() else []
    yield Finding("separation model `centre`", "built in; a baseline")
    found = ", ".join(models) or "none; audio-separator downloads the chosen one when it is first used"
    yield Finding(f"separation models in {folder}", found, good=bool(models), needed=False)


def _ray() -> Iterator[Finding]:
    address = os.environ.get("MELODYGAN_RAY", "")
    if not address:
        return
    from melodygan_dagster.resources import deployed_workers

    try:
        deployed_workers()
        yield Finding("Ray", f"{importlib.metadata.version('ray')}; tracks are worked on at {address}")
    except MelodyGANError as error:
        yield Finding("Ray", str(error), good=False)


def _store(root: str) -> Iterator[Finding]:
    from melodygan_core import catalogue
    from melodygan_core.storage import listing
    from melodygan_core.storage.store import Store

    store = Store(root)
    if not store.base.exists():
        yield Finding(f"store {store.base}", "not there yet; the first run makes it", good=False, needed=False)
        return
    tracks = catalogue.load(store)
    raw = set(listing.names(store.raw_json("").parent))
    fetched = sum(store.raw_json(t.track_id).name in raw for t in tracks)
    failed = sum(store.raw_error(t.track_id).name in raw for t in tracks)
    yield Finding(f"store {store.base}", f"{len(tracks)} tracks, {fetched} fetched, {failed} failed for good")
    made = sorted(n.removesuffix(".json").replace(".", "/") for n in listing.names(store.base / "records"))
    yield Finding("made", ", ".join(made) or "nothing yet", good=bool(made), needed=False)
    if not store.is_local:
        yield Finding("its scratch and copies on this machine", str(store.work_base))
    else:
        free = shutil.disk_usage(store.base.path).free
        yield Finding("free disk", f"{free / 1e9:.1f} GB", good=free > 5e9, needed=False)
