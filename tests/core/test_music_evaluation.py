"""The measures of music in an evaluation: sets, rows, values and pictures."""

from __future__ import annotations

import io
import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from melodygan_core import evaluation
from melodygan_core.audio import plots
from melodygan_core.config import replace
from melodygan_core.dataset import Dataset
from melodygan_core.evaluation import music as core
from melodygan_core.generation import pieces
from melodygan_core.metrics import music
from melodygan_core.metrics.music import measures
from tests.core.made import EVALUATION, GENERATION, Trained


@pytest.fixture(scope="module", autouse=True)
def no_transcription() -> Iterator[None]:
    """The network is not installed everywhere, and costs seconds."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(measures, "model_path", lambda: None)
        yield


CONFIG = replace(EVALUATION, music_s=6.0, music_excerpts=5)


@pytest.fixture(scope="module")
def measured(dense: Trained, tmp_path_factory: pytest.TempPathFactory) -> tuple[dict, Path]:
    folder = tmp_path_factory.mktemp("evaluation")
    made = list(pieces(dense.open(), replace(GENERATION, count=6, duration_s=5.0)))
    data = Dataset(dense.store, dense.dataset)
    return core.music_figures(data, dense.store, "mix", made, CONFIG, folder), folder


def test_every_set_is_measured_in_excerpts_of_one_length(measured: tuple[dict, Path]) -> None:
    figures, _ = measured
    # No longer than the pieces.
    assert 4.5 < figures["music/excerpt_s"] <= 5.0
    rows = {(r["measure"], r["set"]): r for r in figures["music"]}
    assert set(rows) == {(m, s) for m in music.MEASURES for s in core.SETS}
    generated, real = rows["pulse_clarity", "generated"], rows["pulse_clarity", "reference"]
    assert generated["n"] == 5 and 0 <= generated["low"] <= generated["median"] <= generated["high"] <= 1
    # Two test tracks of 7 s have an excerpt each: too few for a distribution.
    assert (real["n"], real["median"]) == (2, None)
    assert (real["note"], generated["note"]) == ("too few excerpts (2 of at least 5)", "")
    assert rows["structure_8_15", "generated"]["note"].startswith("excerpts too short")
    assert not any(name.startswith("music/ks") for name in figures)
    assert "too few excerpts (2 of at least 5)" in figures["music/note"]
    assert "not measured: basic-pitch is not installed" in figures["music/note"]
    assert rows["motif_recurrence", "generated"]["note"] == music.NOT_INSTALLED
    assert json.loads(json.dumps(figures, allow_nan=False)) == figures


def test_values_are_those_of_the_rows(measured: tuple[dict, Path], dense: Trained) -> None:
    figures, folder = measured
    # The evaluation's own folder, as the gallery reads it.
    made = dense.evaluation
    target = Path(str(dense.store.at(made.uri))) / core.VALUES
    before = target.read_bytes()
    try:
        target.write_bytes((folder / core.VALUES).read_bytes())
        values = evaluation.music_values(made, dense.store)
    finally:
        target.write_bytes(before)
    rows = {(r["measure"], r["set"]): r for r in figures["music"]}
    assert len(values["key_clarity"]["reference"]) == rows["key_clarity", "reference"]["n"] == 2
    found = values["key_clarity"]["generated"]
    assert np.median(found) == pytest.approx(rows["key_clarity", "generated"]["median"])
    picture = Image.open(io.BytesIO(plots.distributions_png(values, music.UNITS)))
    assert picture.width > 400 and picture.height > 100


def test_an_evaluation_of_short_pieces_says_so(dense: Trained) -> None:
    figures = dense.evaluation.metrics
    assert figures["music"] == []
    assert figures["music/note"].startswith("excerpts too short (")
    assert evaluation.music_values(dense.evaluation, dense.store) == {}
    assert evaluation.music_table(figures["music"]) == []


def test_the_table_has_a_row_per_measure() -> None:
    def members(values: list[float]) -> music.MeasuredSet:
        return music.MeasuredSet([music.Measures({"pulse_clarity": v}) for v in values], range(len(values)))

    real, other = [0.1, 0.2, 0.3, 0.4, 0.5], [0.6, 0.7, 0.8, 0.9, 1.0]
    sets = {"reference": real, "real_baseline": real, "shuffled": other, "generated": other}
    rows = music.compare_music({name: members(values) for name, values in sets.items()}, "reference")
    table = evaluation.music_table(rows)
    assert [row["measure"] for row in table] == list(music.MEASURES)
    assert table[0] == {
        "measure": "pulse_clarity",
        "unit": "",
        "real": 0.3,
        "real_low": 0.2,
        "real_high": 0.4,
        "generated": 0.8,
        "ks_real_baseline": 0.0,
        "ks_shuffled": 1.0,
        "ks_generated": 1.0,
        "note": "",
    }
    assert table[1]["real"] is None and table[1]["note"]


def test_real_music_is_nearer_to_real_music_than_shuffled() -> None:
    rng = np.random.default_rng(0)
    rate = 22_050

    def song(seed: int) -> np.ndarray:
        """Beats and a melody of five notes: (samples,)."""
        own = np.random.default_rng(seed)
        beat = round(rate * 60 / own.uniform(80, 140))
        t = np.arange(beat) / rate
        notes = own.integers(57, 72, 5)
        parts = [
            np.sin(2 * np.pi * 440 * 2 ** ((notes[k % 5] - 69) / 12) * t) * np.exp(-6 * t)
            for k in range(1 + 8 * rate // beat)
        ]
        return 0.3 * np.concatenate(parts)[: 8 * rate].astype(np.float32) + 1e-4 * rng.standard_normal(8 * rate)

    songs = [song(k) for k in range(10)]
    wavs = {
        "real": songs[:5],
        "other": songs[5:],
        "shuffled": [music.time_shuffled(s, rate, k) for k, s in enumerate(songs[:5])],
    }
    sets = {
        name: music.MeasuredSet([music.measure(wav, rate) for wav in found], [f"{name} {k}" for k in range(5)])
        for name, found in wavs.items()
    }
    rows = {(r["measure"], r["set"]): r["ks"] for r in music.compare_music(sets, "real")}
    assert rows["pulse_clarity", "shuffled"] == 1
    assert rows["pulse_clarity", "other"] < 1
    assert rows["tempo_stability", "shuffled"] > rows["tempo_stability", "other"]
