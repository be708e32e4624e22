"""What trainings write for TensorBoard, and that it changes nothing of what they train."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from melodygan_core import codec, latents, prior, vocoder
from melodygan_core.config import replace
from melodygan_core.errors import MelodyGANError
from melodygan_core.services.tensorboard import TensorBoard, check_installed
from tests.core.made import (
    DENSE_CODEC,
    DENSE_GAN,
    TEMPORAL_CODEC,
    TEMPORAL_FLOW,
    TEMPORAL_GAN,
    VOCODER,
    Trained,
)

pytestmark = pytest.mark.slow


def short(config: Any) -> Any:
    """A training of two validations that no fixture has done."""
    optimizer = replace(config.optimizer, max_steps=2, eval_every=1, warmup_steps=0, seed=1)
    return replace(config, optimizer=optimizer)


def events(board: TensorBoard) -> EventAccumulator:
    found = EventAccumulator(str(board.folder), size_guidance={"images": 0, "audio": 0})
    found.Reload()
    return found


def test_codec_prior_and_vocoder_write_curves_sound_and_pictures(own_dense: Trained, tmp_path: Path) -> None:
    store, data = own_dense.store, own_dense.dataset
    board = TensorBoard(str(tmp_path / "board"), "temporal/codec")
    checkpoint = codec.train("temporal", data, store, short(TEMPORAL_CODEC), board)
    plain = codec.train("temporal", data, store, short(TEMPORAL_CODEC))
    assert plain == checkpoint, "the callback is no part of the id"
    written = events(board)
    assert [e.step for e in written.Scalars("validation/loss")] == [1, 2]
    first, second = written.Audio("preview")
    assert (first.step, second.step, first.sample_rate) == (1, 2, 22_050)
    assert first.encoded_audio_string.startswith(b"RIFF") and len(first.encoded_audio_string) > 22_050
    assert written.Images("preview")[0].width > 100

    table = latents.encode(checkpoint, data, store)
    boards = [TensorBoard(str(tmp_path), "dense")]
    dense = codec.train("dense", data, store, short(DENSE_CODEC), boards[0])
    for name, latent_table, of, config in (
        ("gan", table, checkpoint, TEMPORAL_GAN),
        ("flow", table, checkpoint, TEMPORAL_FLOW),
        ("gan", latents.encode(dense, data, store), dense, DENSE_GAN),
    ):
        boards.append(TensorBoard(str(tmp_path), f"{of.group}/{name}"))
        prior.train(name, latent_table, of, store, short(config), boards[-1])
    boards.append(TensorBoard(str(tmp_path), "vocoder"))
    vocoder.train(data, store, short(VOCODER), boards[-1])
    for made in boards:
        assert len(events(made).Audio("preview")) == 2, made.folder


def test_previews_change_no_weight(own_dense: Trained, tmp_path: Path) -> None:
    store, table, config = own_dense.store, own_dense.latents, short(DENSE_GAN)
    first = prior.train("gan", table, own_dense.codec, store, config, TensorBoard(str(tmp_path), "x"))
    assert store.remove(store.at(first.uri))
    second = prior.train("gan", table, own_dense.codec, store, config)
    assert second.files == first.files


def test_figures_go_on_to_another_callback(tmp_path: Path) -> None:
    seen: list[tuple[int, dict[str, float]]] = []
    board = TensorBoard(str(tmp_path), "a/b c", lambda step, figures: seen.append((step, figures)))
    assert not board.folder.exists(), "nothing is written before the first validation"
    board(3, {"train/loss": 0.5})
    assert seen == [(3, {"train/loss": 0.5})]
    assert board.folder.parent == tmp_path / "a.b.c"
    assert [(e.step, e.value) for e in events(board).Scalars("train/loss")] == [(3, 0.5)]


def test_a_missing_library_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    check_installed("")
    with pytest.raises(MelodyGANError, match=r"tensorboard=runs needs the extra tensorboard, .*'\.\[tens"):
        check_installed("runs")
