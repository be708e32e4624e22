"""The launchpad: the core's configs, documented, with the preset's values."""

from typing import Any

import dagster as dg
import pytest

from melodygan_core.config import (
    AugmentConfig,
    ConfigModel,
    DenseCodecConfig,
    DenseGanConfig,
    EvaluationConfig,
    GenerationConfig,
    OptimizerConfig,
    SeparationConfig,
    TemporalGanConfig,
    VocoderConfig,
    replace,
)
from melodygan_core.config.presets import preset
from melodygan_dagster import configs


def _stages(name: str) -> dict[str, ConfigModel]:
    config = preset(name)
    priors = {f"{codec}/{prior}": c for codec, rows in config.priors.items() for prior, c in rows.items()}
    stages = {"vocoder": config.vocoder, "generation": config.generation, "evaluation": config.evaluation}
    return {**config.codecs, **priors, **stages}


STAGES = tuple(_stages("small"))


def _resolve(default: Any, given: dict[str, Any]) -> Any:
    """The config of an asset with this default, launched with these values."""
    resolved = []

    @dg.asset(config_schema=configs.schema(default), retry_policy=dg.RetryPolicy(max_retries=2))
    def stage(context: dg.AssetExecutionContext) -> None:
        attempts.append(1)
        resolved.append(configs.config_of(context, type(default)))

    attempts: list[int] = []
    try:
        result = dg.materialize(
            [stage],
            run_config={
                "ops": {"stage": {"config": given}},
                "loggers": {"console": {"config": {"log_level": "CRITICAL"}}},
            },
        )
    finally:
        assert len(attempts) <= 1, "a wrong config is not retried"
    assert result.success
    return resolved[0]


@pytest.mark.parametrize("name", ["demo", "small"])
@pytest.mark.parametrize("stage", STAGES)
def test_an_untouched_launchpad_is_the_preset(name: str, stage: str) -> None:
    default = _stages(name)[stage]
    assert _resolve(default, {}) == default


def test_one_changed_value_leaves_the_others() -> None:
    default = preset("demo").priors["dense"]["gan"]
    made = _resolve(default, {"loss": "non_saturating", "optimizer": {"max_steps": 7}})
    optimizer = replace(default.optimizer, max_steps=7)
    assert made == replace(default, loss="non_saturating", optimizer=optimizer)


def test_an_integer_is_a_float_and_a_list_of_choices_is_taken() -> None:
    made = _resolve(DenseCodecConfig(), {"gain_db": 3, "stems": ["vocals", "mix"], "hidden_sizes": [8, 4]})
    assert made == DenseCodecConfig(gain_db=3.0, stems=("vocals", "mix"), hidden_sizes=(8, 4))


@pytest.mark.parametrize(
    ("default", "given", "message"),
    [
        (DenseCodecConfig(), {"time_bins": 0}, "time_bins must be 1 to 4096, got 0"),
        (
            DenseCodecConfig(),
            {"optimizer": {"max_steps": 0}},
            "optimizer.max_steps must be 1 to 10000000, got 0",
        ),
        (VocoderConfig(), {"kernel": 4}, "kernel must be odd, 1 to 255, got 4"),
        (TemporalGanConfig(), {"patch_tokens": 24}, "patch_tokens must be a power of two, 8 to 1024, got 24"),
        (GenerationConfig(), {"count": 0}, "count must be 1 to 10000, got 0"),
        (EvaluationConfig(), {"windows_s": [0.1]}, "windows_s[0] must be 0.5 to 60, got 0.1"),
        (
            OptimizerConfig(),
            {"device": "tpu"},
            "device must be auto, cpu, cuda, mps or one GPU",
        ),
    ],
)
def test_a_value_out_of_bounds_fails_with_one_sentence_and_no_retry(
    default: Any, given: dict[str, Any], message: str
) -> None:
    with pytest.raises(dg.Failure) as caught:
        _resolve(default, given)
    assert not caught.value.allow_retries
    assert str(caught.value.description).startswith(message)
    assert "\n" not in str(caught.value.description)


@pytest.mark.parametrize(
    ("default", "given"),
    [
        (DenseGanConfig(), {"loss": "wgan"}),
        (DenseGanConfig(), {"condition": "Tag"}),
        (DenseGanConfig(), {"noise_dim": "8"}),
        (DenseGanConfig(), {"noise_dim": 8.5}),
        (DenseGanConfig(), {"optimizer": {"steps": 8}}),
        (DenseCodecConfig(), {"stems": ["drums"]}),
        (DenseCodecConfig(), {"random_shift": "yes"}),
        (AugmentConfig(), {"rights": "mine"}),
    ],
)
def test_a_wrong_type_or_choice_is_refused_before_the_run_starts(default: Any, given: dict[str, Any]) -> None:
    with pytest.raises(dg.DagsterInvalidConfigError, match=next(iter(given))):
        _resolve(default, given)


def test_equal_choices_share_a_type_and_others_do_not_collide() -> None:
    dense, temporal = (configs.schema(c()) for c in (DenseGanConfig, TemporalGanConfig))
    assert dense["loss"].config_type is temporal["loss"].config_type
    assert dense["loss"].config_type.key != dense["condition"].config_type.key


def test_a_config_that_the_launchpad_cannot_show_is_an_error() -> None:
    with pytest.raises(TypeError, match="has no Dagster config type"):
        configs.schema(SeparationConfig())


@pytest.mark.parametrize("stage", STAGES)
def test_every_field_is_documented_with_its_bounds(stage: str) -> None:
    def descriptions(fields: dict[str, dg.Field], path: str = "") -> dict[str, str]:
        found = {}
        for name, field in fields.items():
            found[path + name] = field.description or ""
            inner = getattr(field.config_type, "fields", None)
            found |= descriptions(inner, f"{path}{name}.") if inner else {}
        return found

    found = descriptions(configs.schema(_stages("small")[stage]))
    assert [path for path, text in found.items() if not text] == []
    bounded = [path for path, text in found.items() if "Allowed: " in text]
    assert len(bounded) > len(found) / 2
