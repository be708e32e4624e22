"""MIDI files: the melody of a stranger's file, and a plan as a file to look at and to play."""

from __future__ import annotations

import io
from collections.abc import Iterator
from pathlib import Path

import mido
import numpy as np
from numpy.typing import NDArray

from melodygan_core.config import require
from melodygan_core.errors import InputError
from melodygan_core.metrics.music import Note, melody_line
from melodygan_core.plan.grid import SUBPOSITIONS
from melodygan_core.plan.plan import UNVOICED, Plan
from melodygan_core.plan.score import MAX_TEMPO, MIN_TEMPO, Score, ScoreNote, bars
from melodygan_core.plan.writer import BASS_PITCH, CHORD_PITCH
from melodygan_core.storage import replacing

_MOST_BYTES, _MOST_NOTES, _LONGEST_S = 2_000_000, 50_000, 3600.0
_DRUMS = 9
_TICKS = 480
# Of a plan: pitch classes this strong are played, and an onset this strong begins a note again.
_PLAYED, _AGAIN = 0.5, 0.9
_VELOCITIES = {"melody": 96, "chords": 56, "bass": 72}


def read_midi(path: Path) -> Score:
    """Returns the melody of a MIDI file: its track `melody`, or the highest notes of all but the drums.

    The tempo is the file's first; where it changes, notes stay at their times in seconds.

    Raises:
        InputError: no MIDI file, too large, or without notes.
    """
    size = path.stat().st_size
    require(size <= _MOST_BYTES, "melody", f"{size} bytes", f"a MIDI file of at most {_MOST_BYTES} bytes")
    try:
        file = _melody_only(mido.MidiFile(file=io.BytesIO(path.read_bytes()), clip=True))
        notes, tempo, beats = _notes(file)
    except (OSError, EOFError, ValueError, KeyError, IndexError, TypeError) as error:
        # What mido raises for a file that is damaged, or none.
        raise InputError(f"melody must be a MIDI file, got {path.name}: {error!s:.120}") from error
    require(bool(notes), "melody", path.name, "a MIDI file with notes")
    bpm = float(np.clip(mido.tempo2bpm(tempo), MIN_TEMPO, MAX_TEMPO))
    rate = bpm / 60
    line = [n for n in melody_line(notes) if n.pitch > 0 and n.end_s > n.start_s]
    made = tuple(ScoreNote(n.start_s * rate, (n.end_s - n.start_s) * rate, n.pitch) for n in line)
    require(bool(made), "melody", path.name, "a MIDI file with notes")
    return Score(bpm, beats, bars(max(n.start + n.length for n in made), beats), made)


def _melody_only(file: mido.MidiFile) -> mido.MidiFile:
    """The file without the notes of other tracks, where a track is named `melody`."""
    if any(track.name.strip().lower() == "melody" for track in file.tracks):
        file.tracks = [t if t.name.strip().lower() == "melody" else _without_notes(t) for t in file.tracks]
    return file


def _without_notes(track: mido.MidiTrack) -> mido.MidiTrack:
    # In absolute times: the time of a message is since the one before it.
    time, before, left = 0, 0, mido.MidiTrack()
    for message in track:
        time += message.time
        if message.type not in ("note_on", "note_off"):
            left.append(message.copy(time=time - before))
            before = time
    return left


def _notes(file: mido.MidiFile) -> tuple[list[Note], int, int]:
    """Returns the notes in seconds, microseconds per beat, and beats of a bar."""
    if file.type == 2:
        raise ValueError("its tracks are not played together")
    tempo, beats, time = 0, 0, 0.0
    started: dict[tuple[int, int], float] = {}
    found: list[Note] = []
    # Iterating over a file gives times in seconds.
    for message in file:
        time += message.time
        if time > _LONGEST_S or len(found) > _MOST_NOTES:
            raise ValueError(f"it is longer than {_LONGEST_S:g} s, or has more than {_MOST_NOTES} notes")
        if message.type == "set_tempo":
            tempo = tempo or message.tempo
        elif message.type == "time_signature":
            beats = beats or message.numerator
        elif message.type in ("note_on", "note_off") and message.channel != _DRUMS:
            key = (message.channel, message.note)
            if key in started:
                found.append(Note(started.pop(key), time, message.note))
            if message.type == "note_on" and message.velocity:
                started[key] = time
    found += [Note(start, time, pitch) for (_, pitch), start in started.items()]
    return sorted(found), tempo or 500_000, beats if 1 <= beats <= 16 else 4


def write_midi(path: Path, plan: Plan) -> None:
    """Writes a plan as a MIDI file with the tracks melody, chords and bass, of what is given.

    The tempo is that of the plan's beat, 120 where it has none; notes lie at their times in seconds.
    """
    tempo = plan_tempo(plan)
    file = mido.MidiFile(ticks_per_beat=_TICKS)
    head = mido.MidiTrack([mido.MetaMessage("set_tempo", tempo=mido.bpm2tempo(tempo))])
    file.tracks.append(head)
    lines = {
        "melody": melody_notes(plan) if "melody" in plan.given else [],
        "chords": _chroma_notes(plan, plan.upper_chroma, CHORD_PITCH) if "harmony" in plan.given else [],
        "bass": _chroma_notes(plan, plan.lower_chroma, BASS_PITCH) if "harmony" in plan.given else [],
    }
    for channel, (name, notes) in enumerate(lines.items()):
        if notes:
            file.tracks.append(_track(name, channel, notes, tempo))
    data = io.BytesIO()
    file.save(file=data)
    with replacing(path) as temporary:
        temporary.write_bytes(data.getvalue())


def plan_tempo(plan: Plan) -> float:
    """Returns the tempo of a plan's beat in beats per minute, 120 where it has none."""
    sure = plan.beat_confidence > 0.1
    if "metre" not in plan.given or sure.sum() < 8:
        return 120.0
    steps = np.diff(plan.beat_phase.astype(np.float64)) % 1.0
    # Beats of up to one per token; a tempo near to that is none.
    rate = float(np.median(steps[sure[1:] & sure[:-1]])) if (sure[1:] & sure[:-1]).any() else 0.0
    return float(np.clip(60 * rate / plan.grid.token_s, MIN_TEMPO, MAX_TEMPO)) if rate else 120.0


def melody_notes(plan: Plan) -> list[Note]:
    """Returns the melody of a plan as notes; a strong onset begins a note of the same pitch again."""
    again = plan.onsets.max(axis=1) >= _AGAIN if "onsets" in plan.given else np.zeros(len(plan), bool)
    edges = plan.grid.edges(len(plan))
    starts = plan.grid.edges(len(plan), SUBPOSITIONS)
    found: list[Note] = []
    for k, pitch in enumerate(plan.melody.tolist()):
        if pitch == UNVOICED:
            continue
        start = max(0.0, edges[k])
        if again[k]:
            start = max(0.0, float(starts[k * SUBPOSITIONS + int(plan.onsets[k].argmax())]))
        same = found and found[-1].pitch == pitch and abs(found[-1].end_s - max(0.0, edges[k])) < 1e-9
        if same and not again[k]:
            found[-1] = found[-1]._replace(end_s=float(edges[k + 1]))
        elif float(edges[k + 1]) > start:
            found.append(Note(float(start), float(edges[k + 1]), int(pitch)))
    return found


def _chroma_notes(plan: Plan, chroma: NDArray[np.float32], lowest: int) -> list[Note]:
    edges = np.maximum(plan.grid.edges(len(plan)), 0.0)
    found: list[Note] = []
    for pitch_class in range(12):
        on = np.diff(np.concatenate([[0], (chroma[:, pitch_class] >= _PLAYED).astype(int), [0]]))
        for first, last in zip(np.flatnonzero(on > 0), np.flatnonzero(on < 0), strict=True):
            found.append(Note(float(edges[first]), float(edges[last]), lowest + pitch_class))
    return found


def _track(name: str, channel: int, notes: list[Note], tempo: float) -> mido.MidiTrack:
    track = mido.MidiTrack([mido.MetaMessage("track_name", name=name)])
    before = 0
    for tick, kind, pitch in _events(notes, tempo):
        velocity = _VELOCITIES[name] if kind == "note_on" else 0
        track.append(mido.Message(kind, note=pitch, velocity=velocity, channel=channel, time=tick - before))
        before = tick
    return track


def _events(notes: list[Note], tempo: float) -> Iterator[tuple[int, str, int]]:
    """Yields tick, kind and pitch, ends before starts."""
    per_second = _TICKS * tempo / 60
    events = [(round(n.start_s * per_second), "note_on", n.pitch) for n in notes]
    events += [(max(round(n.end_s * per_second), 1), "note_off", n.pitch) for n in notes]
    yield from sorted(events)
