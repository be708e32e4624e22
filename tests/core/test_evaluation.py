"""Evaluation: the table of sets, memorisation, what figures were measured on, and refusals."""

from __future__ import annotations

import dataclasses
import json
import shutil
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

from melodygan_core import evaluation, latents, metrics
from melodygan_core.codec import Features
from melodygan_core.config import GenerationConfig, replace
from melodygan_core.dataset import Dataset, Rows, SpanDataset
from melodygan_core.errors import InputError
from melodygan_core.evaluation.distances import SETUP, compare, measurement_setup, to_table
from melodygan_core.evaluation.memorisation import choose_evenly, memorisation, nearest_segments
from melodygan_core.evaluation.sets import Windows, windows_of
from melodygan_core.features import mels_of_spectrum
from melodygan_core.generation import pieces
from melodygan_core.pipeline import Pipeline
from melodygan_core.prior import LatentSpace, Prior
from melodygan_core.progress import ProgressEvent
from tests.core.made import EVALUATION, FEATURE, GENERATION, Trained

ORDER = ["real_baseline", "vocoder", "codec", "generated"]
FIGURES = (
    *(f"{name}{end}" for name in ("kad", "excess_kad") for end in ("", "_low", "_high")),
    "fad_inf",
    "density",
    "coverage",
)


def windows(tracks: int, each: int, seed: int, shift: float = 0.0) -> Windows:
    """Windows of tracks with a random mean per track."""
    rng = np.random.default_rng(seed)
    rows = rng.standard_normal((tracks, 1, 8)) + 0.5 * rng.standard_normal((tracks, each, 8)) + shift
    return Windows(rows.reshape(-1, 8), np.repeat(np.arange(tracks), each))


def many_tracks() -> dict[str, Windows]:
    """A reference, a real baseline and two generated sets, of which one is shifted."""
    return {
        "reference": windows(7, 10, 0),
        "real_baseline": windows(6, 10, 1),
        "alike": windows(40, 3, 2),
        "shifted": windows(40, 3, 3, shift=1.0),
    }


def test_every_set_is_compared_by_track_and_beside_the_real_baseline() -> None:
    sets = many_tracks()
    rows = {row["set"]: row for row in compare(sets, EVALUATION)}
    assert list(rows) == ["real_baseline", "alike", "shifted"]
    reference, baseline = sets["reference"], rows["real_baseline"]
    sigma = metrics.median_distance(reference.embeddings, reference.groups)
    for name, row in rows.items():
        members = sets[name]
        expected = metrics.kad(
            reference.embeddings, members.embeddings, reference.groups, members.groups, sigma
        )
        assert row["kad"] == pytest.approx(expected, rel=1e-9)
        assert row["kad_low"] <= row["kad"] <= row["kad_high"]
        assert (row["n"], row["tracks"]) == (len(members.embeddings), len(np.unique(members.groups)))
        assert 0 <= row["coverage"] <= 1 and row["density"] >= 0
        assert row["note"] == ""
        if name != "real_baseline":
            assert row["excess_kad"] == row["kad"] - baseline["kad"]
            assert row["excess_kad_low"] <= row["excess_kad"] <= row["excess_kad_high"]
    assert baseline["excess_kad"] is None
    assert rows["alike"]["kad"] < rows["shifted"]["kad_low"]
    # 120 rows of 8 dimensions are enough for FAD, 60 are not.
    assert rows["alike"]["fad_inf"] < rows["shifted"]["fad_inf"]
    assert baseline["fad_inf"] is None


@pytest.mark.parametrize(("tracks", "enough"), [(4, False), (5, True)])
def test_fewer_than_five_tracks_are_not_compared(tracks: int, enough: bool) -> None:
    note = "" if enough else f"too few tracks to compare ({tracks} of at least 5)"
    few = windows(tracks, 10, 4)
    of_set = {row["set"]: row for row in compare(many_tracks() | {"alike": few}, EVALUATION)}
    assert of_set["alike"]["note"] == note
    assert (of_set["alike"]["kad"] is not None) == enough
    assert of_set["shifted"]["kad"] is not None
    # A reference of too few tracks leaves no figure at all.
    rows = compare(many_tracks() | {"reference": few}, EVALUATION)
    assert {row["note"] for row in rows} == {note}
    if not enough:
        assert {row[figure] for row in rows for figure in FIGURES} == {None}
    # A baseline of too few leaves distances, but no excess over it.
    rows = compare(many_tracks() | {"real_baseline": few}, EVALUATION)
    assert [row["kad"] is not None for row in rows] == [enough, True, True]
    assert [row["excess_kad"] is not None for row in rows] == [False, enough, enough]
    assert rows[1]["note"] == (note and f"no excess over the real baseline: {note}")


def test_missing_figures_survive_json_and_parquet(tmp_path: Path) -> None:
    rows = [
        {"window_s": 3.0, **row} for row in compare(many_tracks() | {"alike": windows(3, 10, 4)}, EVALUATION)
    ]
    assert json.loads(json.dumps(rows, allow_nan=False)) == rows
    pq.write_table(to_table(rows), tmp_path / "table.parquet")
    assert pq.read_table(tmp_path / "table.parquet").to_pylist() == rows
    # A table in which nothing can be compared has the same columns of the same types.
    empty = [
        {"window_s": 3.0, **row} for row in compare(many_tracks() | {"reference": windows(2, 9, 5)}, EVALUATION)
    ]
    assert to_table(empty).schema == to_table(rows).schema
    assert to_table(empty)["excess_kad"].null_count == 3


def test_an_evaluation_of_few_tracks_has_a_table_without_figures(dense: Trained) -> None:
    table, figures = dense.evaluation.metrics["table"], dense.evaluation.metrics
    assert [(row["window_s"], row["set"]) for row in table] == [
        (s, name) for s in EVALUATION.windows_s for name in ORDER
    ]
    for row in table:
        assert row["note"] == "too few tracks to compare (2 of at least 5)"
        assert row["n"] > 0
        assert {row[figure] for figure in FIGURES} == {None}
    counts = {row["set"]: (row["n"], row["tracks"]) for row in table if row["window_s"] == 0.7}
    assert counts["real_baseline"] == counts["vocoder"] == counts["codec"]
    assert (counts["real_baseline"][1], counts["generated"][1]) == (2, 6)
    assert (figures["generated/kad"], figures["1.2s/codec/kad"]) == (None, None)
    folder = Path(str(dense.store.at(dense.evaluation.uri)))
    assert pq.read_table(folder / "table.parquet").to_pylist() == table


def test_an_evaluation_records_what_it_was_measured_on(dense: Trained) -> None:
    figures, data = dense.evaluation.metrics, Dataset(dense.store, dense.dataset)
    tested = [t["track_id"] for t in data.tracks if t["split"] == "test"]
    assert len(tested) == 2
    generation = replace(GENERATION, count=6, seed=EVALUATION.seed)
    recorded = measurement_setup(tested[::-1], ("mix",), FEATURE, EVALUATION, generation)
    assert set(recorded) == set(SETUP)
    assert {name: figures[name] for name in SETUP} == recorded
    assert (figures["split_by"], figures["artists_in_several_splits"]) == ("recording", 0)
    assert (figures["embedding"], figures["window_s"], figures["stems"]) == (metrics.EMBEDDING, 0.7, "mix")
    others = [
        measurement_setup(tested[:1], ("mix",), FEATURE, EVALUATION, generation),
        measurement_setup(tested, ("vocals",), FEATURE, EVALUATION, generation),
        measurement_setup(tested, ("mix",), replace(FEATURE, n_mels=20), EVALUATION, generation),
        measurement_setup(tested, ("mix",), FEATURE, replace(EVALUATION, windows_s=(1.2,)), generation),
        measurement_setup(tested, ("mix",), FEATURE, replace(EVALUATION, max_windows=9), generation),
        measurement_setup(tested, ("mix",), FEATURE, EVALUATION, replace(generation, truncation=1.0)),
    ]
    for other in others:
        assert sum(other[name] != recorded[name] for name in SETUP) == 1


def test_evaluating_twice_gives_the_same_figures(dense: Trained, own_dense: Trained) -> None:
    args = (own_dense.artifacts, own_dense.dataset, own_dense.store, EVALUATION, GENERATION)
    events: list[ProgressEvent] = []
    assert evaluation.evaluate(*args, events.append) == dense.evaluation
    assert events == []
    shutil.rmtree(str(own_dense.store.at(own_dense.evaluation.uri)))
    assert evaluation.evaluate(*args, events.append).metrics == dense.evaluation.metrics
    assert [(event.done, event.total) for event in events] == [(k, 6) for k in range(7)]


def test_its_config_holds_the_settings_of_the_generated_pieces(dense: Trained) -> None:
    config = dense.evaluation.config
    assert (config["generated_count"], config["generation"]["count"]) == (6, 6)
    assert config["generation"]["seed"] == config["seed"] == EVALUATION.seed
    assert dense.evaluation.name == "dense_gan/evaluation"
    assert dense.evaluation.inputs == {**dense.artifacts.inputs, "feature_table": dense.dataset.version}


def test_real_validation_is_nearer_than_noise(dense: Trained) -> None:
    data = Dataset(dense.store, dense.dataset)
    frames = round(0.7 * FEATURE.frame_rate)
    pipeline = dense.open()
    sets = windows_of(data, pipeline, list(pieces(pipeline, GENERATION)), EVALUATION, 0.7)
    reference, baseline = sets["reference"], sets["real_baseline"]
    rng = np.random.default_rng(0)
    noise = metrics.embed(rng.normal(-3, 2, (18, FEATURE.n_mels, frames)), FEATURE.frame_rate)
    real, noisy = (
        metrics.kad(reference.embeddings, s.embeddings, reference.groups, s.groups)
        for s in (baseline, Windows(noise, np.arange(18)))
    )
    assert real < noisy
    assert metrics.density_coverage(reference.embeddings, noise, 3)[1] == 0.0


class _Copier(Prior):
    """A prior that returns training latents (n, latent_dim)."""

    def __init__(self, prior: Prior, rows: torch.Tensor) -> None:
        super().__init__(prior.config, LatentSpace(prior.latent_mean, prior.latent_std, prior.conditions))
        self.rows = rows

    def sample(
        self, tokens: int, seed: int, condition: int | None = None, truncation: float = 0.0
    ) -> torch.Tensor:
        return self.rows[
            torch.randint(len(self.rows), (tokens,), generator=torch.Generator().manual_seed(seed))
        ]


def memorised(data: Dataset, pipeline: Pipeline, config: GenerationConfig, **limits: int) -> dict[str, float]:
    """The memorisation figures of generated pieces."""
    made = [mels_of_spectrum(FEATURE)(piece.sample.decoded.spectrum[0]) for piece in pieces(pipeline, config)]
    return memorisation(
        data, pipeline.stems, lambda features: pipeline.reconstruct(features).spectrum, made, **limits
    )


def test_a_prior_that_copies_is_detected(dense: Trained) -> None:
    data, honest = Dataset(dense.store, dense.dataset), dense.open()
    table = latents.load(dense.latents, dense.store)
    rows = torch.from_numpy((table.latents * table.std + table.mean)[table.split == "train", 0])
    copier = Pipeline("copier", honest.codec, _Copier(honest.prior, rows), honest.vocode, honest.device)
    # Pieces of one segment: in longer ones of the dense codec, segments fade into each other.
    config = replace(GENERATION, count=8, duration_s=0.35)
    copied = memorised(data, copier, config)
    assert copied["memorisation/ratio"] < 0.01
    assert copied["memorisation/validation_p5"] > 0.1
    free = memorised(data, honest, config)
    assert free["memorisation/ratio"] > 0.2
    assert free["memorisation/validation_p5"] == copied["memorisation/validation_p5"]
    # A small library is searched in full, and the ratio is that of the 5th percentiles.
    assert free["memorisation/compared_segments"] == free["memorisation/compared_segments_of"]
    assert free["memorisation/percentile"] == 5
    p5 = [free[f"memorisation/{name}_p5"] for name in ("generated", "validation")]
    assert free["memorisation/ratio"] == p5[0] / p5[1]


def mels_of(data: Dataset, rows: Rows) -> torch.Tensor:
    """Log-mel (frames, n_mels) of consecutive rows, as it is compared."""
    return mels_of_spectrum(FEATURE)(torch.from_numpy(data.column(rows, "log_bands")).flatten(0, 1))


def unchanged(features: Features) -> torch.Tensor:
    """A codec that loses nothing."""
    return features["log_bands"]


@pytest.mark.parametrize(("offset", "most"), [(0, 0.001), (8, 0.001), (3, 0.5), (12, 0.5), (29, 0.5)])
def test_a_copy_is_found_wherever_it_begins(dense: Trained, offset: int, most: float) -> None:
    data = Dataset(dense.store, dense.dataset)
    log_mel = mels_of(data, data.rows("train", ("vocals",)).take(np.arange(6)))
    copy = log_mel[offset : offset + 4 * FEATURE.segment_frames]
    found = memorisation(data, ("vocals",), unchanged, [copy])
    assert found["memorisation/ratio"] < most, found


def test_a_sampled_search_finds_a_copy_of_a_track_that_it_searches(dense: Trained) -> None:
    data = Dataset(dense.store, dense.dataset)
    spans = SpanDataset(data, "train", ("vocals",))
    lengths = [span.segments for span in spans.all]
    budget = sum(lengths) // 2
    searched = {index for index, _ in choose_evenly(lengths, budget)}
    assert 0 < len(searched) < len(lengths)
    size = FEATURE.segment_frames // 8
    ratios: dict[bool, list[float]] = {True: [], False: []}
    for index, span in enumerate(spans.all):
        spectrum = torch.from_numpy(spans.read(span, "log_bands", 0, 2 * FEATURE.segment_frames))
        copy = mels_of_spectrum(FEATURE)(spectrum)
        figures = memorisation(data, ("vocals",), unchanged, [copy], max_database_bins=budget * size)
        ratios[index in searched].append(figures["memorisation/ratio"])
        share = figures["memorisation/compared_segments"] / figures["memorisation/compared_segments_of"]
        assert 0.3 < share < 0.6
        assert figures["memorisation/percentile"] == pytest.approx(5 * share)
    assert max(ratios[True]) < 0.001
    assert min(ratios[False]) > 0.1


def test_the_work_of_a_search_is_bounded(dense: Trained) -> None:
    data = Dataset(dense.store, dense.dataset)
    size = FEATURE.segment_frames // 8
    copy = mels_of(data, data.rows("train", ("vocals",)).take(np.arange(40)))
    decoded = []

    def counted(features: Features) -> torch.Tensor:
        decoded.append(features["log_bands"].shape[1])
        return features["log_bands"]

    full = memorisation(data, ("vocals",), counted, [copy])
    everything = sum(decoded)
    decoded.clear()
    small = memorisation(data, ("vocals",), counted, [copy], max_queries=5, max_database_bins=10 * size)
    assert small["memorisation/generated_segments"] == small["memorisation/validation_segments"] == 5
    assert small["memorisation/comparisons"] <= 2 * 5 * 10 * size
    assert full["memorisation/comparisons"] > 20 * small["memorisation/comparisons"]
    # What is not searched is not decoded either: validation, and ten segments of training.
    validation = sum(len(s) for s in [data.rows("validation", ("vocals",))])
    assert sum(decoded) == (validation + 10) * FEATURE.segment_frames < everything


@pytest.mark.parametrize("tracks", [10, 1000, 100_000])
def test_a_sample_of_sequences_is_even_and_does_not_grow(tracks: int) -> None:
    lengths = [300 + k % 7 for k in range(tracks)]
    chosen = choose_evenly(lengths, 6000)
    assert sum(length for _, length in chosen) == min(6000, sum(lengths))
    assert chosen == sorted(chosen) == choose_evenly(lengths, 6000)
    if tracks > 20:
        gaps = np.diff([0, *(index for index, _ in chosen), tracks])
        assert len(chosen) == 20 and gaps.max() < 2.7 * tracks / 20
    else:
        assert chosen == list(enumerate(lengths))


def test_nearest_segments_are_exact() -> None:
    rng = np.random.default_rng(0)
    database = [torch.from_numpy(rng.standard_normal((n, 3))) for n in (9, 2, 30)]
    queries = {
        "copy": database[2][7:11][None].clone(),
        "other": torch.from_numpy(rng.standard_normal((5, 4, 3))),
    }
    found = nearest_segments(queries, database, 4)
    positions = [s[k : k + 4] for s in database for k in range(len(s) - 3)]
    assert (found.positions, found.comparisons) == (len(positions), 6 * len(positions)) == (33, 198)
    for name, segments in queries.items():
        expected = [min(float((p - q).square().sum().sqrt()) for p in positions) for q in segments]
        np.testing.assert_allclose(found.distances[name], expected, atol=1e-6)
    assert float(found.distances["copy"]) == pytest.approx(0, abs=1e-6)
    with pytest.raises(InputError, match="at least 4 bins"):
        nearest_segments(queries, database[1:2], 4)


def test_models_are_not_evaluated_on_their_training_tracks(own_dense: Trained) -> None:
    store, artifact = own_dense.store, own_dense.dataset
    artifacts = own_dense.artifacts
    folder = Path(str(store.at(artifact.uri)))
    table = pq.read_table(folder / "tracks.parquet").to_pylist()
    moved = next(row for row in table if row["split"] == "train")
    other = dataclasses.replace(artifact, version="another", uri="dataset/another")
    shutil.copytree(folder, store.base.path + "/dataset/another")
    rows = [row | {"split": "test"} if row is moved else row for row in table]
    pq.write_table(pa.Table.from_pylist(rows), store.base.path + "/dataset/another/tracks.parquet")
    with pytest.raises(InputError, match=f"the models were trained on {moved['track_id']}, now held out"):
        evaluation.evaluate(artifacts, other, store, EVALUATION, GENERATION)
    shutil.rmtree(folder)
    with pytest.raises(InputError, match=f"dataset {artifact.version} that the models were trained on is gone"):
        evaluation.evaluate(artifacts, other, store, EVALUATION, GENERATION)


def test_windows_longer_than_any_track_are_refused(dense: Trained) -> None:
    config = replace(EVALUATION, windows_s=(9.0,), generated_count=2)
    generation = replace(GENERATION, duration_s=0.1)
    with pytest.raises(InputError, match=r"test .*9\.0 s of consecutive usable mix segments"):
        evaluation.evaluate(dense.artifacts, dense.dataset, dense.store, config, generation)


def test_only_a_prior_with_borders_is_measured_at_them(dense: Trained, temporal_trained: Trained) -> None:
    assert dense.open().prior.border_tokens == 0 < temporal_trained.open().prior.border_tokens
    names = [{k for k in t.evaluation.metrics if k.startswith("seams/")} for t in (dense, temporal_trained)]
    assert names[0] == set() and len(names[1]) > 0
    assert all(np.isfinite(temporal_trained.evaluation.metrics[k]) for k in names[1])


def test_vocoder_and_codec_have_pitch_figures(dense: Trained) -> None:
    figures = dense.evaluation.metrics
    assert {k.partition("/")[0] for k in figures if "/pitch/" in k} == {"vocoder", "codec"}
    assert figures["codec/pitch/pairs"] == figures["vocoder/pitch/pairs"] == 2
