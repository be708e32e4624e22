"""latents -> GAN."""

from typing import Any

import dagster as dg

from melodygan_core.config import FAMILIES, VERSIONS
from melodygan_core.storage.store import Artifact
from melodygan_dagster import configs, reporting
from melodygan_dagster.conditions import AFTER_TRAINING, QUARTERLY
from melodygan_dagster.io_managers import RECORD
from melodygan_dagster.resources import OWNER, StoreResource, deployed_preset


def _checks(metrics: dict[str, Any]) -> list[dg.AssetCheckResult]:
    from melodygan_core.prior.gan.collapse import HEALTHY_RANGE

    low, high = HEALTHY_RANGE
    return [
        dg.AssetCheckResult(
            passed=low <= metrics["diversity"] <= high,
            check_name="no_mode_collapse",
            description=f"generated segments lie {metrics['diversity']:.2f} times as far apart as real ones; "
            f"allowed: {low} to {high}",
            metadata={"diversity": metrics["diversity"], "allowed": f"{low} to {high}"},
        ),
        dg.AssetCheckResult(passed=metrics["finite"], check_name="finite"),
    ]


def _of(family: str) -> dg.AssetsDefinition:
    preset = getattr(deployed_preset(), family).gan

    @dg.asset(
        key_prefix=family,
        ins={
            "latent_table": dg.AssetIn(key_prefix=family),
            "autoencoder_checkpoint": dg.AssetIn(key_prefix=family),
        },
        group_name=family,
        kinds={"torch", "safetensors"},
        owners=[OWNER],
        code_version=VERSIONS["gan"],
        automation_condition=AFTER_TRAINING,
        freshness_policy=QUARTERLY,
        io_manager_key="records",
        dagster_type=RECORD,
        pool="gpu",
        config_schema=configs.schema(preset),
        check_specs=[
            dg.AssetCheckSpec(
                "no_mode_collapse",
                asset=[family, "gan_checkpoint"],
                blocking=True,
                description="Generated segments differ from each other about as much as real ones do.",
            ),
            dg.AssetCheckSpec(
                "finite",
                asset=[family, "gan_checkpoint"],
                blocking=True,
                description="No weight of the generator and nothing that it makes is NaN or infinite.",
            ),
        ],
    )
    def gan_checkpoint(
        context: dg.AssetExecutionContext,
        store: StoreResource,
        latent_table: Artifact,
        autoencoder_checkpoint: Artifact,
    ) -> dg.MaterializeResult:
        """A generator of latents, chosen by the distance of what it makes to validation, not by its age."""
        from melodygan_core.audio import plots
        from melodygan_core.prior import gan

        config = configs.config_of(context, type(preset))
        made = gan.train(
            latent_table, autoencoder_checkpoint, store.open(), config, reporting.observer(context)
        )
        groups = [
            ["train/adv/disc", "train/adv/gen"],
            ["validation/kad", "validation/kad_floor"],
            ["validation/diversity"],
        ]
        health = gan.check_collapse(made, latent_table, autoencoder_checkpoint, store.open())
        curves = reporting.image(store, made.uri, lambda: plots.curves_png(made.metrics["history"], groups))
        return reporting.artifact(made, store, {"curves": curves}, check_results=_checks(vars(health)))

    return gan_checkpoint


gan_checkpoints = [_of(family) for family in FAMILIES]
