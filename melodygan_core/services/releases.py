"""Opens a release by name, after checks that need no model; reports tracks that were forgotten since.

Torch is imported when a release is opened: a wrong name or condition is reported before that.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from melodygan_core.config import require
from melodygan_core.config.registry import prior_component, prior_names, require_capability
from melodygan_core.export.manifest import is_export
from melodygan_core.storage import ARTIFACT_FILE, Store

if TYPE_CHECKING:
    from melodygan_core.release import Release

ALLOWED = "a release folder, or STORE/releases/PIPELINE[/VERSION] of a store"
MANIFEST, LEGACY_MANIFEST = "manifest.json", "config.json"
# Larger files are left to the loader, which has limits of its own.
_MAX_BYTES = 32_000_000


@dataclass(frozen=True)
class Opened:
    """A release and what its user must know before using it.

    Attributes:
        release: Read, on its device.
        erased: Tracks that it was trained on and that were forgotten since, as its store knows.
    """

    release: Release
    erased: list[str]


def resolve_release(name: str) -> str:
    """The release in use, where a name is a pipeline's folder of a store; any other name as it is.

    Args:
        name: Such as `data/releases/temporal_gan` or `s3://bucket/store/releases/temporal_gan`.
    """
    root, _, pipeline = name.rstrip("/").rpartition("/releases/")
    if not pipeline or "/" in pipeline:
        return name
    if "://" not in name and not (Path(root).is_dir() and Path(name).is_dir()):
        return name
    store = Store(root)
    made = store.record(f"{pipeline}/release")
    return name if made is None else f"{root}/{made.uri}"


def check_release(name: str) -> None:
    """Checks that a name can be a release; loads no model.

    Raises:
        InputError: no such folder, or not the URI of a release.
    """
    if "://" in name:
        require("://" in name.rstrip("/").rpartition("/releases/")[0], "release", name, ALLOWED)
        return
    folder = Path(name)
    if is_export(name):
        allowed = "a release folder: one that was exported as ONNX can `generate` and nothing else"
        require(False, "release", name, allowed)
    exists = any((folder / file).is_file() for file in (MANIFEST, LEGACY_MANIFEST))
    require(folder.is_dir() and exists, "release", name, ALLOWED)


def check_unplanned(planned: bool) -> None:
    """Checks that no plan is given to a release that was exported.

    Raises:
        InputError: one is.
    """
    require(not planned, "plan", "one", "left out with a release that was exported as ONNX")


def check_condition(name: str, condition: str) -> None:
    """Checks a condition against those that a local release declares; loads no model.

    What cannot be read is left to `open_release`.

    Raises:
        InputError: the release has no such condition.
    """
    folder = Path(name)
    if (folder / MANIFEST).is_file():
        components = _object(_object(_read(folder / MANIFEST)).get("components"))
        path = _object(components.get("prior")).get("path")
    else:
        path = "gan"
    # The path comes from a stranger: only a folder directly in the release is read.
    if not isinstance(path, str) or path in ("", ".", "..") or Path(path).name != path:
        return
    conditions = _object(_read(folder / path / "config.json")).get("conditions")
    if isinstance(conditions, list):
        known = ", ".join(map(str, conditions)) or "empty: this model was trained without conditions"
        require(condition in conditions, "condition", condition, known)


def check_capability(name: str, capability: str) -> None:
    """Checks that the prior of a local release can do something; loads no model.

    What cannot be read is left to `open_release`.

    Raises:
        InputError: it cannot; the message names the pipelines that can.
    """
    components = _object(_object(_read(Path(name) / MANIFEST)).get("components"))
    codec, _, prior = str(_object(components.get("prior")).get("kind")).partition("/")
    if (codec, prior) in prior_names():
        require_capability(prior_component(codec, prior).capabilities, capability)


def check_style_tag(name: str, tag: str) -> None:
    """Checks a style tag against those that a local release has; loads no model.

    What cannot be read is left to `open_release`.

    Raises:
        InputError: the release has no style of this tag.
    """
    styles = _object(_read(Path(name) / "styles.json")).get("styles")
    if isinstance(styles, dict):
        require(tag in styles, "style_tag", tag, ", ".join(styles) or "empty: this release has no styles")


def _read(file: Path) -> Any:
    """The content of a JSON file; None where it cannot be read, which is for the loader to report."""
    try:
        return json.loads(file.read_text("utf-8")) if file.stat().st_size <= _MAX_BYTES else None
    except (OSError, ValueError, RecursionError):
        return None


def _object(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def open_release(name: str, vocoder: str = "", device: str = "auto") -> Opened:
    """The release in a local folder, or in a store elsewhere.

    Args:
        name: A folder, or a URI `STORE/releases/PIPELINE/VERSION`.
        vocoder: `neural`, `griffin_lim` or `flow`; the release's own when empty.
        device: `auto`, `cpu`, `cuda` or `mps`.

    Raises:
        InputError: there is none, or it is damaged.
    """
    check_release(name)
    from melodygan_core import release
    from melodygan_core.maintenance import erasure

    if "://" not in name:
        folder = Path(name)
        return Opened(release.load(folder, vocoder, device), erasure.in_release(folder))
    root, _, uri = name.rstrip("/").rpartition("/releases/")
    store = Store(root)
    place = store.at(f"releases/{uri}")
    require((place / ARTIFACT_FILE).exists(), "release", name, ALLOWED)
    with store.reading(place) as folder:
        return Opened(release.load(folder, vocoder, device), erasure.in_store(store, f"releases/{uri}"))
