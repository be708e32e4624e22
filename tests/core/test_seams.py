"""Borders of what the generator makes at once, and the table of several pipelines."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from melodygan_core.errors import InputError
from melodygan_core.evaluation import inside_spread, seams, side_by_side
from tests.core.made import Trained

BORDER_TOKENS, TOKEN_FRAMES, BORDERS = 8, 4, 80


def walk(jump: float, borders: int = BORDERS) -> NDArray[np.float64]:
    """A random walk (tokens, 3) whose steps at borders are `jump` times as long as elsewhere."""
    steps = np.random.default_rng(0).normal(size=(borders * BORDER_TOKENS, 3))
    steps[::BORDER_TOKENS] *= jump
    return steps.cumsum(axis=0)


@pytest.mark.parametrize(("jump", "inside"), [(1.0, True), (1.5, False), (0.6, False)])
def test_borders_that_differ_from_other_neighbours_are_found(jump: float, inside: bool) -> None:
    tokens = walk(jump)
    figures = seams([tokens], [3 * tokens.repeat(TOKEN_FRAMES, axis=0)], BORDER_TOKENS, TOKEN_FRAMES)
    for what in ("latents", "log_mel"):
        assert inside_spread(figures, what) == inside, figures
    assert figures["seams/log_mel/border"] == pytest.approx(3 * figures["seams/latents/border"], rel=1e-9)
    # The RMS of three standard normal values is 0.92 on average.
    assert figures["seams/latents/border"] == pytest.approx(jump * 0.92, rel=0.15)


def test_the_figures_are_mean_steps_by_distance_from_a_border() -> None:
    # Steps into tokens 1 to 8, with a border before tokens 3 and 6.
    steps = [1.0, 2.0, 9.0, 3.0, 4.0, 7.0, 5.0, 6.0]
    tokens = np.cumsum([0.0, *steps])[:, None]
    figures = seams([tokens], [tokens], border_tokens=3, token_frames=1)
    assert figures["seams/latents/border"] == (9 + 7) / 2
    assert figures["seams/latents/inside_low"] == (1 + 3 + 5) / 3
    assert figures["seams/latents/inside_high"] == (2 + 4 + 6) / 3


@pytest.mark.parametrize("pieces", [[], [walk(1.0, borders=1)]])
def test_pieces_without_a_border_are_refused(pieces: list[NDArray[np.float64]]) -> None:
    with pytest.raises(InputError, match="more than 8 tokens, to have a border"):
        seams(pieces, pieces, BORDER_TOKENS, 1)
    with pytest.raises(InputError, match="border_tokens"):
        seams(pieces, pieces, 1, 1)


def test_pipelines_are_side_by_side_with_shared_rows_once(dense: Trained, temporal_trained: Trained) -> None:
    both = [dense.evaluation, temporal_trained.evaluation]
    table = side_by_side(both)
    lengths = sorted({row["window_s"] for row in dense.evaluation.metrics["table"]})
    expected = [("real_baseline", ""), ("vocoder", "")]
    expected += [(name, p) for name in ("codec", "generated") for p in ("dense_gan", "temporal_gan")]
    assert [(row["window_s"], row["set"], row["pipeline"]) for row in table] == [
        (s, *row) for s in lengths for row in expected
    ]
    for row in table:
        source: dict[str, Any] = next(e for e in both if row["pipeline"] in ("", e.group)).metrics
        own = next(r for r in source["table"] if (r["window_s"], r["set"]) == (row["window_s"], row["set"]))
        assert own.items() <= row.items()


def test_a_set_with_other_figures_appears_once_per_pipeline(dense: Trained, temporal_trained: Trained) -> None:
    metrics = temporal_trained.evaluation.metrics
    changed = [row | {"kad": 1.0} if row["set"] == "vocoder" else row for row in metrics["table"]]
    other = replace(temporal_trained.evaluation, metrics={**metrics, "table": changed})
    rows = side_by_side([dense.evaluation, other])
    assert {row["pipeline"] for row in rows if row["set"] == "vocoder"} == {"dense_gan", "temporal_gan"}
    assert {row["pipeline"] for row in rows if row["set"] == "real_baseline"} == {""}
