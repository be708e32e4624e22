from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path
from typing import cast

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

from melodygan_core import evaluation, latents, metrics
from melodygan_core.dataset import Dataset
from melodygan_core.errors import InputError
from melodygan_core.evaluation.distances import compare
from melodygan_core.evaluation.memorisation import memorisation
from melodygan_core.evaluation.sets import Windows, windows_of
from melodygan_core.generation import Piece, pieces
from melodygan_core.pipeline import Models, PipelineSample
from melodygan_core.prior.gan import LatentGan
from tests.core.made import EVALUATION, FEATURE, GENERATION, Family


def test_every_set_is_in_the_table_beside_the_floor(family: Family) -> None:
    table = family.evaluation.metrics["table"]
    assert [row["window_s"] for row in table] == [s for s in EVALUATION.windows_s for _ in range(4)]
    longer = {row["set"]: row for row in table if row["window_s"] == 1.2}
    rows = {row["set"]: row for row in table if row["window_s"] == 0.7}
    assert list(longer) == list(rows)
    assert list(rows) == ["floor", "vocoder", "autoencoder", "generated"]
    floor = rows.pop("floor")
    assert "excess_kad" not in floor
    for row in rows.values():
        assert row["excess_kad"] == row["kad"] - floor["kad"]
        assert row["excess_kad_low"] <= row["excess_kad_high"]
    for row in (floor, *rows.values()):
        assert row["kad_low"] <= row["kad_high"]
        assert row["n"] > 0
    assert rows["generated"]["tracks"] == 6
    assert floor["tracks"] == rows["vocoder"]["tracks"] == 2
    assert floor["n"] == rows["vocoder"]["n"] == rows["autoencoder"]["n"]
    figures = family.evaluation.metrics
    assert figures["generated/excess_kad"] == rows["generated"]["excess_kad"]
    assert (figures["embedding"], figures["window_s"]) == (metrics.EMBEDDING, 0.7)
    folder = Path(str(family.store.at(family.evaluation.uri)))
    assert pq.read_table(folder / "table.parquet")["set"].to_pylist() == ["floor", *rows] * 2
    assert figures["1.2s/generated/kad"] == longer["generated"]["kad"] != rows["generated"]["kad"]


def test_evaluating_twice_gives_the_same_figures(family: Family, own_family: Family) -> None:
    args = (
        own_family.gan,
        own_family.autoencoder,
        own_family.vocoder,
        own_family.dataset,
        own_family.store,
        EVALUATION,
        GENERATION,
    )
    assert evaluation.evaluate(*args) == family.evaluation
    shutil.rmtree(str(own_family.store.at(own_family.evaluation.uri)))
    assert evaluation.evaluate(*args).metrics == family.evaluation.metrics


def test_it_says_how_what_it_judged_was_made(family: Family) -> None:
    config = family.evaluation.config
    assert (config["generated_count"], config["generation"]["count"]) == (6, 6)
    assert config["generation"]["vocoder"] == "griffin_lim"


def test_real_validation_is_nearer_than_noise(family: Family) -> None:
    data = Dataset(family.store, family.dataset)
    frames = round(0.7 * FEATURE.frame_rate)
    made = list(pieces(family.models, GENERATION))
    sets = {
        k: v
        for k, v in windows_of(data, family.models, made, EVALUATION, 0.7).items()
        if k in ("reference", "floor")
    }
    noise = np.random.default_rng(0).normal(-3, 2, (18, FEATURE.n_mels, frames))
    sets["noise"] = Windows(metrics.embed(noise, FEATURE.frame_rate), np.arange(18) % 3)
    floor, noisy = compare(sets, EVALUATION)
    assert floor["kad"] < noisy["kad"]
    assert noisy["excess_kad"] == noisy["kad"] - floor["kad"] > 0
    assert noisy["coverage"] == 0.0


class _Copier:
    """A generator that knows its training set by heart."""

    def __init__(self, gan: LatentGan, rows: torch.Tensor) -> None:
        self.conditions, self.config, self.rows = gan.conditions, gan.config, rows

    def latents(self, noise: torch.Tensor, condition: int | None) -> torch.Tensor:
        picked = (noise[:, 0].abs() * 1e4).long() % len(self.rows)
        return self.rows[picked]


def test_a_generator_that_copies_is_found_out(family: Family) -> None:
    data, honest = Dataset(family.store, family.dataset), family.models
    table = latents.load(family.latents, family.store)
    rows = torch.from_numpy((table.latents * table.std + table.mean)[table.split == "train", 0])
    copier = replace(honest, gan=cast(LatentGan, _Copier(honest.gan, rows)))
    # Pieces of one segment: in longer ones of the dense family segments fade into each other.
    config = replace(GENERATION, count=8, duration_s=0.35)
    copied = memorisation(data, copier, list(pieces(copier, config)))
    assert copied["memorisation/ratio"] < 0.01
    assert copied["memorisation/validation_p5"] > 0.1
    free = memorisation(data, honest, list(pieces(honest, config)))
    assert free["memorisation/ratio"] > 0.2
    assert free["memorisation/validation_p5"] == copied["memorisation/validation_p5"]


class _Perfect:
    """Models whose autoencoder loses nothing."""

    stems = ("vocals",)

    def reconstruct(self, log_mel: torch.Tensor, *_: object) -> torch.Tensor:
        return log_mel


@pytest.mark.parametrize(("offset", "most"), [(0, 0.001), (8, 0.001), (3, 0.5), (12, 0.5), (29, 0.5)])
def test_a_copy_is_found_wherever_it_begins(family: Family, offset: int, most: float) -> None:
    data, models = Dataset(family.store, family.dataset), cast(Models, _Perfect())
    log_mel = torch.from_numpy(data.log_mel(data.rows("train", ("vocals",)).take(np.arange(6)))).flatten(0, 1)
    composed = PipelineSample(torch.zeros(1, 1), None, log_mel[offset : offset + 4 * FEATURE.segment_frames].T)
    found = memorisation(data, models, [Piece(0, "", composed, np.zeros(1, np.float32))])
    assert found["memorisation/ratio"] < most, found


def test_models_are_not_judged_by_what_they_learned(own_family: Family) -> None:
    store, artifact = own_family.store, own_family.dataset
    models = (own_family.gan, own_family.autoencoder, own_family.vocoder)
    folder = Path(str(store.at(artifact.uri)))
    table = pq.read_table(folder / "tracks.parquet").to_pylist()
    moved = next(row for row in table if row["split"] == "train")
    other = replace(artifact, version="another", uri="dataset/another")
    shutil.copytree(folder, store.base.path + "/dataset/another")
    rows = [row | {"split": "test"} if row is moved else row for row in table]
    pq.write_table(pa.Table.from_pylist(rows), store.base.path + "/dataset/another/tracks.parquet")
    with pytest.raises(InputError, match=f"the models were trained on {moved['track_id']}, now held out"):
        evaluation.evaluate(*models, other, store, EVALUATION, GENERATION)
    shutil.rmtree(folder)
    with pytest.raises(InputError, match=f"dataset {artifact.version} that the models were trained on is gone"):
        evaluation.evaluate(*models, other, store, EVALUATION, GENERATION)


def test_windows_longer_than_any_track_are_refused(family: Family) -> None:
    config = replace(EVALUATION, windows_s=(9.0,), generated_count=2)
    args = (
        family.gan,
        family.autoencoder,
        family.vocoder,
        family.dataset,
        family.store,
        config,
        replace(GENERATION, duration_s=0.1),
    )
    with pytest.raises(InputError, match=r"test has no 9\.0 s of consecutive usable mix segments"):
        evaluation.evaluate(*args)
