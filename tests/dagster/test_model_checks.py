"""Checks of models: a collapsed, damaged or memorising one fails, with a readable reason."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import dagster as dg
import pytest
import torch
from safetensors.torch import load_file, save_file

from melodygan_core import codec, latents, prior
from melodygan_core.config import replace
from melodygan_core.dataset import Dataset
from melodygan_core.errors import InputError
from melodygan_core.evaluation.memorisation import memorisation
from melodygan_core.features import mels_of_spectrum
from melodygan_core.generation import pieces
from melodygan_core.pipeline import Pipeline
from melodygan_core.prior import LatentSpace, Prior
from melodygan_core.storage import ARTIFACT_FILE, Artifact, Store
from melodygan_core.training.checkpoint import WEIGHTS_FILE
from melodygan_dagster.defs import codec as codec_defs
from melodygan_dagster.defs import evaluation as evaluation_defs
from melodygan_dagster.defs import prior as prior_defs
from tests.core.made import GENERATION, Trained

# Pieces of one segment, which is compared as it was generated.
ONE_SEGMENT = replace(GENERATION, count=8, duration_s=0.35)


def change(store: Store, made: Artifact, how: Callable[[str, torch.Tensor], torch.Tensor]) -> None:
    """Changes the weights of a checkpoint on disk, by name: the checks read what would be used."""
    path = Path(str(store.at(made.uri))) / WEIGHTS_FILE
    # With the hashes, changed weights are refused before anything is checked.
    path.with_name(ARTIFACT_FILE).unlink(missing_ok=True)
    save_file({k: how(k, v).contiguous() for k, v in load_file(path).items()}, path)


def passed(results: list[dg.AssetCheckResult]) -> dict[str, bool]:
    return {str(r.check_name): bool(r.passed) for r in results}


def codec_checks(trained: Trained) -> dict[str, bool]:
    return passed(codec_defs._checks(codec.check_collapse(trained.codec, trained.dataset, trained.store)))


def prior_checks(trained: Trained) -> dict[str, bool]:
    health = prior.check_collapse(trained.prior, trained.latents, trained.codec, trained.store)
    return passed(prior_defs._checks(health, trained.prior.metrics["finite"]))


# Codecs.


def test_a_codec_with_constant_reconstructions_fails(own_dense: Trained) -> None:
    store = own_dense.store
    assert codec_checks(own_dense) == {"no_collapse": True, "finite": True}
    change(store, own_dense.codec, lambda k, v: v * 0 if "_out" in k or "decoder" in k else v)
    [collapse, _] = codec_defs._checks(codec.check_collapse(own_dense.codec, own_dense.dataset, store))
    assert not collapse.passed
    assert "0.00 times as far apart" in str(collapse.description)


def test_a_codec_with_a_constant_latent_fails(own_dense: Trained) -> None:
    change(
        own_dense.store,
        own_dense.codec,
        lambda k, v: v * 0 if "shortcut_in" in k or k.startswith("model.encoder") else v,
    )
    assert codec_checks(own_dense) == {"no_collapse": False, "finite": True}


def test_a_codec_of_absurd_weights_is_refused(own_dense: Trained) -> None:
    change(own_dense.store, own_dense.codec, lambda k, v: v * 1e38 if "shortcut" in k else v)
    with pytest.raises(InputError, match=r"shortcut_in\.weight must be -100000 to 100000, got"):
        codec_checks(own_dense)


def test_a_codec_that_overflows_fails() -> None:
    health = codec.Health(finite=False, active_dims=0, diversity=0.0)
    assert passed(codec_defs._checks(health)) == {"no_collapse": False, "finite": False}


@pytest.mark.parametrize(
    ("explained", "pca", "good"),
    [(0.6, 0.6, True), (0.585, 0.6, True), (0.57, 0.6, False), (0.5, None, True)],
    ids=["equal", "within 0.02", "behind", "not measured"],
)
def test_a_codec_behind_pca_is_a_warning(explained: float, pca: float | None, good: bool) -> None:
    figures: dict[str, Any] = {"test/explained_variance": explained}
    check = codec_defs._beside_pca(figures if pca is None else {**figures, "test/explained_variance_pca": pca})
    assert check.passed is good
    assert check.severity == dg.AssetCheckSeverity.WARN


# Priors.


def test_a_prior_with_one_output_fails(own_dense: Trained) -> None:
    assert prior_checks(own_dense)["finite"] is True
    change(own_dense.store, own_dense.prior, lambda k, v: v * 0 if "head" in k else v)
    assert prior_checks(own_dense) == {"no_mode_collapse": False, "finite": True}


def test_a_prior_of_absurd_weights_is_refused(own_dense: Trained) -> None:
    change(own_dense.store, own_dense.prior, lambda k, v: v + 3e38 if "head.bias" in k else v)
    with pytest.raises(InputError, match=r"head\.bias must be -100000 to 100000, got"):
        prior_checks(own_dense)


def test_temporal_models_fail_for_the_same_reasons(own_temporal: Trained) -> None:
    store, trained = own_temporal.store, own_temporal
    assert codec_checks(trained) == {"no_collapse": True, "finite": True}
    assert prior_checks(trained)["finite"] is True
    change(store, trained.prior, lambda k, v: v * 0)
    assert prior_checks(trained) == {"no_mode_collapse": False, "finite": True}
    change(store, trained.codec, lambda k, v: v * 0 if k.startswith("model.encoder.0") else v)
    assert codec_checks(trained) == {"no_collapse": False, "finite": True}
    change(store, trained.codec, lambda k, v: v + 3e38 if k.startswith("model.decoder") else v)
    with pytest.raises(InputError, match="-100000 to 100000"):
        codec_checks(trained)


@pytest.mark.parametrize(
    ("diversity", "diverse"), [(1.0, True), (0.4, True), (0.05, False), (9.0, False), (float("nan"), False)]
)
def test_a_prior_outside_the_allowed_diversity_fails(diversity: float, diverse: bool) -> None:
    [collapse, finite] = prior_defs._checks(prior.Health(True, diversity, (0.4, 1.8)), finite_weights=True)
    assert (collapse.passed, finite.passed) == (diverse, True)
    assert f"{diversity:.2f} times as far apart" in str(collapse.description)
    assert "0.4 to 1.8" in str(collapse.description)


@pytest.mark.parametrize(("samples", "weights"), [(True, True), (True, False), (False, True)])
def test_a_prior_with_samples_or_weights_that_are_not_finite_fails(samples: bool, weights: bool) -> None:
    checks = passed(prior_defs._checks(prior.Health(samples, 1.0, (0.4, 1.8)), weights))
    assert checks["finite"] is (samples and weights)


# Evaluations.


class _Copies(Prior):
    """A prior that has memorised its training set."""

    def __init__(self, honest: Prior, rows: torch.Tensor) -> None:
        super().__init__(honest.config, LatentSpace(honest.latent_mean, honest.latent_std))
        self.rows = rows

    def sample(
        self, tokens: int, seed: int, condition: int | None = None, truncation: float = 0.0
    ) -> torch.Tensor:
        rng = torch.Generator().manual_seed(seed)
        return self.rows[torch.randint(len(self.rows), (tokens,), generator=rng)]


def test_a_prior_that_copies_its_training_set_fails(own_dense: Trained) -> None:
    store, honest = own_dense.store, own_dense.open()
    table = latents.load(own_dense.latents, store)
    rows = torch.from_numpy((table.latents * table.std + table.mean)[table.split == "train", 0])
    copies = Pipeline(
        "copies",
        honest.codec,
        _Copies(honest.prior, rows),
        lambda spectrum, _: honest.vocode(spectrum),
        honest.device,
    )
    figures: dict[str, Any] = memorisation(
        Dataset(store, own_dense.dataset),
        copies.stems,
        lambda features: copies.reconstruct(features).spectrum,
        [
            mels_of_spectrum(copies.feature)(piece.sample.decoded.spectrum[0])
            for piece in pieces(copies, ONE_SEGMENT)
        ],
    )
    checks = {str(c.check_name): c for c in evaluation_defs._checks(figures)}
    assert not checks["not_memorised"].passed
    assert "0.00 times as far" in str(checks["not_memorised"].description)
    assert checks["seams_inside_spread"].passed, "a prior without borders has no seams"


@pytest.mark.parametrize(
    ("ratio", "good"), [(1.0, True), (0.5, True), (0.49, False), (0.0, False), (float("nan"), False)]
)
def test_a_low_memorisation_ratio_fails(ratio: float, good: bool) -> None:
    assert passed(evaluation_defs._checks({"memorisation/ratio": ratio}))["not_memorised"] is good


@pytest.mark.parametrize("part", ["latents", "log_mel"])
@pytest.mark.parametrize(("border", "inside"), [(1.05, True), (2.0, False), (0.5, False)])
def test_steps_across_borders_outside_the_spread_are_a_warning(part: str, border: float, inside: bool) -> None:
    seams = {
        f"seams/{what}/{end}": 1.0
        for what in ("latents", "log_mel")
        for end in ("inside_low", "border", "inside_high")
    }
    figures = {**seams, f"seams/{part}/border": border, "memorisation/ratio": 1.0}
    checks = {str(c.check_name): c for c in evaluation_defs._checks(figures)}
    assert checks["seams_inside_spread"].passed is inside
    assert checks["seams_inside_spread"].severity == dg.AssetCheckSeverity.WARN
    assert checks["not_memorised"].passed
