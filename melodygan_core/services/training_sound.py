"""Keeps what a model makes at each validation of its training, so that one can listen to how it learns."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from melodygan_core.storage import Store, replacing
from melodygan_core.storage.kinds import TRAINING_SOUND

if TYPE_CHECKING:
    from melodygan_core.training.preview import Preview


@dataclass(frozen=True)
class HeardStep:
    """The sound of one validation.

    Attributes:
        asset: What was trained, such as `temporal/gan_checkpoint`.
        step: Optimizer updates so far.
        uri: Of the wav, relative to the store's root; on this machine.
        made_at: In seconds since 1970.
    """

    asset: str
    step: int
    uri: str
    made_at: float

    @property
    def id(self) -> str:
        """17 characters that stand for this content: a later training writes to the same file."""
        return "t" + hashlib.sha256(f"{self.uri} {self.made_at}".encode()).hexdigest()[:16]


class TrainingSound:
    """A MetricsCallback and PreviewCallback that writes a wav per validation into a store's scratch.

    Args:
        store: Whose scratch it is.
        asset: What is trained.
        also: Called with the same figures, and with the previews if it takes them.
    """

    def __init__(self, store: Store, asset: str, also: Callable[[int, dict[str, float]], None]) -> None:
        self._store, self._asset, self._also = store, asset, also

    def __call__(self, step: int, figures: dict[str, float]) -> None:
        """Passes the figures of a validation on."""
        self._also(step, figures)

    def preview(self, step: int, preview: Preview) -> None:
        """Writes the sound of a validation, and passes it on."""
        from melodygan_core.audio import write_wav
        from melodygan_core.services.tensorboard import preview_wav
        from melodygan_core.training.preview import PreviewCallback

        target = _path(self._store, self._asset, str(step))
        with replacing(target) as temporary:
            write_wav(temporary, preview_wav(preview), preview.feature.sample_rate)
        if isinstance(self._also, PreviewCallback):
            self._also.preview(step, preview)


def _path(store: Store, asset: str, step: str) -> Path:
    return Path(store.locate(TRAINING_SOUND.uri(asset=asset, step=step)).path)


def heard_steps(store: Store, asset: str) -> list[HeardStep]:
    """The sounds of an asset's last training on this machine, the first step first.

    Args:
        store: Whose scratch it is.
        asset: Of a planned training; never a stranger's text.
    """
    folder = _path(store, asset, "0").parent
    found = []
    for path in folder.glob("*.wav") if folder.is_dir() else ():
        if path.stem.isascii() and path.stem.isdigit():
            uri = TRAINING_SOUND.uri(asset=asset, step=path.stem)
            found.append(HeardStep(asset, int(path.stem), uri, path.stat().st_mtime))
    # The newest first: where the step is not lower than that of the one after it, an earlier training ended.
    found.sort(key=lambda heard: -heard.made_at)
    last: list[HeardStep] = []
    for heard in found:
        if last and heard.step >= last[-1].step:
            break
        last.append(heard)
    return last[::-1]
