"""What this machine has of all that the stages need: programs, models, devices, disk."""

from __future__ import annotations

import datetime
import importlib.metadata
import importlib.util
import re
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from melodygan_core.errors import INSTALL, MelodyGANError
from melodygan_core.settings import environment

STALE_DAYS = 60


@dataclass(frozen=True)
class Finding:
    """The result of looking for one thing.

    Attributes:
        what: Name of the thing.
        found: What was found, or what to do.
        good: Whether it exists and is usable.
        needed: Whether nothing works without it.
    """

    what: str
    found: str
    good: bool = True
    needed: bool = True


def findings(store: str, model_dir: str) -> list[Finding]:
    """Looks for everything that the stages need.

    Args:
        store: Root of the store; it need not exist.
        model_dir: Folder of separation models; the user's cache when empty.
    """
    return [_ffmpeg(), *_yt_dlp(), *_torch(), *_models(model_dir), *_ray(), *_store(store)]


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
    address = environment().ray
    if not address:
        return
    missing = [name for name in ("ray", "dagster_ray") if importlib.util.find_spec(name) is None]
    if missing:
        found = f"{', '.join(missing)} not installed, but MELODYGAN_RAY is {address!r}"
        yield Finding("Ray", f"{found}: {INSTALL} '.[ray]', or leave it empty", good=False)
        return
    yield Finding("Ray", f"{importlib.metadata.version('ray')}; tracks are processed at {address}")


def _store(root: str) -> Iterator[Finding]:
    from melodygan_core import catalogue
    from melodygan_core.storage import Store, listing

    store = Store(root)
    if not store.base.exists():
        found = "does not exist yet; the first run creates it"
        yield Finding(f"store {store.base}", found, good=False, needed=False)
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
