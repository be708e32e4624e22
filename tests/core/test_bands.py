"""The log bands: what they keep of pitch, how they cover the spectrum, and their way to the mels and back."""

import numpy as np
import pytest
import torch

from melodygan_core.config import FeatureConfig, GriffinLimConfig, replace, stored_features, to_dict
from melodygan_core.demo import songs
from melodygan_core.errors import InputError
from melodygan_core.evaluation.pitch import cqt_correlation
from melodygan_core.features import (
    FeatureExtractor,
    band_filterbank,
    mels_of_spectrum,
    spectrum_of_mels,
)
from melodygan_core.vocoder import GriffinLim

FULL = FeatureConfig()
HALF = FeatureConfig(sample_rate=22_050, n_fft=2048, hop_length=256, upper_bands=48)
COARSE = FeatureConfig(sample_rate=22_050, n_fft=1024, hop_length=256, bands_up_to_hz=700, upper_bands=20)
OLD = FeatureConfig(sample_rate=22_050, n_fft=1024, hop_length=256, bands="mel", channels=1)
ALL = [FULL, HALF, COARSE, replace(FULL, n_fft=8192), replace(FULL, sample_rate=96_000, n_fft=2048)]


# The filterbank.


@pytest.mark.parametrize("config", ALL)
def test_bands_are_independent_not_empty_and_cover_every_bin_above_the_first(config: FeatureConfig) -> None:
    weights = band_filterbank(config).double()
    first = round(config.log_band_centres_hz[0] / config.bin_hz)
    assert weights.shape == (config.n_fft // 2 + 1, config.n_bands)
    assert int(torch.linalg.matrix_rank(weights)) == config.n_bands
    assert bool((weights > 0).any(dim=0).all()) and float(weights.max()) <= 1
    torch.testing.assert_close(weights[first:].sum(dim=1), torch.ones(len(weights) - first).double())
    assert float(weights[:first].sum()) == 0


@pytest.mark.parametrize("config", ALL)
def test_centres_are_a_bin_or_a_part_of_an_octave_apart_then_even_in_mel(config: FeatureConfig) -> None:
    centres = np.array(config.log_band_centres_hz)
    lower = centres[centres <= config.bands_up_to_hz]
    ratio = 2 ** (1 / config.bands_per_octave)
    np.testing.assert_allclose(np.diff(lower), np.maximum(config.bin_hz, lower[:-1] * (ratio - 1)), rtol=1e-9)
    upper = centres[len(lower) - 1 :]
    assert len(upper) == config.upper_bands + 1
    mel = 2595 * np.log10(1 + upper / 700)
    np.testing.assert_allclose(np.diff(mel), (mel[-1] - mel[0]) / config.upper_bands, rtol=1e-9)
    assert np.diff(upper).min() >= config.bin_hz
    assert centres[-1] == config.sample_rate / 2


def test_the_centres_of_the_default_are_known() -> None:
    centres, bin_hz = FULL.log_band_centres_hz, 44_100 / 4096
    assert FULL.n_bands == len(centres) == 151
    np.testing.assert_allclose(centres[:34], bin_hz * np.arange(2, 36))
    assert centres[34] / centres[33] == pytest.approx(2 ** (1 / 24))
    assert centres[78] <= 1400 < centres[79]


def test_a_bin_that_is_a_band_is_nothing_else() -> None:
    weights = band_filterbank(FULL)
    np.testing.assert_array_equal(weights[2:35, :33].numpy(), np.eye(33, dtype=np.float32))


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"upper_bands": 900}, "upper_bands must be 1 to "),
        ({"bands_up_to_hz": 22_050.0}, "bands_up_to_hz must be 22 to 22039"),
        ({"bands_up_to_hz": 15.0}, "bands_up_to_hz must be 22 to 22039"),
        ({"bands": "bark"}, "bands must be log or mel"),
    ],
)
def test_bands_that_would_be_narrower_than_a_bin_are_refused(changes: dict, words: str) -> None:
    with pytest.raises(InputError, match=words):
        replace(FULL, **changes)


# Old configs.


def test_a_config_without_bands_is_of_mels_and_keeps_its_id() -> None:
    stored = {k: v for k, v in to_dict(OLD).items() if "bands" not in k and k != "channels"}
    assert stored_features(stored) == OLD
    assert OLD.spectral_id == "631c9e714236"
    assert replace(OLD, bands_per_octave=12, upper_bands=9).spectral_id == OLD.spectral_id
    assert replace(OLD, bands="log", upper_bands=30).spectral_id != OLD.spectral_id
    assert replace(FULL, bands_per_octave=12).spectral_id != FULL.spectral_id
    assert (OLD.spectrum, OLD.n_bands, list(OLD.columns)) == ("log_mel", 80, ["log_mel", "mfcc"])
    assert stored_features(to_dict(FULL)) == FULL


# What is kept.


def chord(frequencies_hz: list[float], config: FeatureConfig, seconds: float = 2.0) -> np.ndarray:
    """Tones with four partials each that fall by half: (samples,)."""
    t = np.arange(round(seconds * config.sample_rate)) / config.sample_rate
    tones = [0.5**k * np.sin(2 * np.pi * f * (k + 1) * t) for f in frequencies_hz for k in range(4)]
    return (0.1 * np.sum(tones, axis=0)).astype(np.float32)


@pytest.mark.parametrize(("frequency_hz", "least"), [(55.0, 0.03), (110.0, 0.1), (220.0, 0.4)])
def test_tones_a_semitone_apart_fall_apart_and_in_few_mels_do_not(frequency_hz: float, least: float) -> None:
    def apart(config: FeatureConfig) -> float:
        """One less the correlation of the bands of two tones."""
        spectra = []
        for ratio in (1.0, 2 ** (1 / 12)):
            t = torch.arange(config.sample_rate) / config.sample_rate
            wav = 0.5 * torch.sin(2 * torch.pi * frequency_hz * ratio * t)
            spectra.append(FeatureExtractor(config)(wav)[config.spectrum][:, 40].exp().numpy())
        return 1 - float(np.corrcoef(spectra)[0, 1])

    assert apart(FULL) > 3 * apart(OLD)
    # A semitone at 55 Hz is a third of a bin: only the flanks of the two tones differ.
    assert apart(FULL) > least


@pytest.mark.slow
def test_pitch_survives_bands_and_griffin_lim_and_does_not_survive_mels() -> None:
    figures = {}
    for config in (FULL, OLD):
        wav = (
            songs.render(2, sample_rate=config.sample_rate, duration_s=3.0).mix.mean(axis=0).astype(np.float32)
        )
        bands = FeatureExtractor(config)(torch.from_numpy(wav))[config.spectrum]
        made = GriffinLim(config, GriffinLimConfig(iterations=16))(bands[None])[0].numpy()
        figures[config.bands] = cqt_correlation(made, wav, config.sample_rate)
    for register, lowest in (("40-160", 0.75), ("160-640", 0.94), ("640-2560", 0.85)):
        name = f"pitch/{register}"
        assert figures["log"][name] > lowest
        assert 1 - figures["log"][name] < 0.75 * (1 - figures["mel"][name])


# To mels and back.


@pytest.mark.parametrize("config", [FULL, HALF])
def test_the_mels_of_bands_are_near_those_of_the_sound(config: FeatureConfig) -> None:
    wav = torch.from_numpy(chord([98.0, 247.0, 587.0], config))
    wav = wav + 0.01 * torch.randn(len(wav), generator=torch.Generator().manual_seed(0))
    found = {name: values.T for name, values in FeatureExtractor(config)(wav).items()}
    error = mels_of_spectrum(config)(found["log_bands"]) - found["log_mel"]
    # The lowest mel has bins below the first band.
    assert float(error[:, 1:].abs().mean()) < 0.15
    back = spectrum_of_mels(config)(found["log_mel"])
    assert back.shape == found["log_bands"].shape
    level = [float(x.exp().square().sum(dim=1).log().mean()) for x in (back, found["log_bands"])]
    assert level[0] == pytest.approx(level[1], abs=1.5)


def test_silence_stays_silence_and_mels_stay_as_they_are() -> None:
    silence = FeatureExtractor(FULL).silence()
    torch.testing.assert_close(mels_of_spectrum(FULL)(silence["log_bands"]), silence["log_mel"])
    torch.testing.assert_close(spectrum_of_mels(FULL)(silence["log_mel"]), silence["log_bands"])
    log_mel = torch.randn(3, 5, OLD.n_mels)
    assert mels_of_spectrum(OLD)(log_mel) is log_mel and spectrum_of_mels(OLD)(log_mel) is log_mel


def test_a_conversion_has_values_where_a_checkpoint_is_built() -> None:
    with torch.device("meta"):
        made = mels_of_spectrum(FULL)
    assert bool(torch.isfinite(made(torch.zeros(2, FULL.n_bands))).all())
