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
from melodygan_core.metrics import distances

CONFIG = FeatureConfig(sample_rate=22_050, n_fft=1024, hop_length=256, bands="mel")
WINDOW = 3 * CONFIG.sample_rate // CONFIG.hop_length


def gaussian(n: int, dim: int = 8, seed: int = 0, shift: float = 0.0, scale: float = 1.0) -> np.ndarray:
    return shift + scale * np.random.default_rng(seed).standard_normal((n, dim))


def tracks(count: int, windows: int, seed: int, dim: int = 20) -> tuple[np.ndarray, np.ndarray]:
    """Windows of tracks of one distribution, a random mean per track plus noise within it; and their groups."""
    rng = np.random.default_rng(seed)
    means = rng.standard_normal((count, 1, dim))
    rows = (means + 0.5 * rng.standard_normal((count, windows, dim))).reshape(-1, dim)
    return rows, np.repeat(np.arange(count), windows)


def independent_kad(reference: np.ndarray, generated: np.ndarray, bandwidth: float | None = None) -> float:
    """KAD of rows that are independent of one another."""
    return metrics.kad(reference, generated, np.arange(len(reference)), np.arange(len(generated)), bandwidth)


# KAD.


def kernel(distance: float) -> float:
    return float(np.exp(-(distance**2) / 8))


def test_kad_of_independent_rows_equals_its_definition_on_three_points() -> None:
    reference, generated = np.array([[0.0], [1.0], [3.0]]), np.array([[0.0], [2.0]])
    within = (kernel(1) + kernel(3) + kernel(2)) / 3
    cross = (kernel(0) + kernel(2) + kernel(1) + kernel(1) + kernel(3) + kernel(1)) / 6
    expected = 1000 * (within + kernel(2) - 2 * cross)
    assert independent_kad(reference, generated) == pytest.approx(expected)  # the median distance is 2
    assert independent_kad(reference, generated, 2.0) == pytest.approx(expected)
    assert independent_kad(reference, generated, 20.0) != pytest.approx(expected)


def test_kad_leaves_out_pairs_within_a_group_of_either_set() -> None:
    # Rows of one group are not neighbours here: groups are found by their labels.
    reference, groups = np.array([[0.0], [3.0], [1.0]]), ["a", "b", "a"]
    generated, others = np.array([[0.0], [2.0], [2.0]]), [9, 9, 4]
    within = (kernel(3) + kernel(2)) / 2
    made = (kernel(2) + kernel(0)) / 2
    distances = [0, 2, 2, 3, 1, 1, 1, 1, 1]
    cross = sum(map(kernel, distances)) / 9
    expected = 1000 * (within + made - 2 * cross)
    assert metrics.kad(reference, generated, groups, others, 2.0) == pytest.approx(expected)
    # The bandwidth, too, is of rows of different groups: distances 3 and 2.
    assert metrics.median_distance(reference, groups) == 2.5
    assert metrics.kad(reference, generated, groups, others) == pytest.approx(
        metrics.kad(reference, generated, groups, others, 2.5)
    )


def test_kad_in_blocks_equals_kad_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    (reference, groups), (generated, others) = tracks(5, 7, 0), tracks(6, 3, 1)
    at_once = metrics.kad(reference, generated, groups, others)
    monkeypatch.setattr(distances, "_BLOCK", 40)
    assert metrics.kad(reference, generated, groups, others) == pytest.approx(at_once, rel=1e-12)


def test_kad_of_one_distribution_in_groups_is_zero_on_average() -> None:
    by_group, as_if_independent = [], []
    for seed in range(60):
        # The layout of docs/results.md: test tracks, and pieces of three windows each.
        reference, groups = tracks(7, 25, 2 * seed)
        generated, others = tracks(80, 3, 2 * seed + 1)
        by_group.append(metrics.kad(reference, generated, groups, others))
        as_if_independent.append(independent_kad(reference, generated))
    errors = [np.std(values, ddof=1) / np.sqrt(60) for values in (by_group, as_if_independent)]
    assert abs(np.mean(by_group)) < 3 * errors[0]
    # Rows taken as independent give a distance where there is none, so the test above can fail.
    assert np.mean(as_if_independent) > 10 * errors[1]
    assert min(by_group) < 0 < max(by_group)
    shifted = metrics.kad(reference, generated + 1.0, groups, others)
    assert shifted > metrics.kad(reference, generated, groups, others) + 3 * np.std(by_group)


def test_kad_of_a_set_to_itself_is_zero_where_the_sets_share_their_groups() -> None:
    rows, groups = tracks(4, 10, 0)
    assert metrics.kad(rows, rows, groups, groups, shared_groups=True) == pytest.approx(0, abs=1e-9)
    # Without it, equal labels in the two sets mean nothing, and the rows' own copies are in the cross mean.
    assert metrics.kad(rows, rows, groups, groups) < -10
    assert metrics.kad(rows, rows, groups, groups) == metrics.kad(rows, rows, groups, groups + 100)
    changed = metrics.kad(rows, rows + 1.0, groups, groups, shared_groups=True)
    assert changed > 10


def test_kad_grows_with_the_shift() -> None:
    values = [independent_kad(gaussian(200), gaussian(200, seed=1, shift=s)) for s in (0.0, 0.3, 1.0, 3.0)]
    assert values == sorted(values)


def test_kad_of_too_few_groups_is_refused() -> None:
    rows, groups = tracks(4, 3, 0)
    one = np.zeros(12)
    with pytest.raises(InputError, match="groups of the reference"):
        metrics.kad(rows, rows, one, groups)
    with pytest.raises(InputError, match="groups of the generated set"):
        metrics.kad(rows, rows, groups, one)
    with pytest.raises(InputError, match="labels of the reference"):
        metrics.kad(rows, rows, groups[:3], groups)
    with pytest.raises(InputError, match="bandwidth"):
        metrics.kad(np.ones((12, 2)), np.ones((12, 2)), groups, groups)


def test_too_few_groups_are_reported_with_their_number() -> None:
    three, five = np.repeat(np.arange(3), 4), np.arange(5)
    assert metrics.too_few_groups(five, three) == "too few tracks to compare (3 of at least 5)"
    assert metrics.too_few_groups(five, five) == ""
    assert metrics.fewest_groups(five, three) == 3


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
    with pytest.raises(InputError, match=r"n of generated .*99"):
        metrics.fad_infinity(reference, generated[:99])


# Density, coverage, neighbours.


def test_density_and_coverage_by_hand() -> None:
    reference = np.array([[0.0], [1.0], [3.0], [10.0]])
    # With k = 1 the radii are 1, 1, 2, 7.
    assert metrics.density_coverage(reference, np.array([[0.5], [0.5]]), 1) == (2.0, 0.5)
    assert metrics.density_coverage(reference, np.array([[100.0], [-100.0]]), 1) == (0.0, 0.0)
    assert metrics.density_coverage(reference, np.array([[0.5], [100.0], [9.0], [2.9]]), 1) == (1.0, 1.0)
    with pytest.raises(InputError, match=r"k .*(4.*1 to 3|1 to 3.*4)"):
        metrics.density_coverage(reference, reference, 4)


def test_density_and_coverage_of_one_distribution_are_near_one() -> None:
    density, coverage = metrics.density_coverage(gaussian(500), gaussian(500, seed=1), 5)
    assert density == pytest.approx(1, abs=0.1)
    assert coverage > 0.9
    # One mode of two is dense and covers half.
    reference = np.concatenate([gaussian(300), gaussian(300, seed=2, shift=50.0)])
    assert metrics.density_coverage(reference, gaussian(300, seed=3), 5)[1] == pytest.approx(0.5, abs=0.05)


# The interval.


def test_bootstrap_has_the_spread_of_a_mean_over_groups() -> None:
    hits, widths = 0, []
    for seed in range(60):
        reference, generated = (gaussian(20, 1, 1000 * k + seed) for k in (0, 1))

        def difference(
            a: np.ndarray, b: np.ndarray, x: np.ndarray = reference, y: np.ndarray = generated
        ) -> float:
            return float(y[b].mean() - x[a].mean())

        low, high = metrics.bootstrap_by_group(difference, [20, 20], n=200, seed=seed, level=0.9)
        hits += low <= 0 <= high
        widths.append(high - low)
    assert np.mean(widths) == pytest.approx(2 * 1.645 * np.sqrt(2 / 20), rel=0.1)
    assert hits / 60 == pytest.approx(0.9, abs=0.1)


def test_bootstrap_of_kad_needs_no_repeated_rows() -> None:
    (reference, groups), (generated, others) = tracks(20, 5, 0), tracks(20, 5, 1)
    sums = metrics.kad_sums(reference, generated, groups, others)
    low, high = metrics.bootstrap_by_group(sums.kad, [20, 20], n=100)
    assert low < sums.kad() < high
    assert low < 0 < high


def test_kad_of_some_groups_equals_kad_of_their_rows() -> None:
    (reference, groups), (generated, others) = tracks(6, 5, 0), tracks(7, 3, 1)
    sums = metrics.kad_sums(reference, generated, groups, others, 3.0)
    assert sums.kad() == metrics.kad(reference, generated, groups, others, 3.0)
    first, second = np.array([0, 2, 5]), np.array([1, 6])
    a, b = np.isin(groups, first), np.isin(others, second)
    expected = metrics.kad(reference[a], generated[b], groups[a], others[b], 3.0)
    assert sums.kad(first, second) == pytest.approx(expected, rel=1e-12)
    with pytest.raises(InputError, match="at least 2 different"):
        sums.kad(np.array([1]), second)


def test_bootstrap_is_deterministic_and_refuses_single_groups() -> None:
    def statistic(a: np.ndarray, b: np.ndarray) -> float:
        return float(a.sum() - 2 * b.sum())

    first, second = (metrics.bootstrap_by_group(statistic, [5, 7], n=20, seed=4) for _ in range(2))
    assert first == second
    with pytest.raises(InputError, match="groups of set 1"):
        metrics.bootstrap_by_group(statistic, [5, 1])
    with pytest.raises(InputError, match="level"):
        metrics.bootstrap_by_group(statistic, [5, 5], level=1.0)


@pytest.mark.parametrize("statistic", [independent_kad, metrics.fad, metrics.fad_infinity])
def test_bad_embeddings_are_named(statistic) -> None:
    with pytest.raises(InputError, match=r"dim .*\(8, 9\)"):
        statistic(gaussian(10), gaussian(10, dim=9))
    with pytest.raises(InputError, match="not finite"):
        statistic(gaussian(10), np.full((10, 8), np.nan))
    with pytest.raises(InputError, match=r"embeddings shape .*\(0, 8\)"):
        statistic(gaussian(10), np.zeros((0, 8)))


# The embedding.


def test_embedding_measures_the_rate_of_a_tremolo() -> None:
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
    raised, stepped = steady + 1.0, steady + (np.arange(80) % 2)[None, :, None]
    base, up, comb = (metrics.embed(x, 86.0)[0] for x in (steady, raised, stepped))
    np.testing.assert_allclose((up - base)[:8], 1 / metrics.MEAN_SCALE)
    np.testing.assert_allclose((up - base)[8:], 0, atol=1e-9)
    assert ((comb - base)[16:24] > 5).all()
    np.testing.assert_allclose((comb - base)[24:], 0, atol=1e-9)


def test_embedding_of_a_window_does_not_depend_on_the_others() -> None:
    log_mel = gaussian(6, 80 * 258).reshape(6, 80, 258).astype(np.float16)
    np.testing.assert_array_equal(metrics.embed(log_mel, 86.0)[2:4], metrics.embed(log_mel[2:4], 86.0))
    assert metrics.embed(log_mel, 86.0).shape == (6, 120)
    assert metrics.embed(np.zeros((1, 17, 60)), 60.0).shape == (1, 120)


@pytest.mark.parametrize(
    ("shape", "frame_rate", "message"),
    [
        ((1, 15, 258), 86.0, "log_mel.shape"),
        ((80, 258), 86.0, "log_mel.shape"),
        ((1, 80, 258), 43.0, "frame_rate .*43"),
        ((1, 80, 40), 86.0, "frames .*4[03].*4[03]"),
    ],
)
def test_embedding_refuses_bad_input(shape: tuple[int, ...], frame_rate: float, message: str) -> None:
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
    return extractor(wav)["log_mel"]


@pytest.fixture
def one_thread() -> Iterator[None]:
    # Griffin-Lim's many short operations wait for each other ten times as long on a busy machine.
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.mark.usefixtures("one_thread")
@pytest.mark.slow
def test_kad_orders_real_griffin_lim_averages_and_noise() -> None:
    torch.manual_seed(0)
    extractor = FeatureExtractor(CONFIG)
    windows: list[list[torch.Tensor]] = [[], []]
    samples = WINDOW * CONFIG.hop_length - 1
    for index in range(16):
        mono = to_mono(songs.render(index, duration_s=12.0).mix)
        wav = torch.from_numpy(resample(mono, 44_100, CONFIG.sample_rate))
        for start in (20_000, 20_000 + 2 * samples):
            windows[index % 2].append(extractor(wav[start : start + samples])["log_mel"])
    reference, real = (np.stack([w.numpy() for w in half]) for half in windows)
    again = np.stack([griffin_lim_again(w, extractor).numpy() for w in windows[1]])
    noise = np.stack([extractor(0.1 * torch.randn(samples))["log_mel"].numpy() for _ in windows[1]])
    sets = [real, again[..., :WINDOW], bin_average(real, 16), bin_average(real, 1), noise]
    embedded = [metrics.embed(s, CONFIG.frame_rate) for s in sets]
    # Two windows per song, one after the other.
    songs_of = np.repeat(np.arange(8), 2)
    base = metrics.embed(reference, CONFIG.frame_rate)
    values = [metrics.kad(base, e, songs_of, songs_of) for e in embedded]
    assert values == sorted(values), values
    # The steps are no accident of the sample: at least half again as far each, after the first.
    assert values[2] > 1.5 * max(values[1], 50)
    assert values[3] > 1.5 * values[2]
    assert values[4] > 1.1 * values[3]
