from collections.abc import Iterator

import numpy as np
import pytest
import torch
import torchaudio

from melodygan_core import metrics
from melodygan_core.audio import resample, to_mono
from melodygan_core.config import FeatureConfig
from melodygan_core.demo import songs
from melodygan_core.errors import InputError
from melodygan_core.features import FeatureExtractor, mel_filterbank

CONFIG = FeatureConfig()
WINDOW = 3 * CONFIG.sample_rate // CONFIG.hop_length


def gaussian(n: int, dim: int = 8, seed: int = 0, shift: float = 0.0, scale: float = 1.0) -> np.ndarray:
    return shift + scale * np.random.default_rng(seed).standard_normal((n, dim))


# KAD.


def test_kad_equals_its_definition_on_three_points() -> None:
    reference, generated = np.array([[0.0], [1.0], [3.0]]), np.array([[0.0], [2.0]])

    def kernel(distance: float) -> float:
        return float(np.exp(-(distance**2) / 8))

    within = (kernel(1) + kernel(3) + kernel(2)) / 3
    cross = (kernel(0) + kernel(2) + kernel(1) + kernel(1) + kernel(3) + kernel(1)) / 6
    expected = 1000 * (within + kernel(2) - 2 * cross)
    assert metrics.kad(reference, generated) == pytest.approx(expected)  # the median distance is 2
    assert metrics.kad(reference, generated, bandwidth=2.0) == pytest.approx(expected)
    assert metrics.kad(reference, generated, bandwidth=20.0) != pytest.approx(expected)


def test_kad_of_one_distribution_is_zero_on_average_and_not_clipped() -> None:
    values = [metrics.kad(gaussian(100, seed=2 * i), gaussian(100, seed=2 * i + 1)) for i in range(40)]
    assert np.mean(values) == pytest.approx(0, abs=3 * np.std(values) / np.sqrt(40))
    assert min(values) < 0 < max(values)
    assert metrics.kad(gaussian(100), gaussian(100, seed=1, shift=0.5)) > 10 * np.std(values)


def test_kad_of_a_set_to_itself_is_at_most_zero_and_vanishes() -> None:
    # The shared rows enter the cross term only: -2 (1 - mean kernel) / n.
    for n in (50, 400):
        assert -2000 / n < metrics.kad(gaussian(n), gaussian(n)) < 0


def test_kad_grows_with_the_shift() -> None:
    values = [metrics.kad(gaussian(200), gaussian(200, seed=1, shift=s)) for s in (0.0, 0.3, 1.0, 3.0)]
    assert values == sorted(values)


# FAD.


def test_fad_of_known_gaussians() -> None:
    n, dim = 100_000, 3
    reference, generated = gaussian(n, dim), gaussian(n, dim, seed=1, shift=1.0, scale=2.0)
    # |shift|^2 + sum (1 - 2)^2.
    assert metrics.fad(reference, generated) == pytest.approx(dim * 1 + dim * 1, rel=0.02)


def test_fad_equals_scipys_matrix_root() -> None:
    from scipy.linalg import sqrtm

    mixing = np.random.default_rng(5).standard_normal((6, 6))
    a, b = gaussian(200, 6), gaussian(300, 6, seed=1) @ mixing + 0.3
    covariances = np.cov(a.T), np.cov(b.T)
    root = np.trace(np.real(sqrtm(covariances[0] @ covariances[1])))
    expected = np.square(a.mean(0) - b.mean(0)).sum() + sum(map(np.trace, covariances)) - 2 * root
    assert metrics.fad(a, b) == pytest.approx(float(expected), rel=1e-6)


def test_fad_of_a_set_to_itself_is_zero_even_with_fewer_rows_than_dims() -> None:
    for n, dim in ((500, 8), (20, 100), (2, 50)):
        assert metrics.fad(gaussian(n, dim), gaussian(n, dim)) == pytest.approx(0, abs=1e-9)


def test_fad_infinity_removes_most_of_the_bias() -> None:
    reference, generated = gaussian(20_000, 30), gaussian(400, 30, seed=1)
    biased, extrapolated = metrics.fad(reference, generated), metrics.fad_infinity(reference, generated)
    assert biased > 0.5
    assert abs(extrapolated) < 0.35 * biased
    assert extrapolated == metrics.fad_infinity(reference, generated)
    with pytest.raises(InputError, match="n of generated is 99; allowed: at least 100 rows"):
        metrics.fad_infinity(reference, generated[:99])


# Density, coverage, neighbours.


def test_density_and_coverage_by_hand() -> None:
    reference = np.array([[0.0], [1.0], [3.0], [10.0]])
    # With k = 1 the radii are 1, 1, 2, 7.
    assert metrics.density_coverage(reference, np.array([[0.5], [0.5]]), 1) == (2.0, 0.5)
    assert metrics.density_coverage(reference, np.array([[100.0], [-100.0]]), 1) == (0.0, 0.0)
    assert metrics.density_coverage(reference, np.array([[0.5], [100.0], [9.0], [2.9]]), 1) == (1.0, 1.0)
    with pytest.raises(InputError, match="k is 4; allowed: 1 to 3"):
        metrics.density_coverage(reference, reference, 4)


def test_density_and_coverage_of_one_distribution_are_near_one() -> None:
    density, coverage = metrics.density_coverage(gaussian(500), gaussian(500, seed=1), 5)
    assert density == pytest.approx(1, abs=0.1)
    assert coverage > 0.9
    # One mode of two is dense and covers half.
    reference = np.concatenate([gaussian(300), gaussian(300, seed=2, shift=50.0)])
    assert metrics.density_coverage(reference, gaussian(300, seed=3), 5)[1] == pytest.approx(0.5, abs=0.05)


def test_nearest_distances_are_exact_even_for_copies() -> None:
    database = gaussian(3000, 20) + 1e3
    queries = np.concatenate([database[[7, 2999]], database[:2] + 3.0])
    found = metrics.nearest_distances(queries, database)
    expected = [np.sqrt(np.square(database - q).sum(1)).min() for q in queries]
    assert found[:2].tolist() == [0.0, 0.0]
    np.testing.assert_allclose(found, expected, rtol=1e-12)


# The interval.


def test_bootstrap_has_the_spread_of_a_mean_over_groups() -> None:
    def difference(reference: np.ndarray, generated: np.ndarray) -> float:
        return float(generated.mean() - reference.mean())

    groups = np.repeat(np.arange(20), 10)
    hits, widths = 0, []
    for seed in range(60):
        # All rows of a group are equal, so 200 rows are worth 20.
        reference, generated = (np.repeat(gaussian(20, 1, 1000 * k + seed), 10, axis=0) for k in (0, 1))
        low, high = metrics.bootstrap_by_group(
            difference, [(reference, groups), (generated, groups)], n=200, seed=seed, level=0.9
        )
        hits += low <= 0 <= high
        widths.append(high - low)
    assert np.mean(widths) == pytest.approx(2 * 1.645 * np.sqrt(2 / 20), rel=0.1)
    assert hits / 60 == pytest.approx(0.9, abs=0.1)


def test_bootstrap_is_not_biased_by_repeated_rows() -> None:
    groups = np.repeat(np.arange(20), 5)
    reference, generated = gaussian(100), gaussian(100, seed=1)
    low, high = metrics.bootstrap_by_group(metrics.kad, [(reference, groups), (generated, groups)], n=100)
    assert low < metrics.kad(reference, generated) < high
    assert low < 0 < high
    # What drawing with replacement does: copies at distance 0 in both sets lift every resample above 0.
    rng = np.random.default_rng(0)
    drawn = [rng.integers(0, 100, 100) for _ in range(40)]
    repeated = [metrics.kad(reference[a], generated[b]) for a, b in zip(drawn[::2], drawn[1::2], strict=True)]
    assert np.mean(repeated) > high


def test_bootstrap_repeats_itself_and_names_what_is_missing() -> None:
    rows, groups = gaussian(10), list("aabbccddee")
    first, second = (
        metrics.bootstrap_by_group(metrics.kad, [(rows, groups), (rows + 1, groups)], n=20, seed=4)
        for _ in range(2)
    )
    assert first == second
    with pytest.raises(InputError, match="groups of set 1 is 1"):
        metrics.bootstrap_by_group(metrics.kad, [(rows, groups), (rows, ["one"] * 10)])
    with pytest.raises(InputError, match="labels of set 0 is 3"):
        metrics.bootstrap_by_group(metrics.kad, [(rows, ["a"] * 3), (rows, groups)])


@pytest.mark.parametrize("statistic", [metrics.kad, metrics.fad, metrics.nearest_distances])
def test_bad_embeddings_are_named(statistic) -> None:
    with pytest.raises(InputError, match=r"dim is \(8, 9\)"):
        statistic(gaussian(10), gaussian(10, dim=9))
    with pytest.raises(InputError, match="not finite"):
        statistic(gaussian(10), np.full((10, 8), np.nan))
    with pytest.raises(InputError, match=r"embeddings shape is \(0, 8\)"):
        statistic(gaussian(10), np.zeros((0, 8)))


# The embedding.


def test_embedding_hears_the_rate_of_a_tremolo() -> None:
    frame_rate, frames = 86.0, 258
    time_s = np.arange(frames) / frame_rate
    modulation = np.array(metrics.MODULATION_HZ)
    for rate_hz in (1.2, 5.0, 20.0):
        tremolo = np.tile(np.sin(2 * np.pi * rate_hz * time_s), (1, 80, 1))
        (embedded,) = metrics.embed(tremolo, frame_rate)
        bands = embedded[24:].reshape(8, 12)
        expected = np.searchsorted(modulation, rate_hz) - 1
        assert set(bands.argmax(axis=1)) == {expected}


def test_embedding_separates_level_spread_and_contrast() -> None:
    steady = np.zeros((1, 80, 258))
    d_log_mag, stepped = steady + 1.0, steady + (np.arange(80) % 2)[None, :, None]
    base, up, comb = (metrics.embed(x, 86.0)[0] for x in (steady, d_log_mag, stepped))
    np.testing.assert_allclose((up - base)[:8], 1 / metrics.MEAN_SCALE)
    np.testing.assert_allclose((up - base)[8:], 0, atol=1e-9)
    assert ((comb - base)[16:24] > 5).all()
    np.testing.assert_allclose((comb - base)[24:], 0, atol=1e-9)


def test_embedding_does_not_depend_on_its_company() -> None:
    log_mel = gaussian(6, 80 * 258).reshape(6, 80, 258).astype(np.float16)
    np.testing.assert_array_equal(metrics.embed(log_mel, 86.0)[2:4], metrics.embed(log_mel[2:4], 86.0))
    assert metrics.embed(log_mel, 86.0).shape == (6, 120)
    assert metrics.embed(np.zeros((1, 17, 60)), 60.0).shape == (1, 120)


@pytest.mark.parametrize(
    ("shape", "frame_rate", "message"),
    [
        ((1, 15, 258), 86.0, "log_mel.shape"),
        ((80, 258), 86.0, "log_mel.shape"),
        ((1, 80, 258), 43.0, "frame_rate is 43"),
        ((1, 80, 40), 86.0, "frames is 40; allowed: at least 43"),
    ],
)
def test_embedding_names_what_it_cannot_take(shape: tuple[int, ...], frame_rate: float, message: str) -> None:
    with pytest.raises(InputError, match=message):
        metrics.embed(np.zeros(shape), frame_rate)


def bin_average(log_mel: np.ndarray, bins: int) -> np.ndarray:
    parts = np.array_split(log_mel, bins, axis=-1)
    return np.concatenate([np.broadcast_to(p.mean(-1, keepdims=True), p.shape) for p in parts], axis=-1)


def griffin_lim_again(log_mel: torch.Tensor, extractor: FeatureExtractor) -> torch.Tensor:
    magnitude = (torch.linalg.pinv(mel_filterbank(CONFIG).T) @ log_mel.exp()).clamp(min=0)
    wav = torchaudio.functional.griffinlim(
        magnitude, extractor.window, CONFIG.n_fft, CONFIG.hop_length, CONFIG.n_fft, 1.0, 32, 0.99, None, True
    )
    return extractor(wav)[0]


@pytest.fixture
def one_thread() -> Iterator[None]:
    # Griffin-Lim's many short operations wait for each other ten times as long on a busy machine.
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.mark.usefixtures("one_thread")
def test_kad_orders_real_griffin_lim_averages_and_noise() -> None:
    torch.manual_seed(0)
    extractor = FeatureExtractor(CONFIG)
    windows: list[list[torch.Tensor]] = [[], []]
    samples = WINDOW * CONFIG.hop_length - 1
    for index in range(16):
        mono = to_mono(songs.render(index, duration_s=12.0).mix)
        wav = torch.from_numpy(resample(mono, 44_100, CONFIG.sample_rate))
        for start in (20_000, 20_000 + 2 * samples):
            windows[index % 2].append(extractor(wav[start : start + samples])[0])
    reference, real = (np.stack([w.numpy() for w in half]) for half in windows)
    again = np.stack([griffin_lim_again(w, extractor).numpy() for w in windows[1]])
    noise = np.stack([extractor(0.1 * torch.randn(samples))[0].numpy() for _ in windows[1]])
    sets = [real, again[..., :WINDOW], bin_average(real, 16), bin_average(real, 1), noise]
    embedded = [metrics.embed(s, CONFIG.frame_rate) for s in sets]
    distances = [metrics.kad(metrics.embed(reference, CONFIG.frame_rate), e) for e in embedded]
    assert distances == sorted(distances), distances
    # The steps are no accident of the sample: at least half again as far each, after the first.
    assert distances[2] > 1.5 * max(distances[1], 50)
    assert distances[3] > 1.5 * distances[2]
    assert distances[4] > 1.1 * distances[3]
