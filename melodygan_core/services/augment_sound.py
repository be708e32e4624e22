"""Variations of one sound, made as `augment` makes those of a labelled set."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from melodygan_core.config import AugmentConfig, AugmentSoundConfig
from melodygan_core.progress import Progress
from melodygan_core.release import Release
from melodygan_core.services.augment import method_of
from melodygan_core.services.augmented_sound import flow_variation, variation
from melodygan_core.services.content_similarity import content_similarity
from melodygan_core.services.output import ServiceResult
from melodygan_core.services.sound import MadeSound, describe_input, load_sound, safe_name, write_sounds


def augment_sound(
    release: Release,
    config: AugmentSoundConfig,
    out: Path,
    *,
    overwrite: bool = False,
    progress: Progress | None = None,
) -> ServiceResult:
    """Writes `<name>-augmented-00.wav`, ..., with how much of melody and rhythm is left.

    A set borrows timbres from its other sounds of the same label; one sound has none to borrow from.

    Args:
        release: Release whose codec makes the variations.
        config: The sound, how many, and how far.
        out: A new or empty folder.
        overwrite: Replace a folder that holds something.
        progress: Called at the start and after every sound.

    Raises:
        InputError: no sound, a silent one, a method that the release has not, or a folder that is not empty.
    """
    pipeline, path = release.pipeline, Path(config.sound)
    method = method_of(pipeline, AugmentConfig(method=config.method))
    wav = load_sound(path, pipeline.feature, "sound")
    facts = {
        "service": "augment",
        "inputs": [describe_input(path)],
        "method": method,
        "settings": config.model_dump(mode="json", exclude={"sound"}),
    }

    def make() -> Iterator[MadeSound]:
        for index in range(config.count):
            rng = np.random.default_rng([config.seed + index])
            if method == "flow":
                made = flow_variation(pipeline, wav, config.strength, rng)
            else:
                made = variation(pipeline, wav, None, config.strength, rng)
            figures = content_similarity(wav, made, pipeline.feature)
            yield MadeSound(f"{safe_name(path)}-augmented-{index:02d}", made, None, figures)

    return write_sounds(release, make(), config.count, facts, out, overwrite=overwrite, progress=progress)
