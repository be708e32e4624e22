"""Borders of patches, and the table of several families."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest
import torch

from melodygan_core.config import TemporalGanConfig
from melodygan_core.evaluation import seams, side_by_side
from melodygan_core.generation import Composed, Models, Piece
from tests.core.made import Family

PATCH, TOKEN_FRAMES, PATCHES = 8, 4, 6


def models() -> Models:
    gan = SimpleNamespace(config=TemporalGanConfig(patch_tokens=PATCH), std=torch.full((3,), 2.0))
    return cast(Models, SimpleNamespace(gan=gan, token_frames=TOKEN_FRAMES))


def piece(jump: float) -> Piece:
    """A random walk with a step of its own at every border."""
    rng = np.random.default_rng(0)
    steps = rng.normal(size=(PATCHES * PATCH, 3))
    steps[::PATCH] = jump
    latents = torch.from_numpy(steps.cumsum(axis=0)).float()
    frames = latents.repeat_interleave(TOKEN_FRAMES, dim=0)
    return Piece(0, "", Composed(latents, None, frames.T), np.zeros(1, np.float32))


@pytest.mark.parametrize(("jump", "good"), [(1.0, True), (6.0, False), (0.0, False)])
def test_borders_that_differ_from_what_is_inside_are_seen(jump: float, good: bool) -> None:
    figures = seams(models(), [piece(jump)])
    for what, scale in (("latents", 2.0), ("log_mel", 1.0)):
        assert figures[f"seams/{what}/border"] == pytest.approx(jump / scale, rel=1e-5)
        low, high = (figures[f"seams/{what}/inside_{end}"] for end in ("low", "high"))
        assert (low <= figures[f"seams/{what}/border"] <= high) == good
        assert low < figures[f"seams/{what}/inside"] < high


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


def test_two_vocoders_are_two_ceilings(family: Family, temporal_family: Family) -> None:
    other = replace(
        temporal_family.evaluation, inputs={**temporal_family.evaluation.inputs, "vocoder_checkpoint": "x"}
    )
    rows = [row["family"] for row in side_by_side([family.evaluation, other]) if row["set"] == "vocoder"]
    assert sorted(set(rows)) == ["dense", "temporal"]
