"""Renders an arrangement with a General MIDI sound font, and writes it as MIDI."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from benchmarks.songbook.arrange import Arrangement
from benchmarks.songbook.parts import Stem
from melodygan_core.errors import InputError

RATE = 44_100
PEAK = 0.8
_VOLUME, _PAN = 7, 10
_TICKS = 960
_INSTALL = "uv pip install --group songbook (pyproject.toml)"


def require_packages() -> None:
    """Raises an InputError that names the packages of the group that are missing."""
    missing = [
        n for n in ("music21", "tinysoundfont", "pretty_midi", "mido") if not importlib.util.find_spec(n)
    ]
    if missing:
        raise InputError(f"the songbook needs {', '.join(missing)}, not installed: {_INSTALL}")


def default_sound_font() -> Path:
    """Returns pretty_midi's TimGM6mb.sf2 (6 MB, GPL-2; it is used, not copied).

    Raises:
        InputError: pretty_midi is not installed, or brings no sound font.
    """
    found = importlib.util.find_spec("pretty_midi")
    path = Path(found.origin).parent / "TimGM6mb.sf2" if found and found.origin else None
    if path is None or not path.is_file():
        raise InputError(f"a sound font is needed: {_INSTALL} brings one, or name one with --sound-font")
    return path


def render(arrangement: Arrangement, sound_font: Path) -> dict[str, NDArray[np.float32]]:
    """Returns the stems and their sum `mix`, each (2, samples) at 44.1 kHz, the same samples every time.

    Each stem is brought to its level; the mix has a peak of 0.8, and the stems add up to it.

    Raises:
        InputError: the sound font cannot be loaded.
    """
    samples = round(arrangement.duration_s * RATE)
    font = sound_font.read_bytes()
    stems = {}
    for name, stem in arrangement.stems.items():
        wav = _render_stem(stem, samples, font, sound_font)
        rms = float(np.sqrt(np.square(wav, dtype=np.float64).mean()))
        if rms == 0:
            raise InputError(
                f"{arrangement.name}: {stem.instrument} must sound, got silence from {sound_font.name}"
            )
        stems[name] = wav * np.float32(10 ** (stem.level_db / 20) / rms)
    mix = np.sum(list(stems.values()), axis=0, dtype=np.float32)
    gain = np.float32(PEAK / np.abs(mix).max())
    return {name: np.asarray(gain * wav, np.float32) for name, wav in {"mix": mix, **stems}.items()}


def _render_stem(stem: Stem, samples: int, font: bytes, path: Path) -> NDArray[np.float32]:
    import tinysoundfont

    # A new synthesizer per stem: its state depends on nothing that was rendered before.
    synth = tinysoundfont.Synth(gain=-12, samplerate=RATE)
    try:
        loaded = synth.sfload(font)
    except (RuntimeError, tinysoundfont.SoundFontException) as error:
        raise InputError(f"the sound font must be an SF2 file, got {path} ({error})") from error
    drums = stem.bank == 128
    for channel, pan in enumerate(stem.pans):
        synth.program_select(channel, loaded, stem.bank, stem.program, drums)
        synth.control_change(channel, _PAN, pan)
        synth.control_change(channel, _VOLUME, 100)
    events = [(round(n.start_s * RATE), 1, n) for n in stem.notes]
    events += [(round(n.end_s * RATE), 0, n) for n in stem.notes]
    # At one time, ends come first: a repeated note starts anew.
    events.sort(key=lambda event: (event[0], event[1], event[2]))
    wav, at = np.zeros((samples, 2), np.float32), 0
    for position, on, note in events:
        until = min(position, samples)
        if until > at:
            _generate(synth, wav[at:until])
            at = until
        if on:
            synth.noteon(note.channel, note.pitch, note.velocity)
        else:
            synth.noteoff(note.channel, note.pitch)
    if at < samples:
        _generate(synth, wav[at:])
    return np.ascontiguousarray(wav.T)


def _generate(synth: object, into: NDArray[np.float32]) -> None:
    made = synth.generate(len(into))  # type: ignore[attr-defined]
    into[:] = np.frombuffer(made, np.float32).reshape(-1, 2)


def write_midi(arrangement: Arrangement, path: Path) -> None:
    """Writes all stems as a standard MIDI file of type 1, at the arrangement's tempo."""
    import mido

    # A beat of a compound metre is a dotted quarter.
    quarter_s = 60.0 / arrangement.tempo_bpm / arrangement.tune.beat
    file = mido.MidiFile(ticks_per_beat=_TICKS)
    conductor = mido.MidiTrack([mido.MetaMessage("set_tempo", tempo=round(quarter_s * 1e6))])
    file.tracks.append(conductor)
    for number, (name, stem) in enumerate(arrangement.stems.items()):
        channel = 9 if stem.bank == 128 else number
        track = mido.MidiTrack([mido.MetaMessage("track_name", name=name)])
        track.append(mido.Message("program_change", channel=channel, program=stem.program))
        events = [(n.start_s, 1, n.pitch, n.velocity) for n in stem.notes]
        events += [(n.end_s, 0, n.pitch, 0) for n in stem.notes]
        at = 0
        for seconds, on, pitch, velocity in sorted(events):
            tick = round(seconds / quarter_s * _TICKS)
            kind = "note_on" if on else "note_off"
            track.append(mido.Message(kind, channel=channel, note=pitch, velocity=velocity, time=tick - at))
            at = tick
        file.tracks.append(track)
    file.save(path)
