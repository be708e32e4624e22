"""New pieces from an exported release, as files with provenance. Nothing here needs torch."""

from __future__ import annotations

from pathlib import Path

from melodygan_core import piece_files
from melodygan_core.config import GenerationConfig, require
from melodygan_core.export.runtime.pipeline import ExportedPipeline
from melodygan_core.progress import Progress
from melodygan_core.services.output import ServiceResult, SoundFile, output_folder


def open_export(folder: Path, vocoder: str = "", device: str = "auto") -> ExportedPipeline:
    """The pipeline of an exported folder.

    Args:
        folder: With an `export.json`.
        vocoder: `neural` or `griffin_lim`; the release's own when empty.
        device: `auto` or `cpu`.

    Raises:
        InputError: no export, changed since it was written or damaged, or another device.
    """
    require(device in ("auto", "cpu"), "device", device, "auto or cpu with an exported release")
    return ExportedPipeline(folder, vocoder)


def generate(
    exported: ExportedPipeline,
    config: GenerationConfig,
    out: Path,
    *,
    overwrite: bool = False,
    progress: Progress | None = None,
) -> ServiceResult:
    """Writes new pieces, those that the release makes of the same seed; see `services.generate`.

    Args:
        exported: Makes them.
        config: How many, how long, which seed.
        out: A new or empty folder.
        overwrite: Replace a folder that holds something.
        progress: Called after every piece.

    Raises:
        InputError: pieces shorter than a sample, an unknown condition, or a folder that is not empty.
    """
    manifest = exported.manifest
    rate = manifest.feature.sample_rate
    require(round(config.duration_s * rate) > 0, "duration_s", config.duration_s, f"{1 / rate:g} or more")
    if config.condition:
        piece_files.condition_index(exported.conditions, config.condition)
    with output_folder(out, overwrite=overwrite) as folder:
        made = exported.pieces(config)
        rows = piece_files.write_pieces(made, config, rate, folder, manifest.provenance, progress)
    return ServiceResult([SoundFile.from_row(row) for row in rows], list(manifest.sources.licences))
