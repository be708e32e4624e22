"""Variations of every sound of a labelled set, which keep its label: a Hugging Face `audiofolder`."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
from filelock import FileLock, Timeout

from melodygan_core import audio
from melodygan_core.config import AugmentConfig, to_dict
from melodygan_core.errors import InputError
from melodygan_core.piece_files import check_sound
from melodygan_core.pipeline import Pipeline
from melodygan_core.prior import editing
from melodygan_core.progress import Progress, tracked
from melodygan_core.release import Release, styles
from melodygan_core.services.audiofolder import OWN_COLUMNS, card_of, table_of
from melodygan_core.services.augmented_sound import flow_variation, variation
from melodygan_core.services.content_similarity import content_similarity
from melodygan_core.services.labelled import Labelled, check_labelled, read_labelled
from melodygan_core.services.output import STATE
from melodygan_core.services.sound import Samples, load_sound, log_mel_of
from melodygan_core.storage import dump_json, replacing, sha256_of


@dataclass(frozen=True)
class Augmented:
    """The set that `augment` made.

    It is no ServiceResult: a call that resumes does not read the sounds of earlier calls, so that it has their
    rows but not their levels, and a sound of the set may fail while the rest goes on.

    Attributes:
        rows: Rows of `metadata.csv`.
        made: Number of rows that this call made; earlier calls made the others.
        failed: Name of a sound to the reason why it has no variations.
    """

    rows: list[dict[str, Any]]
    made: int
    failed: dict[str, str]


def augment(
    release: Release,
    dataset: Path,
    out: Path,
    config: AugmentConfig,
    *,
    progress: Progress | None = None,
) -> Augmented:
    """Writes variations of all sounds of a set; existing ones are kept, so that a killed run resumes.

    Args:
        release: Release whose codec makes the variations.
        dataset: A folder of sounds with labels, or a store; see read_labelled.
        out: A folder: new, or one that the same release, seed and strength made before.
        config: Number and strength of the variations.
        progress: Called after every variation.

    Returns:
        Rows in the order of the set. A sound that cannot be read is reported; the rest continue.

    Raises:
        InputError: no sound in the set, a method that the release has not, a folder with something else in it,
            or one that another call is filling.
    """
    method = method_of(release.pipeline, config)
    check_labelled(dataset, out)
    items = read_labelled(dataset, config.licence, config.rights)
    _claim(out, release, config, method)
    try:
        with FileLock(out / STATE / "lock", timeout=0):
            return _fill(release, dataset, items, out, config, method, progress)
    except Timeout as error:
        raise InputError(f"out must be a folder that no other call is filling, got {str(out)!r}") from error


def _fill(
    release: Release,
    dataset: Path,
    items: Sequence[Labelled],
    out: Path,
    config: AugmentConfig,
    method: str,
    progress: Progress | None,
) -> Augmented:
    # What a killed run was writing; `datasets` does not look at hidden files, a person might.
    for half in (out / "data").rglob(".????????-*.wav"):
        half.unlink(missing_ok=True)
    names = _names(items)
    failed: dict[str, str] = {}
    rows: list[dict[str, Any]] = []
    work = _Work(release, out, config, method, items, failed)
    made = 0
    variations = [
        (item, f"{name}.{copy:02d}", copy)
        for item, name in zip(items, names, strict=True)
        for copy in range(1, config.copies + 1)
    ]
    for item, name, copy in tracked(variations, len(variations), "augment", progress):
        row, new = work.variation(item, name, copy)
        made += new
        rows += [row] if row else []
    if not rows:
        raise InputError(f"no sound of {dataset} could be varied: {next(iter(failed.values()))}")
    with replacing(out / "metadata.csv") as temporary:
        temporary.write_text(table_of(rows), "utf-8")
    with replacing(out / "README.md") as temporary:
        temporary.write_text(card_of(release, dataset, config, method, items, rows), "utf-8")
    return Augmented(rows, made, failed)


def method_of(pipeline: Pipeline, config: AugmentConfig) -> str:
    """`eq` or `flow`: which of them varies with a release.

    Raises:
        InputError: `flow` is asked for, and the prior cannot vary.
    """
    if config.method == "flow":
        editing(pipeline.prior, "vary")
    can = "vary" in pipeline.prior.capabilities
    return "flow" if can and config.method != "eq" else "eq"


class _Work:
    """Makes one variation after the other; keeps what two of them share.

    Args:
        release: Its models make them.
        out: Where to.
        config: How far.
        method: `eq` or `flow`.
        items: All sounds of the set.
        failed: Name of a sound to why it cannot be used; filled.
    """

    def __init__(
        self,
        release: Release,
        out: Path,
        config: AugmentConfig,
        method: str,
        items: Sequence[Labelled],
        failed: dict[str, str],
    ) -> None:
        self.release, self.out, self.config, self.failed = release, out, config, failed
        self.method = method
        self._groups: dict[tuple[str, ...], list[Labelled]] = {}
        for item in items:
            self._groups.setdefault(item.group, []).append(item)
        self._sound: tuple[str, Samples] | None = None
        self._styles: dict[str, styles.Style | None] = {}

    def variation(self, item: Labelled, name: str, copy: int) -> tuple[dict[str, Any] | None, bool]:
        """The row of one variation, and whether it was made now; no row where the sound cannot be used."""
        if item.name in self.failed:
            return None, False
        state = self.out / STATE / "rows" / f"{name}.json"
        file = self.out / "data" / f"{name}.wav"
        digest = sha256_of(item.path)
        if state.is_file() and file.is_file():
            stored = json.loads(state.read_text("utf-8"))
            # Another sound under the old name is varied again.
            if stored["source_sha256"] == digest:
                return _with_labels(item, stored["row"]), False
        try:
            row = self._make(item, name, copy, file)
        except InputError as error:
            self.failed[item.name] = str(error)
            return None, False
        with replacing(state) as temporary:
            dump_json(temporary, {"source_sha256": digest, "row": row})
        return _with_labels(item, row), True

    def _make(self, item: Labelled, name: str, copy: int, file: Path) -> dict[str, Any]:
        feature, config = self.release.pipeline.feature, self.config
        if self._sound is None or self._sound[0] != item.name:
            self._sound = item.name, load_sound(item.path, feature)
        wav = self._sound[1]
        # Of this sound and this copy alone, whatever else is in the set.
        key = hashlib.sha256(item.name.encode("utf-8", "surrogatepass")).digest()
        rng = np.random.default_rng([config.seed, copy, *key[:16]])
        if self.method == "flow":
            made = flow_variation(self.release.pipeline, wav, config.strength, rng)
        else:
            other = self._other(item, rng)
            made = variation(self.release.pipeline, wav, other, config.strength, rng)
        check_sound(made, f"copy {copy} of {item.name} with seed {config.seed}", silence=True)
        with replacing(file) as temporary:
            audio.write_wav(temporary, made, feature.sample_rate)
        return {
            "file_name": f"data/{name}.wav",
            "source_file": item.name,
            "copy": copy,
            "seed": config.seed,
            "strength": config.strength,
            "release": self.release.version,
            **{k: round(v, 4) for k, v in content_similarity(wav, made, feature).items()},
        }

    def _other(self, item: Labelled, rng: np.random.Generator) -> styles.Style | None:
        """The style of a random other sound of the same split and label."""
        others = [o for o in self._groups[item.group] if o.name != item.name]
        if not others or not any(item.group):
            return None
        chosen = others[int(rng.integers(len(others)))]
        if chosen.name not in self._styles:
            feature = self.release.pipeline.feature
            try:
                log_mel = log_mel_of(load_sound(chosen.path, feature), feature)
                self._styles[chosen.name] = styles.style_of(log_mel, feature)
            except InputError:
                self._styles[chosen.name] = None  # Named when it is its turn.
        return self._styles[chosen.name]


def _with_labels(item: Labelled, row: dict[str, Any]) -> dict[str, Any]:
    """A row with what the set says of its sound; a column that is called as one of ours keeps both."""
    labels = {f"source_{k}" if k in OWN_COLUMNS else k: v for k, v in item.labels.items()}
    return {**labels, **row, "licence": item.licence, "rights": item.rights}


def _names(items: Sequence[Labelled]) -> list[str]:
    """What the variations of each sound are called; on file systems that ignore case, too, all differ.

    What comes first is the sound's name: `forget` finds the variations of a track by it.
    """
    stems = [PurePosixPath(item.name).with_suffix("").as_posix() for item in items]
    often = Counter(s.lower() for s in stems)
    return [
        s if often[s.lower()] == 1 else f"{s}-{hashlib.sha256(item.name.encode()).hexdigest()[:8]}"
        for s, item in zip(stems, items, strict=True)
    ]


def _claim(out: Path, release: Release, config: AugmentConfig, method: str) -> None:
    """Makes the folder, or checks that it holds what the same settings made."""
    settings = {
        "release": release.version,
        **{k: v for k, v in to_dict(config).items() if k in ("seed", "strength")},
        "method": method,
    }
    file = out / STATE / "settings.json"
    if file.is_file():
        # Folders of earlier versions name no method: there was one.
        found = {"method": "eq", **json.loads(file.read_text("utf-8"))}
        if found != settings:
            raise InputError(
                f"out must be a new folder or one made with the same settings {settings}, "
                f"got {str(out)!r}, made with {found}"
            )
        return
    if out.exists() and any(out.iterdir()):
        raise InputError(f"out must be a new or empty folder, or one of an earlier call, got {str(out)!r}")
    with replacing(file) as temporary:
        dump_json(temporary, settings)
