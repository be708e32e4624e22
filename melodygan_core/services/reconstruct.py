"""A sound through codec and vocoder: what the models keep of it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from melodygan_core.config import ReconstructConfig
from melodygan_core.pipeline import Pipeline
from melodygan_core.progress import Progress
from melodygan_core.release import Release
from melodygan_core.services.content_similarity import content_similarity
from melodygan_core.services.output import ServiceResult
from melodygan_core.services.sound import (
    MadeSound,
    Samples,
    describe_input,
    encode_sound,
    load_sound,
    safe_name,
    vocode,
    write_sounds,
)


def reconstruct_wav(pipeline: Pipeline, wav: Samples) -> Samples:
    """What codec and vocoder keep of a sound: the ceiling of what is generated with them.

    Args:
        pipeline: On its device.
        wav: (channels, samples) at the pipeline's rate.
    """
    latents, frames = encode_sound(pipeline, wav)
    return vocode(pipeline, pipeline.decode(latents).frames(slice(frames)), wav.shape[1])


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
    path, feature = Path(config.sound), release.pipeline.feature
    wav = load_sound(path, feature, "sound")

    def make() -> Iterator[MadeSound]:
        made = reconstruct_wav(release.pipeline, wav)
        yield MadeSound(f"{safe_name(path)}-reconstructed", made, wav, content_similarity(wav, made, feature))

    facts = {"service": "reconstruct", "inputs": [describe_input(path)]}
    return write_sounds(release, make(), 1, facts, out, overwrite=overwrite, progress=progress)
