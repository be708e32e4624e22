"""Borders of patches, and the table of several families."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest
import torch

from melodygan_core.config import TemporalGanConfig
from melodygan_core.errors import InputError
from melodygan_core.evaluation import seams, side_by_side, unseen
from melodygan_core.generation import Piece
from melodygan_core.pipeline import Models, PipelineSample
from tests.core.made import Family

TOKEN_FRAMES, BORDERS = 4, 40
CONFIG = TemporalGanConfig(patch_tokens=32)


def models() -> Models:
    gan = SimpleNamespace(config=CONFIG, std=torch.full((3,), 2.0))
    return cast(Models, SimpleNamespace(gan=gan, token_frames=TOKEN_FRAMES))


def piece(jump: float, borders: int = BORDERS) -> Piece:
    """A random walk whose steps at borders are `jump` times as long as elsewhere."""
    rng = np.random.default_rng(0)
    steps = rng.normal(size=(borders * CONFIG.margin, 3))
    steps[:: CONFIG.margin] *= jump
    latents = torch.from_numpy(steps.cumsum(axis=0)).float()
    frames = latents.repeat_interleave(TOKEN_FRAMES, dim=0)
    return Piece(0, "", PipelineSample(latents, None, frames.T), np.zeros(1, np.float32))


@pytest.mark.parametrize(("jump", "good"), [(1.0, True), (1.5, False), (0.6, False)])
def test_borders_that_differ_from_other_places_are_seen(jump: float, good: bool) -> None:
    figures = seams(models(), [piece(jump)])
    for what in ("latents", "log_mel"):
        assert unseen(figures, what) == good, figures
    # Standardised by the deviation, which is 2.
    assert figures["seams/log_mel/border"] == pytest.approx(2 * figures["seams/latents/border"], rel=1e-5)
    assert figures["seams/latents/border"] == pytest.approx(jump * 0.46, rel=0.15)


def test_pieces_without_a_border_are_refused() -> None:
    with pytest.raises(InputError, match="there is no border to look at"):
        seams(models(), [piece(1.0, borders=1)])


def test_a_family_without_patches_has_no_seams(family: Family) -> None:
    assert seams(family.models, []) == {}


def test_families_are_side_by_side_and_what_they_share_is_there_once(
    family: Family, temporal_family: Family
) -> None:
    both = [family.evaluation, temporal_family.evaluation]
    table = side_by_side(both)
    lengths = sorted({row["window_s"] for row in family.evaluation.metrics["table"]})
    expected = [("floor", ""), ("vocoder", "")]
    expected += [(name, f) for name in ("autoencoder", "generated") for f in ("dense", "temporal")]
    assert [(row["window_s"], row["set"], row["family"]) for row in table] == [
        (s, *row) for s in lengths for row in expected
    ]
    for row in table:
        source: dict[str, Any] = next(e for e in both if row["family"] in ("", e.family)).metrics
        own = next(r for r in source["table"] if (r["window_s"], r["set"]) == (row["window_s"], row["set"]))
        assert own.items() <= row.items()


def test_what_was_measured_differently_stands_twice(family: Family, temporal_family: Family) -> None:
    metrics = temporal_family.evaluation.metrics
    changed = [row | {"kad": row["kad"] + 1} if row["set"] == "vocoder" else row for row in metrics["table"]]
    other = replace(temporal_family.evaluation, metrics={**metrics, "table": changed})
    rows = side_by_side([family.evaluation, other])
    assert {row["family"] for row in rows if row["set"] == "vocoder"} == {"dense", "temporal"}
    assert {row["family"] for row in rows if row["set"] == "floor"} == {""}
