"""What a person asks for, as a plan: a saved plan, a sound, a melody, chords, a key, a form, a tempo."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

from melodygan_core.config import GenerateConfig, require
from melodygan_core.pipeline import Pipeline
from melodygan_core.plan import Plan, extract
from melodygan_core.plan.abc import read_abc
from melodygan_core.plan.chords import in_key, key_progression, progression
from melodygan_core.plan.files import plan_source, read_plan
from melodygan_core.plan.midi import melody_notes, read_midi
from melodygan_core.plan.score import Score, ScoreChord, ScoreNote, bars, with_form
from melodygan_core.plan.writer import write
from melodygan_core.services.sound import describe_input, load_sound

DEFAULT_BPM, DEFAULT_BEATS = 120.0, 4
_PLAN, _MIDI, _ABC = (".parquet",), (".mid", ".midi"), (".abc",)
_MOST_ABC_BYTES = 400_000


def plan_of(pipeline: Pipeline, config: GenerateConfig, tokens: int) -> tuple[Plan, dict[str, Any]]:
    """Returns the plan that a request asks for, and what provenance holds of it.

    Args:
        pipeline: Its codec's tokens are the plan's.
        config: Asks for a plan.
        tokens: Of a piece. A score begins again where it ends; a saved plan and that of a sound leave open what
            is beyond their end.

    Raises:
        InputError: a file that cannot be read, or a value that is not allowed.
    """
    if config.plan:
        return _given(pipeline, Path(config.plan))
    facts: dict[str, Any] = {"chords": config.chords, "key": config.key, "form": config.form}
    score = _melody(pipeline, Path(config.melody)) if config.melody else None
    if config.melody:
        facts["melody"] = describe_input(Path(config.melody))
    score = score_of(config, score)
    facts |= {"tempo_bpm": score.tempo_bpm, "beats": score.beats}
    return write(score, pipeline.grid, tokens), {name: value for name, value in facts.items() if value}


def _given(pipeline: Pipeline, path: Path) -> tuple[Plan, dict[str, Any]]:
    """The plan of a file, and where it is from: a plan that was taken from a track names it."""
    require(path.is_file(), "plan", str(path), "an existing plan (.parquet) or sound file")
    facts: dict[str, Any] = {"plan": describe_input(path)}
    if path.suffix.lower() in _PLAN:
        plan, source = read_plan(path), plan_source(path)
        pipeline.plan_tensor(plan)
        return plan, {**facts, **({"source": source} if source else {})}
    wav = load_sound(path, pipeline.feature, "plan")
    return extract(wav, pipeline.feature.sample_rate, pipeline.grid), facts


def _melody(pipeline: Pipeline, path: Path) -> Score:
    """The melody of a file, by its suffix."""
    require(path.is_file(), "melody", str(path), "an existing sound file, MIDI file (.mid) or tune (.abc)")
    suffix = path.suffix.lower()
    if suffix in _MIDI:
        return read_midi(path)
    if suffix in _ABC:
        size = path.stat().st_size
        require(size <= _MOST_ABC_BYTES, "melody", f"{size} bytes", f"at most {_MOST_ABC_BYTES} bytes of ABC")
        # Older files are in Latin-1; notes are ASCII in both.
        return read_abc(path.read_text("utf-8", errors="replace"))
    return _hummed(pipeline, path)


def _hummed(pipeline: Pipeline, path: Path) -> Score:
    """The line of a sound: notes at their times, without a metre."""
    wav = load_sound(path, pipeline.feature, "melody")
    heard = extract(wav, pipeline.feature.sample_rate, pipeline.grid)
    line = melody_notes(heard)
    require(bool(line), "melody", path.name, "a sound with a melody")
    rate = DEFAULT_BPM / 60
    notes = tuple(ScoreNote(n.start_s * rate, (n.end_s - n.start_s) * rate, n.pitch) for n in line)
    return Score(DEFAULT_BPM, DEFAULT_BEATS, heard.duration_s * rate, notes, has_metre=False)


def score_of(config: GenerateConfig, melody: Score | None) -> Score:
    """Returns what a request plays: the melody with the request's tempo, chords, key and form.

    Args:
        config: Asks for at least one of them.
        melody: Of its file, if there is one.

    Raises:
        InputError: a value that is not allowed.
    """
    beats = config.beats or (melody.beats if melody else DEFAULT_BEATS)
    tempo_bpm = config.tempo_bpm or (melody.tempo_bpm if melody else DEFAULT_BPM)
    score = melody or Score(tempo_bpm, beats, float(beats))
    if melody is not None:
        score = _in_bars(melody, config, tempo_bpm, beats)
    if config.chords:
        chords = progression(config.chords, beats)
        length = chords[-1].start + chords[-1].length
        score = replace(score, length=score.length if melody else length)
        score = replace(score, chords=_filled(chords, length, score.length))
    if config.key and (score.notes or score.chords):
        score = in_key(score, config.key)
    elif config.key:
        chords = key_progression(config.key, beats)
        score = replace(score, chords=chords, length=chords[-1].start + chords[-1].length)
    return with_form(score, config.form) if config.form else score


def _in_bars(melody: Score, config: GenerateConfig, tempo_bpm: float, beats: int) -> Score:
    """The melody at a tempo: written notes keep their beats, hummed ones their times."""
    if melody.has_metre:
        return replace(melody, tempo_bpm=tempo_bpm, beats=beats, length=bars(melody.length, beats))
    if not (config.tempo_bpm or config.chords or config.form or config.beats):
        return melody
    factor = tempo_bpm / melody.tempo_bpm
    notes = tuple(ScoreNote(n.start * factor, n.length * factor, n.pitch) for n in melody.notes)
    length = bars(melody.length * factor, beats)
    return replace(melody, tempo_bpm=tempo_bpm, beats=beats, length=length, notes=notes, has_metre=True)


def _filled(chords: tuple[ScoreChord, ...], length: float, total: float) -> tuple[ScoreChord, ...]:
    """Chords of some beats, again and again up to a total, the last one cut there."""
    found = []
    start = 0.0
    while start < total:
        found += [c._replace(start=c.start + start) for c in chords if c.start + start < total]
        start += length
    return tuple(c._replace(length=min(c.length, total - c.start)) for c in found)
