"""The launchpad: the core's dataclasses, documented, with the preset's values."""

import dataclasses
from operator import attrgetter
from typing import Any

import dagster as dg
import pytest

from melodygan_core.config import (
    FAMILIES,
    DenseAutoencoderConfig,
    DenseGanConfig,
    EvaluationConfig,
    GenerationConfig,
    TemporalGanConfig,
    VocoderConfig,
)
from melodygan_core.config.presets import preset
from melodygan_dagster import configs

OF_FAMILY = tuple(f"{family}.{stage}" for family in FAMILIES for stage in ("autoencoder", "gan"))
STAGES = ("vocoder", *OF_FAMILY, "generation", "evaluation")


def _config(name: str, stage: str) -> Any:
    return attrgetter(stage)(preset(name))


def _resolve(default: Any, given: dict[str, Any]) -> Any:
    """What an asset with this default gets when it is launched with this config."""
    got = []

    @dg.asset(config_schema=configs.schema(default))
    def stage(context: dg.AssetExecutionContext) -> None:
        got.append(configs.config_of(context, type(default)))

    result = dg.materialize(
        [stage],
        run_config={
            "ops": {"stage": {"config": given}},
            "loggers": {"console": {"config": {"log_level": "CRITICAL"}}},
        },
    )
    assert result.success
    return got[0]


@pytest.mark.parametrize("name", ["demo", "small"])
@pytest.mark.parametrize("stage", STAGES)
def test_an_untouched_launchpad_is_the_preset(name: str, stage: str) -> None:
    default = _config(name, stage)
    assert _resolve(default, {}) == default


def test_one_changed_value_leaves_the_others() -> None:
    default = preset("demo").dense.gan
    made = _resolve(default, {"loss": "non_saturating", "optimizer": {"max_steps": 7}})
    assert made == dataclasses.replace(
        default, loss="non_saturating", optimizer=dataclasses.replace(default.optimizer, max_steps=7)
    )


@pytest.mark.parametrize(
    ("default", "given", "named"),
    [
        (DenseGanConfig(), {"loss": "wgan"}, ["loss", "'wgan'", "hinge, non_saturating"]),
        (DenseAutoencoderConfig(), {"time_bins": 0}, ["time_bins", "0", "at least 1"]),
        (DenseAutoencoderConfig(), {"optimizer": {"max_steps": 0}}, ["max_steps", "0", "at least 1"]),
        (VocoderConfig(), {"kernel": 4}, ["kernel", "4", "odd"]),
        (TemporalGanConfig(), {"patch_tokens": 24}, ["patch_tokens", "24", "8, 16, 32, 64"]),
        (GenerationConfig(), {"vocoder": "x"}, ["vocoder", "'x'", "neural, griffin_lim"]),
        (GenerationConfig(), {"count": 0}, ["count", "0", "1 to 10000"]),
        (EvaluationConfig(), {"windows_s": [0.1]}, ["windows_s", "0.1", "0.5 to 60 seconds"]),
    ],
)
def test_a_value_that_is_not_allowed_is_named_with_what_is(
    default: Any, given: dict[str, Any], named: list[str]
) -> None:
    with pytest.raises(dg.Failure) as caught:
        _resolve(default, given)
    assert not caught.value.allow_retries
    assert all(part in str(caught.value.description) for part in named), caught.value.description


@pytest.mark.parametrize("stage", STAGES)
def test_every_field_is_documented(stage: str) -> None:
    def undocumented(fields: dict[str, dg.Field], path: str = "") -> list[str]:
        found = []
        for name, field in fields.items():
            found += [] if field.description else [path + name]
            inner = getattr(field.config_type, "fields", None)
            found += undocumented(inner, f"{path}{name}.") if inner else []
        return found

    assert undocumented(configs.schema(_config("small", stage))) == []
