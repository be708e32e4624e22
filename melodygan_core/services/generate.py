"""New pieces from a release, as files with provenance."""

from __future__ import annotations

from pathlib import Path

from melodygan_core import generation
from melodygan_core.config import GenerateConfig, GenerationConfig, from_dict, require
from melodygan_core.config.registry import require_capability
from melodygan_core.piece_files import frames_of
from melodygan_core.prior import condition_index
from melodygan_core.progress import Progress
from melodygan_core.release import Release
from melodygan_core.services.output import ServiceResult, SoundFile, output_folder
from melodygan_core.services.planning import plan_of


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
        config: How many, how long, which seed; a GenerateConfig may ask for a plan, too, which is saved beside
            each piece.
        out: A new or empty folder.
        overwrite: Replace a folder that holds something.
        progress: Called after every piece.

    Raises:
        InputError: pieces shorter than a sample, an unknown condition, a folder that is not empty, a plan that
            cannot be read, or one for a release that follows none.
    """
    sample_rate = release.pipeline.feature.sample_rate
    shortest_s = 1 / sample_rate
    require(
        round(config.duration_s * sample_rate) > 0, "duration_s", config.duration_s, f"{shortest_s:g} or more"
    )
    if config.condition:
        condition_index(release.pipeline.conditions, config.condition)
    plan, provenance = None, release.provenance
    if isinstance(config, GenerateConfig) and config.planned:
        require_capability(release.pipeline.prior.capabilities, "plan")
        tokens = release.pipeline.codec.tokens_for(frames_of(config.duration_s, release.pipeline.feature))
        plan, facts = plan_of(release.pipeline, config, tokens)
        provenance = {**provenance, "plan": {**facts, "given": sorted(plan.given)}}
    # Without the request for a plan, which the provenance describes: the pieces are those of the release.
    made = from_dict(GenerationConfig, {name: getattr(config, name) for name in GenerationConfig.model_fields})
    with output_folder(out, overwrite=overwrite) as folder:
        rows = generation.write_pieces(release.pipeline, made, folder, provenance, progress, plan)
    return ServiceResult([SoundFile.from_row(row) for row in rows], release.manifest.sources["licences"])
