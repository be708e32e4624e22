"""What a release is used for: reconstruct, interpolate, transfer, on files of one's own."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from melodygan_core import audio, codec, release, services
from melodygan_core.errors import InputError
from melodygan_core.pipeline import Models
from melodygan_core.release import Release, styles
from melodygan_core.sandbox import ffmpeg
from melodygan_core.services.sound import filtered, log_mel_of
from tests.core.made import FEATURE, Family
from tests.core.made_temporal import RATE, put, tone

MELODY = (220.0, 277.2, 329.6, 440.0, 329.6, 246.9)


@pytest.fixture
def melody() -> np.ndarray:
    return tone(4.0, MELODY)


@pytest.fixture
def bright() -> styles.Style:
    return styles.style_of(log_mel_of(tone(6.0, (196.0, 147.0, 233.1), bright=0.9), FEATURE), FEATURE)


# Loading.


@pytest.mark.parametrize("suffix", ["wav", "flac", "ogg", "mp3"])
def test_any_format_is_loaded_whole(tmp_path: Path, suffix: str, melody: np.ndarray) -> None:
    original = put(tmp_path / "a b#1.wav", np.stack([melody, melody]))
    path = tmp_path / f"a b#1.{suffix}"
    if suffix in ("flac", "wav"):
        put(path, np.stack([melody, melody]))
    else:
        import subprocess

        command = [str(ffmpeg.executable()), "-v", "error", "-y", "-i", str(original), str(path)]
        subprocess.run(command, check=True)
    wav = services.load_sound(path, FEATURE)
    # mp3 has an encoder's delay before and after.
    assert abs(len(wav) - len(melody)) <= (3 * 1152 if suffix == "mp3" else 2)
    loudness = [audio.loudness_lufs(w, RATE) for w in (wav, melody)]
    assert loudness[0] == pytest.approx(loudness[1], abs=0.5)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"no sound at all", "no audio that ffmpeg can read"),
        (b"#EXTM3U\n#EXTINF:1,\nfile:///etc/passwd\n", "no audio that ffmpeg can read"),
        (None, "allowed: an existing sound file"),
    ],
)
def test_what_is_no_sound_is_named(tmp_path: Path, content: bytes | None, message: str) -> None:
    path = tmp_path / "x.wav"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(InputError, match=message) as caught:
        services.load_sound(path, FEATURE)
    assert "x.wav" in str(caught.value)


def test_a_click_is_too_short(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"x\.wav is '0\.20 s'; allowed: 0\.5 to 1200 s"):
        services.load_sound(put(tmp_path / "x.wav", tone(0.2, (440.0,))), FEATURE)


# The filter and the measure.


def test_a_filter_without_gain_changes_nothing_and_one_with_gain_only_its_band(melody: np.ndarray) -> None:
    frames = 1 + len(melody) // FEATURE.hop_length
    gain = torch.zeros(frames, FEATURE.n_mels)
    assert np.allclose(filtered(melody, gain, FEATURE), melody, atol=1e-5)
    gain[:, FEATURE.n_mels // 2 :] = -2.0
    noise = np.random.default_rng(0).normal(0, 0.1, len(melody)).astype(np.float32)
    spectra = [np.abs(np.fft.rfft(w)) for w in (noise, filtered(noise, gain, FEATURE))]
    hz = np.fft.rfftfreq(len(noise), 1 / RATE)
    change = [
        20 * np.log10(spectra[1][part].sum() / spectra[0][part].sum())
        for part in ((hz > 200) & (hz < 1000), (hz > 4000) & (hz < 6000))
    ]
    assert change[1] - change[0] == pytest.approx(-20 * 2 / np.log(10), abs=1.0)


@pytest.mark.parametrize("samples", [300, 1024, 11_111])
def test_the_length_is_kept_however_short(samples: int) -> None:
    wav = tone(1.0, (440.0,))[:samples]
    gain = torch.randn(1 + samples // FEATURE.hop_length, FEATURE.n_mels)
    assert filtered(wav, gain, FEATURE).shape == (samples,)


def test_likeness_tells_the_same_melody_in_another_timbre_from_another_melody(melody: np.ndarray) -> None:
    same = services.content_similarity(melody, tone(4.0, MELODY, bright=0.7), FEATURE)
    other = services.content_similarity(melody, tone(4.0, [f * 2 ** (6 / 12) for f in MELODY[::-1]]), FEATURE)
    assert services.content_similarity(melody, melody, FEATURE) == pytest.approx(
        {"chroma_correlation": 1.0, "onset_correlation": 1.0}
    )
    assert same["chroma_correlation"] > 0.6
    assert other["chroma_correlation"] < 0.3
    assert same["onset_correlation"] > 0.9


# Transfer.


def test_without_strength_the_content_comes_back(
    temporal: Release, melody: np.ndarray, bright: styles.Style
) -> None:
    made = services.transfer(temporal.models, melody, bright, strength=0.0)
    assert np.allclose(made.wav, melody, atol=1e-5)
    assert made.figures["style_distance_after"] == pytest.approx(
        made.figures["style_distance_before"], abs=0.01
    )


def test_a_transfer_keeps_the_melody_and_comes_near_the_style(
    temporal: Release, melody: np.ndarray, bright: styles.Style
) -> None:
    made = services.transfer(temporal.models, melody, bright)
    assert made.wav.shape == melody.shape
    assert made.figures["chroma_correlation"] > 0.8
    assert made.figures["onset_correlation"] > 0.7
    assert made.figures["style_distance_after"] < 0.9 * made.figures["style_distance_before"]
    half = services.transfer(temporal.models, melody, bright, 0.5).figures
    assert made.figures["style_distance_after"] < half["style_distance_after"] < half["style_distance_before"]
    level = [styles.style_of(log_mel_of(w, FEATURE), FEATURE).level for w in (melody, made.wav)]
    assert np.abs(level[1] - bright.level).mean() < 0.6 * np.abs(level[0] - bright.level).mean()


def test_a_transfer_is_the_same_every_time(temporal: Release, melody: np.ndarray, bright: styles.Style) -> None:
    made = [services.transfer(temporal.models, melody, bright).wav for _ in range(2)]
    assert np.array_equal(made[0], made[1])


def test_silence_and_strengths_beyond_are_refused(
    temporal: Release, melody: np.ndarray, bright: styles.Style
) -> None:
    with pytest.raises(InputError, match="silent; allowed: one that can be heard"):
        services.transfer(temporal.models, np.zeros_like(melody), bright)
    with pytest.raises(InputError, match=r"strength is 1\.5; allowed: 0 to 1"):
        services.transfer(temporal.models, melody, bright, 1.5)


# Reconstruct and interpolate.


def test_the_ends_of_an_interpolation_are_the_reconstructions(temporal: Release, melody: np.ndarray) -> None:
    other = tone(3.0, (330.0, 165.0))
    made = list(services.interpolate(temporal.models, melody, other, 3))
    assert [len(w) for w in made] == [len(other)] * 3
    assert np.array_equal(made[0], services.reconstruct(temporal.models, melody[: len(other)]))
    assert np.array_equal(made[2], services.reconstruct(temporal.models, other))
    with pytest.raises(InputError, match="steps is 1; allowed: 2 to 100"):
        services.interpolate(temporal.models, melody, other, 1)


def test_the_level_goes_evenly_from_one_end_to_the_other(temporal: Release, melody: np.ndarray) -> None:
    quiet = np.float32(0.05) * tone(3.0, (330.0, 165.0))
    made = services.interpolate(temporal.models, melody, quiet, 5)
    level_db = [10 * np.log10(np.square(w).mean()) for w in made]
    assert level_db == pytest.approx(np.linspace(level_db[0], level_db[-1], 5), abs=1.5)


def test_a_dense_release_says_what_it_is_not_for(
    family: Family, melody: np.ndarray, bright: styles.Style
) -> None:
    from melodygan_core.prior import gan
    from melodygan_core.vocoder import GriffinLim

    folders = [Path(str(family.store.at(a.uri))) for a in (family.autoencoder, family.gan)]
    models = Models(codec.load(folders[0]), gan.load(folders[1]), GriffinLim(FEATURE))
    message = "family 'dense'; allowed to reconstruct, interpolate, transfer and augment: temporal"
    for use in (
        lambda: services.reconstruct(models, melody),
        lambda: services.interpolate(models, melody, melody, 2),
        lambda: services.transfer(models, melody, bright),
    ):
        with pytest.raises(InputError, match=message):
            use()


# Files.


def test_every_file_has_its_provenance_beside_it(temporal: Release, tmp_path: Path, melody: np.ndarray) -> None:
    path = put(tmp_path / "My <b>song #1.wav", melody)
    [row] = services.transfer_file(temporal, path, None, "slow", 0.5, tmp_path / "out")
    assert row["file"] == "My-b-song-1-as-slow.wav"
    assert sorted(p.name for p in (tmp_path / "out").iterdir()) == [
        "My-b-song-1-as-slow.json",
        "My-b-song-1-as-slow.wav",
    ]
    wav, rate = audio.read_wav(tmp_path / "out" / row["file"])
    assert (wav.shape, rate) == ((1, len(melody)), RATE)
    told = json.loads((tmp_path / "out" / "My-b-song-1-as-slow.json").read_text("utf-8"))
    assert told["release"] == temporal.description["version"]
    assert told["sources"]["licences"] == ["CC0-1.0"]
    assert told["inputs"][0]["file"] == path.name
    assert {"chroma_correlation", "style_distance_before", "style_distance_after"} <= told.keys()
    assert str(tmp_path) not in json.dumps(told)


def test_an_unknown_tag_lists_the_known_ones(temporal: Release, tmp_path: Path, melody: np.ndarray) -> None:
    path = put(tmp_path / "a.wav", melody)
    with pytest.raises(InputError, match="tag is 'loud'; allowed: all, mix, fast, minor, slow"):
        services.transfer_file(temporal, path, None, "loud", 1.0, tmp_path / "out")
    with pytest.raises(InputError, match="allowed: exactly one of them"):
        services.transfer_file(temporal, path, path, "slow", 1.0, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_an_old_release_without_styles_says_so(temporal_folder: Path) -> None:
    (temporal_folder / styles.FILE).unlink()
    with pytest.raises(InputError, match="none: this release was published without styles"):
        release.load(temporal_folder).style("slow")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"level": [1.0]}, "level has shape"),
        ({"level": "x"}, "level is not numbers"),
        ({"embeddings": []}, "embeddings has shape"),
        ({"contrast": [1e300] * 40}, "finite numbers"),
    ],
)
def test_a_damaged_style_is_one_sentence(temporal_folder: Path, change: dict, message: str) -> None:
    path = temporal_folder / styles.FILE
    stored = json.loads(path.read_text("utf-8"))
    stored["styles"]["all"] |= change
    path.write_text(json.dumps(stored), "utf-8")
    with pytest.raises(InputError, match=message):
        release.load(temporal_folder)


@pytest.mark.parametrize(
    ("text", "message"),
    [("{", "is not JSON"), ("[]", "has no styles"), ('{"styles": {}}', "measured with None")],
)
def test_a_file_that_holds_no_styles_is_one_sentence(temporal_folder: Path, text: str, message: str) -> None:
    (temporal_folder / styles.FILE).write_text(text, "utf-8")
    with pytest.raises(InputError, match=message):
        release.load(temporal_folder)
