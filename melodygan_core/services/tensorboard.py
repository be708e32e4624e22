"""Curves, sound and pictures of a training, for TensorBoard."""

from __future__ import annotations

import io
import re
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from melodygan_core.errors import require_extra

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch.utils.tensorboard import SummaryWriter

    from melodygan_core.training.preview import Preview

# Of the sound of a spectrum: it is heard while a training runs, and must not hold it up.
_ITERATIONS = 16
_PEAK = 0.9


def check_installed(folder: str) -> None:
    """Checks that TensorBoard is there, if its files are asked for.

    Raises:
        MelodyGANError: it is not; names the extra.
    """
    if folder:
        require_extra(f"tensorboard={folder}", "tensorboard")


class TensorBoard:
    """A MetricsCallback and PreviewCallback that writes the event files of one training.

    Each training gets a folder of its own, so that TensorBoard shows it as a run.

    Args:
        folder: Of all trainings.
        name: Of the training, such as `temporal/gan_checkpoint`.
        also: Called with the same figures.

    Raises:
        MelodyGANError: TensorBoard is not installed.
    """

    def __init__(
        self, folder: str, name: str, also: Callable[[int, dict[str, float]], None] | None = None
    ) -> None:
        check_installed(folder)
        started = datetime.now(UTC).strftime("%Y%m%d-%H%M%S")
        self.folder = Path(folder) / re.sub(r"[^\w-]+", ".", name) / started
        self._also = also

    @cached_property
    def _writer(self) -> SummaryWriter:
        """Writes from the first validation on: what exists already is not trained, and has no run."""
        from torch.utils.tensorboard import SummaryWriter

        return SummaryWriter(str(self.folder))

    def __call__(self, step: int, figures: dict[str, float]) -> None:
        """Writes the figures of a validation."""
        for name, value in figures.items():
            self._writer.add_scalar(name, value, step)
        self._writer.flush()
        if self._also is not None:
            self._also(step, figures)

    def preview(self, step: int, preview: Preview) -> None:
        """Writes the sound and a picture of it."""
        from PIL import Image

        from melodygan_core.audio import plots

        wav, rate = preview_wav(preview), preview.feature.sample_rate
        self._writer.add_audio("preview", wav[None], step, rate)
        picture = Image.open(io.BytesIO(plots.sound_png(wav, rate))).convert("RGB")
        self._writer.add_image("preview", np.asarray(picture), step, dataformats="HWC")
        self._writer.flush()


def preview_wav(preview: Preview) -> np.ndarray:
    """The sound of a preview (samples,), float32, at one peak; silence stays silent."""
    from melodygan_core.config import GriffinLimConfig
    from melodygan_core.vocoder import GriffinLim

    if preview.wav is not None:
        wav = preview.wav
    else:
        assert preview.spectrum is not None, "a preview has a spectrum or a sound"
        griffin_lim = GriffinLim(preview.feature, GriffinLimConfig(iterations=_ITERATIONS))
        wav = griffin_lim(preview.spectrum.T[None], 0)[0]
    return (wav * (_PEAK / wav.abs().max().clamp_min(1e-4))).float().numpy()
