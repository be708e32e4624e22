"""A corpus with synthetic singers, and how well separation recovers their voices.

    python benchmarks/voice.py make FOLDER      # songs, their true stems below FOLDER/stems
    python benchmarks/voice.py measure FOLDER STORE MODEL_ID

`make` needs Festival in singing mode (Debian: festival festvox-kallpc16k festvox-italp16k festvox-itapc16k):
three voices, 16 kHz diphones, exact pitches without vibrato, over the demo's instruments. It sounds unlike any
record, but has words and consonants at known pitches, and the true stems are known.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from melodygan_core import audio
from melodygan_core.catalogue import load
from melodygan_core.demo import songs
from melodygan_core.demo.instruments import Score
from melodygan_core.demo.voice import Note
from melodygan_core.storage import Store

SONGS, SONG_S, WIDTH = 48, 40.0, 0.7
# Name, words of its lexicon, and octaves above the demo's own voice.
VOICES = (
    ("kal_diphone", "moon light home rain gold sea low fire long away day blue river stone", 0),
    ("lp_diphone", "mare sole luna vento cuore lago rosa pane fiore sera nave mano", 0),
    ("pc_diphone", "notte casa tempo vita luce amore voce terra strada cielo neve mondo", -1),
)


def festival(voice: str, words: str, shift: int) -> songs.Singer:
    """Returns a singer that sings one word per note."""

    def singer(score: Score, notes: list[Note], octave: int, rng: np.random.Generator) -> NDArray[np.float64]:
        lines, at_s = [], 0.0
        for note in notes:
            if note.start_s - at_s > 0.01:
                lines.append(f'<REST SECONDS="{note.start_s - at_s:.4f}"></REST>')
            hz = 440 * 2 ** ((note.pitch + 12 * (octave + shift) - 69) / 12)
            word = str(rng.choice(words.split()))
            lines.append(
                f'<PITCH FREQ="{hz:.2f}"><DURATION SECONDS="{note.duration_s:.4f}">{word}</DURATION></PITCH>'
            )
            at_s = note.start_s + note.duration_s
        kind = '<!DOCTYPE SINGING PUBLIC "-//SINGING//DTD SINGING mark up//EN" "Singing.v0_1.dtd" []>'
        with tempfile.TemporaryDirectory() as folder:
            score_file, wav_file = Path(folder, "song.xml"), Path(folder, "song.wav")
            text = ['<?xml version="1.0"?>', kind, '<SINGING BPM="60">', *lines, "</SINGING>"]
            score_file.write_text("\n".join(text), "ascii")
            command = ["text2wave", "-mode", "singing", "-eval", f"(voice_{voice})", str(score_file)]
            done = subprocess.run([*command, "-o", str(wav_file)], capture_output=True, text=True, check=False)
            if done.returncode or not wav_file.exists():
                raise SystemExit(f"festival cannot sing as {voice}: {done.stderr.strip()[-300:]}")
            wav, rate = audio.read_wav(wav_file)
        sung = audio.resample(audio.to_mono(wav), rate, score.sample_rate)[: score.samples]
        return np.pad(sung, (0, score.samples - len(sung))).astype(np.float64)

    return singer


def make(folder: Path) -> None:
    """Writes the songs, `songs.json`, and the true stems below `stems`."""
    if not shutil.which("text2wave"):
        raise SystemExit("text2wave is not on PATH: install Festival and its voices (see the top of this file)")
    stems = folder / "stems"
    stems.mkdir(parents=True, exist_ok=True)
    entries = []
    for index in tqdm(range(SONGS), desc="songs", unit="song"):
        voice, words, shift = VOICES[index % len(VOICES)]
        singer = festival(voice, words, shift)
        song = songs.render(index, duration_s=SONG_S, width=WIDTH, centred_bass=True, singer=singer)
        audio.write_wav(folder / f"{song.name}.flac", song.mix, 44_100)
        audio.write_wav(stems / f"{song.name}.flac", song.vocals, 44_100)
        entries.append({"file": f"{song.name}.flac", "title": f"{song.title} ({voice})", "tags": [voice]})
    (folder / "songs.json").write_text(json.dumps(entries, indent=2) + "\n", "utf-8")


def si_sdr_db(estimate: NDArray[np.float32], reference: NDArray[np.float32]) -> float:
    """Scale-invariant signal-to-distortion ratio (arXiv 1811.02508) of two wavs of one shape, in dB."""
    a, b = estimate.astype(np.float64).ravel(), reference.astype(np.float64).ravel()
    target = b * (a @ b) / (b @ b)
    return float(10 * np.log10((target @ target) / ((a - target) @ (a - target))))


def measure(folder: Path, store: Store, model_id: str) -> None:
    """Prints the SI-SDR gain of the separated vocals over the mix, by singer."""
    gains: dict[str, list[float]] = {}
    titles = {e["file"]: e["title"] for e in json.loads((folder / "songs.json").read_text("utf-8"))}
    for track in tqdm(load(store), desc="measuring", unit="track"):
        file = track.url.rsplit("/", 1)[1]
        truth, _ = audio.read_wav(folder / "stems" / file)
        mix, _ = audio.read_wav(Path(store.raw_wav(track.track_id).path))
        found, _ = audio.read_wav(Path(store.stems(model_id, track.track_id).path) / "vocals.wav")
        gain = si_sdr_db(found, truth) - si_sdr_db(mix, truth)
        gains.setdefault(titles[file].rpartition("(")[2].rstrip(")"), []).append(gain)
    print("| singer | songs | mean gain, dB | lowest |\n|---|---|---|---|")
    for voice, values in sorted(gains.items()):
        print(f"| {voice} | {len(values)} | {np.mean(values):.1f} | {min(values):.1f} |")


if __name__ == "__main__":
    match sys.argv[1:]:
        case ["make", folder]:
            make(Path(folder))
        case ["measure", folder, root, model]:
            measure(Path(folder), Store(root), model)
        case _:
            raise SystemExit(__doc__)
