"""Metadata in the UI: rounded figures, names with units, one size, a link to every sample."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import dagster as dg
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from melodygan_core.audio import write_wav
from melodygan_core.config import FeatureConfig
from melodygan_core.errors import InputError, TransientError
from melodygan_core.evaluation import music as core
from melodygan_core.metrics import music
from melodygan_core.services.training_sound import heard_steps
from melodygan_core.storage.store import Artifact, Store
from melodygan_core.training.preview import Preview, PreviewCallback
from melodygan_dagster import reporting
from melodygan_dagster.defs import evaluation
from melodygan_dagster.resources import StoreResource


@pytest.fixture
def store(tmp_path: Path) -> StoreResource:
    return StoreResource(root=str(tmp_path))


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (0.8517292509, 0.852),
        (291.6434, 292.0),
        (-3.0978877, -3.1),
        (1.2345e-6, 1.23e-6),
        (16.0, 16.0),
        (0.0, 0.0),
    ],
)
def test_floats_have_three_significant_digits(value: float, expected: float) -> None:
    assert reporting.significant(value) == expected


@given(st.floats(allow_nan=False, allow_infinity=False, min_value=-1e300, max_value=1e300))
def test_rounding_changes_a_value_by_half_a_percent_at_most(value: float) -> None:
    assert abs(reporting.significant(value) - value) <= 0.005001 * abs(value) + 1e-320


def test_figures_keep_exact_numbers_and_drop_what_is_no_single_value() -> None:
    metrics = {"steps": 123_456, "kad": 291.6434, "finite": True, "model": "centre-fe61a3", "history": [1, 2]}
    expected = {"steps": 123_456, "kad": 292.0, "finite": True, "model": "centre-fe61a3"}
    assert reporting.figures(metrics) == expected


def test_a_table_has_rounded_cells_and_lengths_of_sound() -> None:
    made = reporting.table([{"split": "train", "duration_s": 184.3712, "index": 12345}, {"split": "test"}])
    assert isinstance(made, dg.TableMetadataValue)
    assert [r.data for r in made.records] == [
        {"split": "train", "audio_s": 184.0, "index": 12345},
        {"split": "test", "audio_s": "", "index": ""},
    ]
    assert reporting.table([]).value == "none"


def test_only_the_first_of_many_rows_are_shown() -> None:
    made = reporting.first_rows([{"track": str(i)} for i in range(1000)])
    assert isinstance(made, dg.TableMetadataValue)
    assert [r.data["track"] for r in made.records] == [str(i) for i in range(reporting.SHOWN_ROWS)]


def test_a_track_has_one_size_and_a_length_of_sound(store: StoreResource) -> None:
    metrics = {"bytes": 2_822_444, "duration_s": 16.02345, "peak_db": -3.097887}
    assert reporting.file(store.open(), "raw/a.wav", "abc", metrics) == {
        "audio_s": 16.0,
        "peak_db": -3.1,
        "dagster/uri": str(store.open().at("raw/a.wav")),
        "dagster/size_bytes": 2_822_444,
        "sha256": "abc",
    }


def test_an_artifact_tells_computing_time_from_lengths_of_sound(store: StoreResource) -> None:
    metrics = {"duration_s": 28.4321, "train/duration_s": 160.55, "history": [], "steps": 600}
    made = Artifact("vocoder_checkpoint", "v1", "models/v1", "abc", 77, metrics=metrics)
    result = reporting.artifact(made, store, {"curves": "picture"})
    assert result.metadata == {
        "curves": "picture",
        "compute_s": 28.4,
        "train/audio_s": 161.0,
        "steps": 600,
        "dagster/uri": str(store.open().at("models/v1")),
        "dagster/size_bytes": 77,
        "version": "v1",
        "sha256": "abc",
    }
    assert result.data_version == dg.DataVersion("v1")


def test_every_sample_has_a_link_and_the_first_have_a_picture(store: StoreResource, tmp_path: Path) -> None:
    files = [f"sample-{i:03}.wav" for i in range(5)]
    (tmp_path / "samples").mkdir()
    tone = 0.5 * np.sin(np.arange(22_050) * 0.1).astype(np.float32)
    for name in files:
        write_wav(tmp_path / "samples" / name, np.stack([tone, tone]), 22_050)
    found = reporting.samples(store, "samples", files, pictures=2)
    assert [k for k in found if k.startswith("listen")] == [f"listen {name}" for name in files]
    assert found["listen sample-004.wav"].value == "/store/samples/sample-004.wav"
    assert [k for k in found if k.startswith("picture")] == [f"picture {name}" for name in files[:2]]
    picture = store.open().picture("samples/sample-001")
    assert picture.read_bytes().startswith(b"\x89PNG")


def test_an_evaluation_shows_its_music_as_picture_and_table(store: StoreResource, tmp_path: Path) -> None:
    sets = {
        name: music.MeasuredSet([music.Measures({"pulse_clarity": 0.1 * k}) for k in range(5)], range(5))
        for name in core.SETS
    }
    (tmp_path / "evaluations" / "v1").mkdir(parents=True)
    core.write_values(music.values_of(sets, core.REFERENCE), tmp_path / "evaluations" / "v1" / core.VALUES)
    metrics = {"music": music.compare_music(sets, core.REFERENCE)}
    made = Artifact("a_b/evaluation", "v1", "evaluations/v1", "abc", 77, metrics=metrics)
    found = evaluation.music_metadata(made, store)
    assert list(found) == ["music_picture", "music"]
    picture = store.open().picture("evaluations/v1/music")
    assert picture.read_bytes().startswith(b"\x89PNG")
    first = found["music"].records[0].data
    assert (first["measure"], first["real"], first["ks_generated"]) == ("pulse_clarity", 0.2, 0.0)
    # An evaluation of before these measures has neither.
    (tmp_path / "evaluations" / "v0").mkdir()
    older = Artifact("a_b/evaluation", "v0", "evaluations/v0", "abc", 77)
    assert {k: v.value for k, v in evaluation.music_metadata(older, store).items()} == {"music": "none"}


def test_an_error_of_the_core_becomes_a_failure_of_one_sentence() -> None:
    with pytest.raises(dg.Failure) as wrong, reporting.one_sentence_errors():
        raise InputError("count must be positive, got -1")
    assert wrong.value.description == "count must be positive, got -1"
    assert wrong.value.allow_retries is False
    assert wrong.value.__cause__ is None and wrong.value.__suppress_context__
    with pytest.raises(dg.Failure) as later, reporting.one_sentence_errors():
        raise TransientError("the server does not answer")
    assert later.value.allow_retries is True


def test_a_bug_keeps_its_traceback() -> None:
    with pytest.raises(KeyError), reporting.one_sentence_errors():
        raise KeyError("name")


def test_an_error_of_the_disk_is_one_sentence() -> None:
    with pytest.raises(dg.Failure) as full, reporting.one_sentence_errors():
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "store/a.json")
    sentence = "the disk is full (store/a.json); free some space and run again: nothing is lost"
    assert full.value.description == sentence
    assert full.value.allow_retries is True


@pytest.mark.parametrize("asked", ["", "1"])
def test_the_sound_of_validations_is_kept_where_asked_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, asked: str
) -> None:
    monkeypatch.setenv("MELODYGAN_STORE", str(tmp_path / "store"))
    monkeypatch.setenv("MELODYGAN_TRAINING_SOUND", asked)
    monkeypatch.delenv("MELODYGAN_TENSORBOARD", raising=False)

    @dg.asset(key=["temporal", "gan_checkpoint"])
    def trained(context) -> None:  # Dagster reads no annotation that is text.
        callback = reporting.metrics_callback(context)
        callback(100, {"validation/loss": 0.5})
        if isinstance(callback, PreviewCallback):
            callback.preview(100, Preview(FeatureConfig(), wav=torch.sin(torch.arange(4096) / 10)))

    with dg.DagsterInstance.ephemeral() as instance:
        result = dg.materialize([trained], instance=instance)
        [observed] = result.asset_observations_for_node("temporal__gan_checkpoint")
    assert observed.metadata["validation/loss"].value == 0.5
    found = heard_steps(Store(str(tmp_path / "store")), "temporal/gan_checkpoint")
    assert [heard.step for heard in found] == ([100] if asked else [])
