"""Services: reconstruct, interpolate, transfer and generate with a release of every pipeline, on real files."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from melodygan_core import audio, release
from melodygan_core.config import (
    AugmentConfig,
    ConfigModel,
    InterpolateConfig,
    ReconstructConfig,
    TransferConfig,
    replace,
)
from melodygan_core.errors import InputError
from melodygan_core.pipeline import Pipeline
from melodygan_core.progress import Progress, ProgressEvent
from melodygan_core.release import Release, styles
from melodygan_core.sandbox import ffmpeg
from melodygan_core.services.augment import augment
from melodygan_core.services.content_similarity import content_similarity
from melodygan_core.services.generate import generate
from melodygan_core.services.interpolate import interpolate, interpolate_wavs
from melodygan_core.services.output import ServiceResult
from melodygan_core.services.reconstruct import reconstruct, reconstruct_wav
from melodygan_core.services.sound import encode_sound, filtered, load_sound, log_mel_of, safe_name
from melodygan_core.services.transfer import transfer, transfer_wav
from melodygan_core.storage import ARTIFACT_FILE
from melodygan_core.vocoder import Seeds
from tests.core.made import FEATURE, GENERATION
from tests.core.made_temporal import RATE, put, tone

pytestmark = pytest.mark.slow

MELODY = (220.0, 277.2, 329.6, 440.0, 329.6, 246.9)


def stereo_tone(*args: Any, **settings: Any) -> NDArray[np.float32]:
    """A melody (2, samples), louder on the left."""
    wav = tone(*args, **settings)
    return np.stack([wav, np.float32(0.7) * wav])


@pytest.fixture
def melody() -> NDArray[np.float32]:
    """A melody of 4 s in stereo."""
    return stereo_tone(4.0, MELODY)


@pytest.fixture
def bright() -> styles.Style:
    """The style of another, brighter sound."""
    return styles.style_of(log_mel_of(stereo_tone(6.0, (196.0, 147.0, 233.1), bright=0.9), FEATURE), FEATURE)


# Reading sounds.


@pytest.mark.parametrize("suffix", ["wav", "flac", "ogg", "mp3"])
def test_any_format_is_read_in_full(tmp_path: Path, suffix: str, melody: NDArray[np.float32]) -> None:
    original = put(tmp_path / "a b#1.wav", melody)
    path = tmp_path / f"a b#1.{suffix}"
    if suffix in ("flac", "wav"):
        put(path, melody)
    else:
        command = [str(ffmpeg.executable()), "-v", "error", "-y", "-i", str(original), str(path)]
        subprocess.run(command, check=True)
    wav = load_sound(path, FEATURE)
    # mp3 has an encoder's delay before and after.
    assert len(wav) == 2
    assert abs(wav.shape[1] - melody.shape[1]) <= (3 * 1152 if suffix == "mp3" else 2)
    loudness = [audio.loudness_lufs(w, RATE) for w in (wav, melody)]
    assert loudness[0] == pytest.approx(loudness[1], abs=0.5)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"no sound at all", "no audio that ffmpeg can read"),
        (b"#EXTM3U\n#EXTINF:1,\nfile:///etc/passwd\n", "no audio that ffmpeg can read"),
        (None, "an existing sound file"),
    ],
)
def test_a_file_without_sound_is_refused_by_name(tmp_path: Path, content: bytes | None, message: str) -> None:
    path = tmp_path / "x.wav"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(InputError, match=message) as caught:
        load_sound(path, FEATURE)
    assert "x.wav" in str(caught.value)


def test_a_sound_that_is_too_short_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"length of .*x\.wav must be 0\.5 to 1200 s, got '0\.20 s'"):
        load_sound(put(tmp_path / "x.wav", tone(0.2, (440.0,))), FEATURE)


@pytest.mark.parametrize(
    ("name", "expected"),
    [("My <b>song #1.wav", "My-b-song-1"), ("../../x.wav", "x"), ("\u97f3\u697d.wav", None), ("....wav", None)],
)
def test_a_file_name_from_a_stranger_is_safe(name: str, expected: str | None) -> None:
    made = safe_name(Path(name))
    assert made and not set(made) & set('/\\<>"#\n') and not made.startswith(".")
    assert expected is None or made == expected


# Encoding and filtering.


@pytest.mark.parametrize("samples", [11_025, 22_050, 22_051, 50_000])
def test_a_sound_of_any_length_is_encoded_in_whole_tokens(any_release: Release, samples: int) -> None:
    pipeline = any_release.pipeline
    wav = stereo_tone(3.0, (220.0, 330.0))[:, :samples]
    latents, frames = encode_sound(pipeline, wav)
    assert frames == samples // FEATURE.hop_length + 1
    tokens = -(-frames // pipeline.codec.token_frames)
    assert latents.shape == (1, tokens, pipeline.codec.latent_dim)
    assert bool(latents.isfinite().all())


def test_a_filter_changes_only_the_bands_of_its_gain(melody: NDArray[np.float32]) -> None:
    frames = 1 + melody.shape[1] // FEATURE.hop_length
    gain = torch.zeros(frames, FEATURE.n_mels)
    assert np.allclose(filtered(melody, gain, FEATURE), melody, atol=1e-5)
    gain[:, FEATURE.n_mels // 2 :] = -2.0
    noise = np.random.default_rng(0).normal(0, 0.1, melody.shape).astype(np.float32)
    spectra = [np.abs(np.fft.rfft(w)) for w in (noise, filtered(noise, gain, FEATURE))]
    hz = np.fft.rfftfreq(noise.shape[1], 1 / RATE)
    change = [
        20 * np.log10(spectra[1][:, part].sum() / spectra[0][:, part].sum())
        for part in ((hz > 200) & (hz < 1000), (hz > 4000) & (hz < 6000))
    ]
    assert change[1] - change[0] == pytest.approx(-20 * 2 / np.log(10), abs=1.0)


@pytest.mark.parametrize("samples", [300, 1024, 11_111])
def test_a_filter_keeps_any_length(samples: int) -> None:
    wav = stereo_tone(1.0, (440.0,))[:, :samples]
    gain = torch.randn(
        1 + samples // FEATURE.hop_length, FEATURE.n_mels, generator=torch.Generator().manual_seed(0)
    )
    assert filtered(wav, gain, FEATURE).shape == (2, samples)


def test_content_similarity_separates_another_timbre_from_another_melody(melody: NDArray[np.float32]) -> None:
    same = content_similarity(melody, stereo_tone(4.0, MELODY, bright=0.7), FEATURE)
    other = content_similarity(melody, stereo_tone(4.0, [f * 2 ** (6 / 12) for f in MELODY[::-1]]), FEATURE)
    assert content_similarity(melody, melody, FEATURE) == pytest.approx(
        {"chroma_correlation": 1.0, "onset_correlation": 1.0}
    )
    assert same["chroma_correlation"] > 0.6
    assert other["chroma_correlation"] < 0.3
    assert same["onset_correlation"] > 0.9


# Transfer.


def test_a_transfer_of_strength_0_returns_the_content(
    melody: NDArray[np.float32], bright: styles.Style
) -> None:
    made = transfer_wav(melody, bright, FEATURE, strength=0.0)
    assert np.allclose(made.wav, melody, atol=1e-5)
    assert made.figures["style_distance_after"] == pytest.approx(
        made.figures["style_distance_before"], abs=0.01
    )


def test_a_transfer_keeps_the_melody_and_approaches_the_style(
    melody: NDArray[np.float32], bright: styles.Style
) -> None:
    made = transfer_wav(melody, bright, FEATURE)
    assert made.wav.shape == melody.shape
    assert made.figures["chroma_correlation"] > 0.8
    assert made.figures["onset_correlation"] > 0.7
    assert made.figures["style_distance_after"] < 0.9 * made.figures["style_distance_before"]
    half = transfer_wav(melody, bright, FEATURE, 0.5).figures
    assert made.figures["style_distance_after"] < half["style_distance_after"] < half["style_distance_before"]
    level = [styles.style_of(log_mel_of(w, FEATURE), FEATURE).level for w in (melody, made.wav)]
    assert np.abs(level[1] - bright.level).mean() < 0.6 * np.abs(level[0] - bright.level).mean()


def test_a_transfer_is_deterministic(melody: NDArray[np.float32], bright: styles.Style) -> None:
    made = [transfer_wav(melody, bright, FEATURE).wav for _ in range(2)]
    assert np.array_equal(made[0], made[1])


def test_a_silent_content_is_refused(melody: NDArray[np.float32], bright: styles.Style) -> None:
    with pytest.raises(InputError, match="must be audible"):
        transfer_wav(np.zeros_like(melody), bright, FEATURE)


# Reconstruct and interpolate.


def test_a_reconstruction_is_codec_and_vocoder(any_release: Release, melody: NDArray[np.float32]) -> None:
    pipeline = any_release.pipeline
    made = reconstruct_wav(pipeline, melody)
    channels = 2 if "stereo" in pipeline.codec.columns else 1
    assert made.shape == (channels, melody.shape[1]) and made.dtype == np.float32
    assert audio.peak_db(made) > -60
    latents, frames = encode_sound(pipeline, melody)
    expected = pipeline.sound(pipeline.decode(latents).frames(slice(frames)))[0].numpy()
    shorter = min(made.shape[1], expected.shape[1])
    assert np.allclose(made[:, :shorter], expected[:, :shorter], atol=1e-6)


def test_the_ends_of_an_interpolation_are_the_reconstructions(
    any_release: Release, melody: NDArray[np.float32]
) -> None:
    pipeline = any_release.pipeline
    other = stereo_tone(3.0, (330.0, 165.0))
    made = list(interpolate_wavs(pipeline, melody, other, 3))
    assert [w.shape[1] for w in made] == [other.shape[1]] * 3
    assert np.allclose(made[0], reconstruct_wav(pipeline, melody[:, : other.shape[1]]), atol=1e-6)
    assert np.allclose(made[2], reconstruct_wav(pipeline, other), atol=1e-6)
    assert not np.allclose(made[1], made[0], atol=1e-3) and not np.allclose(made[1], made[2], atol=1e-3)


def test_the_level_goes_evenly_from_one_end_to_the_other(
    any_release: Release, melody: NDArray[np.float32]
) -> None:
    spectra: list[torch.Tensor] = []

    def vocode(spectrum: torch.Tensor, seed: Seeds) -> torch.Tensor:
        spectra.append(spectrum[0])
        return torch.zeros(1, (spectrum.shape[2] - 1) * FEATURE.hop_length)

    made = any_release.pipeline
    pipeline = Pipeline(made.name, made.codec, made.prior, vocode, made.device)
    quiet = np.float32(0.05) * stereo_tone(3.0, (330.0, 165.0))
    assert len(list(interpolate_wavs(pipeline, melody, quiet, 5))) == len(spectra) == 5
    level_db = [10 * float((2 * spectrum).exp().mean().log10()) for spectrum in spectra]
    assert level_db == pytest.approx(np.linspace(level_db[0], level_db[-1], 5).tolist(), abs=1e-3)


def test_the_sound_of_an_interpolation_has_the_level_of_its_spectrum(
    temporal: Release, melody: NDArray[np.float32]
) -> None:
    quiet = np.float32(0.05) * stereo_tone(3.0, (330.0, 165.0))
    made = interpolate_wavs(temporal.pipeline, melody, quiet, 5)
    level_db = [10 * float(np.log10(np.square(w).mean())) for w in made]
    assert level_db == pytest.approx(np.linspace(level_db[0], level_db[-1], 5).tolist(), abs=1.5)


# Requests.


@pytest.mark.parametrize(
    ("request_class", "values", "message"),
    [
        (ReconstructConfig, {}, "sound must be .*, got nothing"),
        (ReconstructConfig, {"sound": ""}, "sound must be 1 to 4096 characters, got ''"),
        *[
            (InterpolateConfig, {"first": "a", "second": "b", "steps": n}, f"steps must be 2 to 100, got {n}")
            for n in (-1, 0, 1, 101)
        ],
        *[
            (TransferConfig, {"content": "a", "style": "b", "strength": x}, f"strength must be 0 to 1, got {x}")
            for x in (-0.1, 1.5, float("nan"))
        ],
        (
            TransferConfig,
            {"content": "a"},
            "exactly one of `style` and `style_tag` must be given, got '' and ''",
        ),
        (
            TransferConfig,
            {"content": "a", "style": "b", "style_tag": "slow"},
            "exactly one of .* got 'b' and 'slow'",
        ),
    ],
)
def test_a_wrong_request_names_its_field(
    request_class: type[ConfigModel], values: dict[str, Any], message: str
) -> None:
    with pytest.raises(InputError, match=message):
        request_class(**values)


# Services: files in, files out.

Service = Callable[[Release, Path, Path, Progress | None], ServiceResult]


def _input(folder: Path, name: str = "My <b>song #1.wav") -> Path:
    """A sound of a name that needs care; another one lies beside it."""
    path = folder / "in" / name
    if not path.exists():
        put(folder / "in" / "other.wav", tone(1.0, (196.0, 147.0), bright=0.9))
        put(path, tone(1.2, (220.0, 330.0)))
    return path


def _generate(made: Release, inputs: Path, out: Path, progress: Progress | None = None) -> ServiceResult:
    return generate(made, replace(GENERATION, count=2, duration_s=0.6), out, progress=progress)


def _reconstruct(made: Release, inputs: Path, out: Path, progress: Progress | None = None) -> ServiceResult:
    return reconstruct(made, ReconstructConfig(sound=str(_input(inputs))), out, progress=progress)


def _interpolate(made: Release, inputs: Path, out: Path, progress: Progress | None = None) -> ServiceResult:
    first = _input(inputs)
    config = InterpolateConfig(first=str(first), second=str(first.with_name("other.wav")), steps=3)
    return interpolate(made, config, out, progress=progress)


def _transfer(made: Release, inputs: Path, out: Path, progress: Progress | None = None) -> ServiceResult:
    config = TransferConfig(content=str(_input(inputs)), style_tag="slow", strength=0.5)
    return transfer(made, config, out, progress=progress)


def _transfer_sound(made: Release, inputs: Path, out: Path, progress: Progress | None = None) -> ServiceResult:
    content = _input(inputs)
    config = TransferConfig(content=str(content), style=str(content.with_name("other.wav")))
    return transfer(made, config, out, progress=progress)


SERVICES: dict[str, tuple[Service, list[str], set[str]]] = {
    "generate": (_generate, ["sample-000.wav", "sample-001.wav"], set()),
    "reconstruct": (
        _reconstruct,
        ["My-b-song-1-reconstructed.wav"],
        {"chroma_correlation", "onset_correlation"},
    ),
    "interpolate": (_interpolate, [f"interpolation-0{k}.wav" for k in range(3)], {"share_of_second"}),
    "transfer": (
        _transfer,
        ["My-b-song-1-as-slow.wav"],
        {"chroma_correlation", "onset_correlation", "style_distance_before", "style_distance_after"},
    ),
    "transfer_sound": (_transfer_sound, ["My-b-song-1-as-other.wav"], {"style_distance_after"}),
}


@pytest.mark.parametrize("name", list(SERVICES))
def test_a_service_writes_sounds_with_their_provenance(any_release: Release, tmp_path: Path, name: str) -> None:
    service, files, figures = SERVICES[name]
    events: list[ProgressEvent] = []
    out = tmp_path / "deep" / "out"
    result = service(any_release, tmp_path, out, events.append)
    assert [sound.file for sound in result.sounds] == files
    assert result.licences == ["CC0-1.0"]
    tables = {"latents.parquet", "vectors.parquet"} if any_release.pipeline.name == "dense_gan" else set()
    tables = tables or {"latents.parquet"}
    expected = {*files, *(file.replace(".wav", ".json") for file in files)}
    assert {p.name for p in out.iterdir()} == (expected | tables if name == "generate" else expected)
    assert [p.name for p in out.parent.iterdir()] == ["out"]
    # Progress.
    assert {event.stage for event in events} == {name.removesuffix("_sound")}
    assert [(event.done, event.total) for event in events] == [(k, len(files)) for k in range(len(files) + 1)]
    for sound in result.sounds:
        wav, rate = audio.read_wav(out / sound.file)
        # The filter of a transfer keeps both channels; the dense codec knows no stereo.
        mono = "stereo" not in any_release.pipeline.codec.columns and not name.startswith("transfer")
        assert (rate, sound.sample_rate, len(wav)) == (RATE, RATE, 1 if mono else 2)
        assert sound.duration_s == pytest.approx(wav.shape[1] / RATE, abs=1e-3)
        assert sound.peak_db == pytest.approx(audio.peak_db(wav), abs=0.02) and sound.peak_db <= -0.99
        assert sound.loudness_lufs == pytest.approx(audio.loudness_lufs(wav, RATE), abs=0.05)
        assert figures <= sound.figures.keys()
        stored: dict[str, Any] = json.loads((out / sound.file.replace(".wav", ".json")).read_text("utf-8"))
        assert sound.to_dict().items() <= stored.items()
        assert stored["release"] == any_release.version
        assert stored["pipeline"] == any_release.pipeline.name
        assert stored["models"] == any_release.manifest.models
        assert stored["sources"]["licences"] == ["CC0-1.0"]
        if name != "generate":
            assert stored["service"] == name.removesuffix("_sound")
            assert stored["inputs"][0]["file"] == "My <b>song #1.wav"
        assert str(tmp_path) not in json.dumps(stored)


@pytest.mark.parametrize("name", list(SERVICES))
def test_a_service_prints_and_draws_nothing(
    temporal: Release, tmp_path: Path, name: str, capfd: pytest.CaptureFixture[str]
) -> None:
    SERVICES[name][0](temporal, tmp_path, tmp_path / "out", None)
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("name", list(SERVICES))
def test_a_service_does_not_write_into_a_folder_that_holds_something(
    temporal: Release, tmp_path: Path, name: str
) -> None:
    out = tmp_path / "out"
    out.mkdir()
    (out / "mine.txt").write_text("mine", "utf-8")
    with pytest.raises(InputError, match=r"^out must be a new or empty folder"):
        SERVICES[name][0](temporal, tmp_path, out, None)
    assert [(p.name, p.read_text("utf-8")) for p in out.iterdir()] == [("mine.txt", "mine")]
    assert {p.name for p in tmp_path.iterdir()} <= {"in", "out"}


@pytest.mark.parametrize("name", list(SERVICES))
def test_a_service_that_fails_half_way_leaves_nothing(
    temporal: Release, tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    service, files, _ = SERVICES[name]
    _input(tmp_path)
    written, write = [], audio.write_wav

    def fails(path: Path, *arguments: Any) -> None:
        written.append(path)
        # The last sound of the call.
        if len(written) == len(files):
            raise OSError("no space left on device")
        write(path, *arguments)

    monkeypatch.setattr(audio, "write_wav", fails)
    with pytest.raises(OSError, match="no space left"):
        service(temporal, tmp_path, tmp_path / "out", None)
    assert len(written) == len(files)
    assert [p.name for p in tmp_path.iterdir()] == ["in"]


def test_overwriting_replaces_what_another_call_made(temporal: Release, tmp_path: Path) -> None:
    out, config = tmp_path / "out", replace(GENERATION, duration_s=0.2)
    generate(temporal, config, out)
    result = generate(temporal, replace(config, count=1, seed=1), out, overwrite=True)
    assert {p.name for p in out.glob("*.wav")} == {"sample-000.wav"} == {s.file for s in result.sounds}


def test_generated_pieces_of_one_call_have_one_loudness(any_release: Release, tmp_path: Path) -> None:
    result = generate(any_release, replace(GENERATION, count=4, duration_s=1.0), tmp_path / "out")
    levels = [sound.loudness_lufs for sound in result.sounds]
    assert max(levels) - min(levels) <= 0.05
    assert max(sound.peak_db for sound in result.sounds) <= -0.99


@pytest.mark.parametrize("name", ["reconstruct", "transfer"])
def test_a_sound_is_as_loud_as_its_input(any_release: Release, tmp_path: Path, name: str) -> None:
    wav = load_sound(_input(tmp_path), FEATURE)
    [sound] = SERVICES[name][0](any_release, tmp_path, tmp_path / "out", None).sounds
    made, _ = audio.read_wav(tmp_path / "out" / sound.file)
    wanted = audio.loudness_lufs(wav if len(made) == 2 else audio.to_mono(wav), RATE)
    limited = sound.peak_db == pytest.approx(-1.0, abs=0.02) and sound.loudness_lufs < wanted
    assert sound.loudness_lufs == pytest.approx(wanted, abs=0.1) or limited


def test_input_errors_leave_no_folder(temporal: Release, tmp_path: Path) -> None:
    sound, none, out = str(_input(tmp_path)), str(tmp_path / "none.wav"), tmp_path / "out"
    cases: list[tuple[str, Callable[[], object]]] = [
        ("^style_tag must be all, mix, fast, minor, slow, got 'loud'",
         lambda: transfer(temporal, TransferConfig(content=sound, style_tag="loud"), out)),
        ("^content must be an existing sound file",
         lambda: transfer(temporal, TransferConfig(content=none, style=sound), out)),
        ("^style must be an existing sound file",
         lambda: transfer(temporal, TransferConfig(content=sound, style=none), out)),
        ("^second must be an existing sound file",
         lambda: interpolate(temporal, InterpolateConfig(first=sound, second=none), out)),
        ("^sound must be an existing sound file",
         lambda: reconstruct(temporal, ReconstructConfig(sound=none), out)),
        ("^duration_s must be .* or more, got 1e-09",
         lambda: generate(temporal, replace(GENERATION, duration_s=1e-9), out)),
        ("^condition must be none.*got 'slow'",
         lambda: generate(temporal, replace(GENERATION, condition="slow"), out)),
    ]  # fmt: skip
    for message, call in cases:
        with pytest.raises(InputError, match=message):
            call()
        assert [p.name for p in tmp_path.iterdir()] == ["in"]


def test_augment_reports_progress_per_variation(any_release: Release, tmp_path: Path) -> None:
    folder = _input(tmp_path).parent
    (folder / "bad.wav").write_bytes(b"no sound")
    events: list[ProgressEvent] = []
    result = augment(any_release, folder, tmp_path / "out", AugmentConfig(copies=2), progress=events.append)
    assert events == [("augment", k, 6) for k in range(7)]
    assert len(result.rows) == 4 and list(result.failed) == ["bad.wav"]
    assert all(float(row["chroma_correlation"]) > 0.5 for row in result.rows)


# Styles of a release.


def test_a_release_without_styles_says_so(temporal_folder: Path) -> None:
    (temporal_folder / styles.FILE).unlink()
    (temporal_folder / ARTIFACT_FILE).unlink()
    with pytest.raises(InputError, match="none: this release was published without styles"):
        release.load(temporal_folder).style("slow")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"level": [1.0]}, "level must be finite numbers of shape"),
        ({"level": "x"}, "level must be numbers"),
        ({"embeddings": []}, "embeddings must be finite numbers of shape"),
        ({"contrast": [1e300] * 40}, "finite numbers"),
    ],
)
def test_a_damaged_style_is_refused(temporal_folder: Path, change: dict[str, Any], message: str) -> None:
    # Who changes it on purpose removes the hashes.
    (temporal_folder / ARTIFACT_FILE).unlink()
    path = temporal_folder / styles.FILE
    stored = json.loads(path.read_text("utf-8"))
    stored["styles"]["all"] |= change
    path.write_text(json.dumps(stored), "utf-8")
    with pytest.raises(InputError, match=message):
        release.load(temporal_folder)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "must be JSON"),
        ("[]", "must be a JSON object, got list"),
        ("{}", "mapping of styles"),
        ('{"styles": {}}', "embedding of .* got None"),
    ],
)
def test_a_file_without_styles_is_refused(temporal_folder: Path, text: str, message: str) -> None:
    (temporal_folder / ARTIFACT_FILE).unlink()
    (temporal_folder / styles.FILE).write_text(text, "utf-8")
    with pytest.raises(InputError, match=message):
        release.load(temporal_folder)
