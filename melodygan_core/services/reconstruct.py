"""A sound through codec and vocoder: what the models keep of it."""

from __future__ import annotations

from pathlib import Path

from melodygan_core.config import ReconstructConfig
from melodygan_core.pipeline import Pipeline
from melodygan_core.progress import Progress, tracked
from melodygan_core.release import Release
from melodygan_core.services.content_similarity import content_similarity
from melodygan_core.services.output import ServiceResult, output_folder
from melodygan_core.services.sound import (
    Samples,
    describe_input,
    encode_sound,
    load_sound,
    safe_name,
    vocode,
    write_sound,
)


def reconstruct_wav(pipeline: Pipeline, wav: Samples) -> Samples:
    """What codec and vocoder keep of a sound: the ceiling of what is generated with them.

    Args:
        pipeline: On its device.
        wav: (samples,) at the pipeline's rate.
    """
    latents, frames = encode_sound(pipeline, wav)
    return vocode(pipeline, pipeline.decode(latents)[0, :frames], len(wav))


def reconstruct(
    release: Release,
    config: ReconstructConfig,
    out: Path,
    *,
    overwrite: bool = False,
    progress: Progress | None = None,
) -> ServiceResult:
    """Writes `<name>-reconstructed.wav` with how much of melody and rhythm is left.

    Args:
        release: Release whose codec and vocoder are used.
        config: Sound to reconstruct.
        out: A new or empty folder.
        overwrite: Replace a folder that holds something.
        progress: Called at the start and the end.

    Raises:
        InputError: no sound, or a folder that is not empty.
    """
    path = Path(config.sound)
    wav = load_sound(path, release.pipeline.feature, "sound")
    with output_folder(out, overwrite=overwrite) as folder:
        sounds = []
        for source in tracked([wav], 1, "reconstruct", progress):
            made = reconstruct_wav(release.pipeline, source)
            figures = content_similarity(source, made, release.pipeline.feature)
            facts = {"service": "reconstruct", "inputs": [describe_input(path)]}
            name = f"{safe_name(path)}-reconstructed"
            sounds.append(write_sound(release, folder, name, made, source, facts, figures))
    return ServiceResult(sounds, release.manifest.sources["licences"])
