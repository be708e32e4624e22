"""Generating by a plan: requests, files beside the pieces, provenance, errors, and how plans are evaluated."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import mido
import numpy as np
import pytest

from melodygan_core.config import GenerateConfig, GenerationConfig, from_dict, replace, to_dict
from melodygan_core.dataset import Dataset
from melodygan_core.errors import InputError
from melodygan_core.evaluation.plans import plan_figures
from melodygan_core.plan import PARTS, Plan
from melodygan_core.plan.chords import progression
from melodygan_core.plan.files import read_plan, write_plan
from melodygan_core.plan.plan import COLUMNS
from melodygan_core.plan.score import Score, ScoreNote
from melodygan_core.plan.writer import write
from melodygan_core.release import Release
from melodygan_core.services.generate import generate
from melodygan_core.services.planning import plan_of, score_of
from melodygan_core.storage import Store
from tests.core.made import EVALUATION
from tests.core.made_temporal import RATE, put, tone

pytestmark = pytest.mark.slow

ABC = "X:1\nM:4/4\nL:1/4\nQ:1/4=150\nK:C\nCDEF|GGGG|\n"


def request(release: Release, **changes: Any) -> GenerateConfig:
    base = {**to_dict(release.generation), "count": 2, "duration_s": 2.0}
    return from_dict(GenerateConfig, {**base, **changes})


def same(first: Plan, second: Plan) -> bool:
    columns = all(np.array_equal(getattr(first, n), getattr(second, n)) for n in COLUMNS)
    return columns and first.given == second.given


# Requests.


def test_a_request_is_a_score() -> None:
    tune = Score(100.0, 3, 6.0, (ScoreNote(0, 1, 60), ScoreNote(1, 2, 64), ScoreNote(3, 3, 67)))
    own = score_of(GenerateConfig(melody="a.mid"), tune)
    assert own == tune
    chords = score_of(GenerateConfig(melody="a.mid", chords="C G Am", tempo_bpm=80.0), tune)
    assert (chords.tempo_bpm, chords.beats, chords.length) == (80, 3, 6)
    assert [(c.start, c.length, c.bass) for c in chords.chords] == [(0, 3, 0), (3, 3, 7)]
    filled = score_of(GenerateConfig(melody="a.mid", chords="C", beats=3), tune)
    assert [(c.start, c.length) for c in filled.chords] == [(0, 3), (3, 3)]
    moved = score_of(GenerateConfig(melody="a.mid", key="D"), tune)
    assert [n.pitch for n in moved.notes] == [62, 66, 69]
    assert score_of(GenerateConfig(chords="Am F C G", form="AABA"), None).length == 32
    assert score_of(GenerateConfig(tempo_bpm=96.0), None) == Score(96.0, 4, 4.0)
    key = score_of(GenerateConfig(key="C", beats=3), None)
    assert [(c.start, c.bass) for c in key.chords] == [(0, 0), (3, 9), (6, 5), (9, 7)]


def test_a_hummed_line_keeps_its_times_at_any_tempo() -> None:
    line = Score(120.0, 4, 7.0, (ScoreNote(1, 1, 60), ScoreNote(3, 2, 64)), has_metre=False)
    assert score_of(GenerateConfig(melody="a.wav"), line) == line
    slow = score_of(GenerateConfig(melody="a.wav", tempo_bpm=60.0), line)
    assert slow.has_metre and slow.length == 4
    seconds = [n.start * slow.beat_s for n in slow.notes]
    assert seconds == [n.start * line.beat_s for n in line.notes] == [0.5, 1.5]


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"plan": "a", "chords": "C"}, "chords must be left out with `plan`, got 'C'"),
        ({"form": "AABA"}, "form must be given with `melody`, `chords` or `key`, got 'AABA'"),
        ({"tempo_bpm": 5.0}, "tempo_bpm must be 0, or 20 to 400, got 5"),
    ],
)
def test_requests_that_contradict_themselves_are_refused(fields: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        from_dict(GenerateConfig, fields)
    assert not GenerateConfig().planned


# Files.


def test_the_plan_lies_beside_each_piece(plan_release: Release, tmp_path: Path) -> None:
    config = request(plan_release, chords="Am F", tempo_bpm=240.0, form="ABA", key="Am")
    result = generate(plan_release, config, tmp_path / "out")
    assert [s.file for s in result.sounds] == ["sample-000.wav", "sample-001.wav"]
    grid = plan_release.pipeline.grid
    chords = progression("Am F Am", 4)
    for sound in result.sounds:
        stem = tmp_path / "out" / sound.file.removesuffix(".wav")
        made = read_plan(stem.with_suffix(".plan.parquet"))
        score = Score(240.0, 4, 12.0, chords=chords, sections=((0, 0), (4, 1), (8, 0)))
        assert same(made, write(score, grid, len(made)))
        assert grid.tokens(2.0) <= len(made) <= grid.tokens(2.0) + 1
        assert [t.name for t in mido.MidiFile(stem.with_suffix(".mid")).tracks[1:]] == ["chords", "bass"]
        facts = json.loads(stem.with_suffix(".json").read_text("utf-8"))
        asked = {"chords": "Am F", "key": "Am", "form": "ABA", "tempo_bpm": 240.0, "beats": 4}
        assert facts["plan"] == {**asked, "given": ["harmony", "metre", "sections"]}
        assert set(facts["generation"]) == set(GenerationConfig.model_fields)
    # The same call may replace what it wrote.
    generate(plan_release, config, tmp_path / "out", overwrite=True)


def test_a_saved_plan_makes_the_same_pieces_and_names_its_source(plan_release: Release, tmp_path: Path) -> None:
    first = request(plan_release, chords="C G", count=1)
    generate(plan_release, first, tmp_path / "a")
    saved = tmp_path / "a" / "sample-000.plan.parquet"
    generate(plan_release, request(plan_release, plan=str(saved), count=1), tmp_path / "b")
    wavs = [(tmp_path / name / "sample-000.wav").read_bytes() for name in "ab"]
    assert wavs[0] == wavs[1]
    free = replace(plan_release.generation, count=1, duration_s=2.0)
    generate(plan_release, free, tmp_path / "c")
    assert (tmp_path / "c" / "sample-000.wav").read_bytes() != wavs[0]
    assert not list((tmp_path / "c").glob("*.mid"))
    named = tmp_path / "named.parquet"
    source = {"track_id": "made-00", "title": "A\x1b[31m title", "licence": "CC0-1.0"}
    write_plan(named, read_plan(saved), source)
    _, facts = plan_of(plan_release.pipeline, request(plan_release, plan=str(named)), 10)
    assert facts["source"]["track_id"] == "made-00" and "\x1b" not in facts["source"]["title"]


def test_melodies_come_from_sound_midi_and_abc(plan_release: Release, tmp_path: Path) -> None:
    pipeline = plan_release.pipeline
    hummed = put(tmp_path / "hum.wav", tone(4.0, (440.0, 493.88, 523.25, 440.0)))
    made, facts = plan_of(pipeline, request(plan_release, melody=str(hummed)), 40)
    assert made.given == {"melody", "onsets"} and facts["melody"]["file"] == "hum.wav"
    centres = pipeline.grid.centres(40)
    wanted = np.array([69, 71, 72, 69])[np.clip((centres[:40]).astype(int), 0, 3)]
    assert float((made.melody == wanted)[:40].mean()) > 0.75
    (tmp_path / "tune.abc").write_text(ABC, "utf-8")
    written, _ = plan_of(pipeline, request(plan_release, melody=str(tmp_path / "tune.abc")), 60)
    assert written.given == {"melody", "onsets", "metre"}
    scale = [p for k, p in enumerate(written.melody[:17]) if not k or p != written.melody[k - 1]]
    assert scale == [60, 62, 64, 65]
    full, facts = plan_of(pipeline, request(plan_release, plan=str(hummed)), 40)
    assert full.given == set(PARTS) and "sha256" in facts["plan"]
    assert float((full.melody[:40] == wanted).mean()) > 0.75


def test_what_cannot_be_planned_is_said(
    plan_release: Release, flow: Release, temporal: Release, tmp_path: Path
) -> None:
    for other in (flow, temporal):
        with pytest.raises(InputError, match="a pipeline that can plan, such as temporal_plan"):
            generate(other, request(other, chords="C"), tmp_path / "out")
    silent = put(tmp_path / "silent.wav", np.zeros(RATE, np.float32))
    for fields, message in (
        ({"melody": "gone.mid"}, "melody must be an existing sound file, MIDI file"),
        ({"plan": "gone.parquet"}, "plan must be an existing plan"),
        ({"melody": str(silent)}, r"melody must be a sound with a melody, got 'silent\.wav'"),
        ({"chords": "Hm"}, "chords must be a letter A to G"),
    ):
        with pytest.raises(InputError, match=message):
            generate(plan_release, request(plan_release, **fields), tmp_path / "out")
    foreign = tmp_path / "foreign.parquet"
    made = read_plan_of(plan_release)
    write_plan(foreign, replace_grid(made))
    with pytest.raises(InputError, match=r"plan must be of tokens of 0\.09288 s, got 'tokens of 0\.20000 s'"):
        generate(plan_release, request(plan_release, plan=str(foreign)), tmp_path / "out")
    assert not (tmp_path / "out").exists()


def read_plan_of(release: Release) -> Plan:
    return write(Score(120.0, 4, 4.0), release.pipeline.grid, 20)


def replace_grid(plan: Plan) -> Plan:
    return dataclasses.replace(plan, grid=dataclasses.replace(plan.grid, token_s=0.2))


# Evaluation.


def test_plans_of_test_tracks_are_followed_and_measured(plan_store: Store, plan_release: Release) -> None:
    data = plan_store.record("feature_table")
    assert data is not None
    figures = plan_figures(Dataset(plan_store, data), plan_store, plan_release.pipeline, EVALUATION)
    assert figures["plan/excerpts"] >= 2
    measures = {name.removeprefix("plan/") for name in figures if name.count("/") == 1} - {"excerpts"}
    assert {"chroma_correlation", "onset_correlation"} <= measures
    for name in measures:
        for kind in ("", "codec/", "other/"):
            assert -1 <= figures[f"plan/{kind}{name}"] <= 1
