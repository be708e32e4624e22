"""latents -> prior: one checkpoint per prior that a trained pipeline uses."""

from typing import Any

import dagster as dg

from melodygan_core.config import VERSIONS
from melodygan_core.config.registry import prior_component
from melodygan_core.storage import Artifact
from melodygan_dagster import configs, reporting, starting
from melodygan_dagster.conditions import AFTER_TRAINING, QUARTERLY
from melodygan_dagster.defs.codec import CHECKPOINT
from melodygan_dagster.io_managers import RECORD
from melodygan_dagster.resources import OWNER, Settings, StoreResource, deployed_config


def _checks(health: Any, finite_weights: bool) -> list[dg.AssetCheckResult]:
    low, high = health.allowed
    allowed = f"{low} to {high}"
    return [
        dg.AssetCheckResult(
            passed=not health.collapsed,
            check_name="no_mode_collapse",
            description=f"generated segments lie {health.diversity:.2f} times as far apart as real ones "
            f"({allowed} is allowed)",
            metadata=reporting.figures({"diversity": health.diversity, "allowed": allowed}),
        ),
        dg.AssetCheckResult(passed=health.finite and finite_weights, check_name="finite"),
    ]


def build_asset(codec: str, name: str, default: Any, start_from: str = "") -> dg.AssetsDefinition:
    """The checkpoint asset of a prior.

    Args:
        codec: Name of the codec whose latents it makes.
        name: Of the registered prior.
        default: Its config in this deployment, the launchpad's default.
        start_from: Release whose weights it begins with in this deployment.
    """
    key = [codec, f"{name}_checkpoint"]
    ins = {
        "latent_table": dg.AssetIn([codec, "latent_table"]),
        "codec_checkpoint": dg.AssetIn([codec, CHECKPOINT]),
    }
    if "plan" in prior_component(codec, name).capabilities:
        ins["plan_table"] = dg.AssetIn([codec, "plan_table"])

    @dg.asset(
        key=key,
        ins=ins,
        group_name=codec,
        kinds={"torch", "safetensors"},
        owners=[OWNER],
        code_version=VERSIONS["prior"],
        automation_condition=AFTER_TRAINING,
        freshness_policy=QUARTERLY,
        io_manager_key="records",
        dagster_type=RECORD,
        pool="gpu",
        config_schema=configs.training_schema(default, start_from),
        description=f"The prior {name} over the latents of the {codec} codec: it makes new latents from noise. "
        "The best weights by the distance of its samples to validation tracks.",
        check_specs=[
            dg.AssetCheckSpec(
                "no_mode_collapse",
                asset=key,
                blocking=True,
                description="Generated segments differ from each other about as much as real ones do.",
            ),
            dg.AssetCheckSpec(
                "finite", asset=key, blocking=True, description="Weights and samples are finite."
            ),
        ],
    )
    def prior_checkpoint(
        context: dg.AssetExecutionContext,
        store: StoreResource,
        settings: Settings,
        latent_table: Artifact,
        codec_checkpoint: Artifact,
        **plans: Artifact,
    ) -> dg.MaterializeResult:
        from melodygan_core import prior
        from melodygan_core.audio import plots
        from melodygan_core.gallery.figures import curve_groups

        config, core_store = configs.config_of(context, type(default)), store.open()
        callback = reporting.metrics_callback(context)
        tables = (latent_table, codec_checkpoint)
        with reporting.one_sentence_errors(), starting.given(context, store, settings, "prior") as start:
            made = prior.train(name, *tables, core_store, config, callback, start, **plans)
            device = config.optimizer.device
            health = prior.check_collapse(made, latent_table, codec_checkpoint, core_store, device, **plans)
        history = made.metrics["history"]
        picture = reporting.image(store, made.uri, lambda: plots.curves_png(history, curve_groups(history)))
        checks = _checks(health, made.metrics["finite"])
        return reporting.artifact(made, store, {"curves": picture}, check_results=checks)

    return prior_checkpoint


@dg.definitions
def priors() -> dg.Definitions:
    """A checkpoint per prior of the trained pipelines."""
    config = deployed_config()
    pairs = dict.fromkeys((row.codec, row.prior) for row in config.trained_pipelines().values())
    start = config.starts("prior")
    assets = [build_asset(codec, name, config.priors[codec][name], start) for codec, name in pairs]
    return dg.Definitions(assets=assets)
