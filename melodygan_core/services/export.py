"""A release in other forms: ONNX networks, and a radio for the browser."""

from __future__ import annotations

from pathlib import Path

from melodygan_core.export.manifest import ExportManifest
from melodygan_core.export.onnx_release import write_onnx
from melodygan_core.export.web import ort, radio
from melodygan_core.progress import Progress
from melodygan_core.release import Release
from melodygan_core.services.output import output_folder


def export_onnx(release: Release, out: Path, progress: Progress | None = None) -> ExportManifest:
    """Writes a release as ONNX networks with a manifest; see `export.onnx_release`.

    Args:
        release: On the CPU.
        out: A new or empty folder.
        progress: Called after every network.

    Raises:
        InputError: a release that cannot be exported, or a folder that is not empty.
        MelodyGANError: onnxruntime makes something else of a network than torch.
    """
    with output_folder(out) as folder:
        return write_onnx(release, folder, progress)


def export_radio(
    release: Release, out: Path, registry: str, ort_folder: Path | None = None, progress: Progress | None = None
) -> ExportManifest:
    """Writes a release as a static folder that makes endless music in a browser; see `export.web`.

    Args:
        release: On the CPU.
        out: A new or empty folder.
        registry: URL of the npm registry that has onnxruntime-web.
        ort_folder: Folder that keeps the files of onnxruntime-web; the user's cache by default.
        progress: Called after every network.

    Raises:
        InputError: a release whose sound a browser cannot make, or a folder that is not empty.
        TransientError: the files of onnxruntime-web are not kept yet, and npm cannot be reached.
        MelodyGANError: onnxruntime makes something else of a network than torch.
    """
    radio.check_radio(release)
    files = ort.files(registry, ort_folder)
    with output_folder(out) as folder:
        return radio.write_radio(release, folder, files, progress)
