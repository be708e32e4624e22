"""The plan table of a store, and a prior that is trained with it."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from melodygan_core import audio, latents, plan, prior
from melodygan_core.config import to_dict
from melodygan_core.dataset import Dataset
from melodygan_core.errors import InputError
from melodygan_core.maintenance.erasure.removal import _remove_derived
from melodygan_core.plan.plan import COLUMNS
from melodygan_core.plan.table import aligned, name_of, tabulate, track_plan
from melodygan_core.storage import Artifact, Store
from tests.core.made import TEMPORAL_PLAN, Trained

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def table(temporal_trained: Trained) -> Artifact:
    return tabulate(temporal_trained.codec, temporal_trained.dataset, temporal_trained.store)


def test_plans_are_those_of_the_tracks(temporal_trained: Trained, table: Artifact) -> None:
    store = temporal_trained.store
    assert table.name == name_of("temporal") == "temporal/plan_table"
    assert tabulate(temporal_trained.codec, temporal_trained.dataset, store) == table
    assert table.inputs == {"feature_table": temporal_trained.dataset.version}
    data = Dataset(store, temporal_trained.dataset)
    assert table.metrics["plans"] == len(data.tracks) and table.metrics["finite"] is True
    track_id = data.tracks[0]["track_id"]
    with store.reading(store.raw_wav(track_id)) as path:
        wav, rate = audio.read_wav(path)
    made = track_plan(table, store, track_id, "mix")
    grid = plan.codec_grid(data.feature, temporal_trained.codec.config["token_frames"])
    expected = plan.extract(audio.to_mono(wav), rate, grid, len(made))
    assert made.grid == grid and made.given == expected.given
    assert all(np.array_equal(getattr(made, n), getattr(expected, n)) for n in COLUMNS)
    with pytest.raises(InputError, match="track must be a track of temporal/plan_table with the stem mix"):
        track_plan(table, store, "nobody", "mix")


def test_plans_lie_beside_their_latents(temporal_trained: Trained, table: Artifact) -> None:
    store = temporal_trained.store
    rows = latents.load(temporal_trained.latents, store)
    values = aligned(table, rows, store)
    count, tokens = rows.latents.shape[:2]
    assert values.shape == (count, tokens, plan.CHANNELS)
    for row in (0, count // 2, count - 1):
        made = track_plan(table, store, str(rows.track_id[row]), "mix")
        first = int(rows.index[row]) * tokens
        wanted = plan.channels(made.crop(first, first + tokens))
        np.testing.assert_allclose(values[row], wanted, atol=1e-3)
    strange = replace(rows, track_id=np.array(["nobody"] * count))
    with pytest.raises(InputError, match="must have the plan of mix of nobody: make the table again"):
        aligned(table, strange, store)
    other = replace(rows, latents=rows.latents.repeat(2, axis=1))
    with pytest.raises(
        InputError, match=r"plan_table must be of 8, as the latents, got '4 tokens per segment'"
    ):
        aligned(table, other, store)


def test_a_prior_is_trained_with_plans_and_checked(own_temporal: Trained, table: Artifact) -> None:
    store, parts = own_temporal.store, (own_temporal.latents, own_temporal.codec, own_temporal.store)
    own = tabulate(own_temporal.codec, own_temporal.dataset, store)
    assert own.version == table.version
    with pytest.raises(InputError, match="plan_table must be given for temporal/plan, which follows plans"):
        prior.train("plan", *parts, TEMPORAL_PLAN)
    made = prior.train("plan", *parts, TEMPORAL_PLAN, plan_table=own)
    assert made.name == "temporal/plan_checkpoint"
    assert made.inputs["temporal/plan_table"] == own.version
    assert made.config == to_dict(TEMPORAL_PLAN)
    assert prior.train("plan", *parts, TEMPORAL_PLAN, plan_table=own) == made
    health = prior.check_collapse(made, own_temporal.latents, own_temporal.codec, store, plan_table=own)
    assert health.finite
    with store.reading(store.at(made.uri)) as folder:
        loaded = prior.load(folder)
    assert "plan" in loaded.capabilities and loaded.config == TEMPORAL_PLAN


def test_a_forgotten_track_leaves_no_plan(own_temporal: Trained) -> None:
    store: Store = own_temporal.store
    made = tabulate(own_temporal.codec, own_temporal.dataset, store)
    track_id = Dataset(store, own_temporal.dataset).tracks[0]["track_id"]
    removed = _remove_derived(store, {track_id})
    assert made.uri in removed and own_temporal.latents.uri in removed
    assert not store.at(made.uri).exists()
