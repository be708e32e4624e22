"""New pieces from a release, as files with provenance."""

from __future__ import annotations

from pathlib import Path

from melodygan_core import generation
from melodygan_core.config import GenerationConfig, require
from melodygan_core.prior import condition_index
from melodygan_core.progress import Progress
from melodygan_core.release import Release
from melodygan_core.services.output import ServiceResult, SoundFile, output_folder


def generate(
    release: Release,
    config: GenerationConfig,
    out: Path,
    *,
    overwrite: bool = False,
    progress: Progress | None = None,
) -> ServiceResult:
    """Writes new pieces: `sample-000.wav`, its `.json`, ...; see generation.write_pieces.

    Args:
        release: Makes them.
        config: How many, how long, which seed.
        out: A new or empty folder.
        overwrite: Replace a folder that holds something.
        progress: Called after every piece.

    Raises:
        InputError: pieces shorter than a sample, an unknown condition, or a folder that is not empty.
    """
    sample_rate = release.pipeline.feature.sample_rate
    shortest_s = 1 / sample_rate
    require(
        round(config.duration_s * sample_rate) > 0, "duration_s", config.duration_s, f"{shortest_s:g} or more"
    )
    if config.condition:
        condition_index(release.pipeline.conditions, config.condition)
    with output_folder(out, overwrite=overwrite) as folder:
        rows = generation.write_pieces(release.pipeline, config, folder, release.provenance, progress)
    sounds = [
        SoundFile(row["file"], row["duration_s"], row["sample_rate"], row["peak_db"], row["loudness_lufs"])
        for row in rows
    ]
    return ServiceResult(sounds, release.manifest.sources["licences"])
