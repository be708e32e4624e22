"""dataset -> codec: one checkpoint per codec that a trained pipeline uses."""

from typing import Any

import dagster as dg

from melodygan_core.config import VERSIONS
from melodygan_core.storage import Artifact
from melodygan_dagster import configs, reporting, starting
from melodygan_dagster.conditions import QUARTERLY, TRAINING
from melodygan_dagster.io_managers import RECORD
from melodygan_dagster.resources import OWNER, Settings, StoreResource, deployed_config

CHECKPOINT = "autoencoder_checkpoint"


def _checks(health: Any) -> list[dg.AssetCheckResult]:
    from melodygan_core.codec.collapse import MIN_ACTIVE, MIN_DIVERSITY

    description = (
        f"{health.active_dims} directions of the latent are active (at least {MIN_ACTIVE}); "
        f"reconstructions lie {health.diversity:.2f} times as far apart as the originals "
        f"(at least {MIN_DIVERSITY})"
    )
    return [
        dg.AssetCheckResult(
            passed=not health.collapsed,
            check_name="no_collapse",
            description=description,
            metadata=reporting.figures({"active_dims": health.active_dims, "diversity": health.diversity}),
        ),
        dg.AssetCheckResult(passed=health.finite, check_name="finite"),
    ]


def _beside_pca(metrics: dict[str, Any]) -> dg.AssetCheckResult:
    pca = metrics.get("test/explained_variance_pca")
    gap = None if pca is None else metrics["test/explained_variance"] - pca
    return dg.AssetCheckResult(
        passed=gap is None or gap >= -0.02,
        check_name="not_behind_pca",
        severity=dg.AssetCheckSeverity.WARN,
        metadata=reporting.figures({"gap": "not measured for this codec" if gap is None else gap}),
    )


def build_asset(name: str, default: Any, start_from: str = "") -> dg.AssetsDefinition:
    """The checkpoint asset of a codec.

    Args:
        name: Of the registered codec.
        default: Its config in this deployment, the launchpad's default.
        start_from: Release whose weights it begins with in this deployment.
    """
    key = [name, CHECKPOINT]

    @dg.asset(
        key=key,
        group_name=name,
        kinds={"torch", "safetensors"},
        owners=[OWNER],
        code_version=VERSIONS["codec"],
        automation_condition=TRAINING,
        freshness_policy=QUARTERLY,
        io_manager_key="records",
        dagster_type=RECORD,
        pool="gpu",
        config_schema=configs.training_schema(default, start_from),
        description=f"The {name} codec: features to latents and back; the best weights by validation.",
        check_specs=[
            dg.AssetCheckSpec(
                "not_behind_pca",
                asset=key,
                description="On test tracks it explains at least as much as PCA of the same size, within 0.02.",
            ),
            dg.AssetCheckSpec(
                "no_collapse",
                asset=key,
                blocking=True,
                description="Different test segments have different latents and reconstructions.",
            ),
            dg.AssetCheckSpec(
                "finite", asset=key, blocking=True, description="Latents and reconstructions are finite."
            ),
        ],
    )
    def autoencoder_checkpoint(
        context: dg.AssetExecutionContext,
        store: StoreResource,
        settings: Settings,
        feature_table: Artifact,
    ) -> dg.MaterializeResult:
        from melodygan_core import codec
        from melodygan_core.audio import plots
        from melodygan_core.gallery.figures import curve_groups

        config, callback = configs.config_of(context, type(default)), reporting.metrics_callback(context)
        with reporting.one_sentence_errors(), starting.given(context, store, settings, "codec") as start:
            made = codec.train(name, feature_table, store.open(), config, callback, start)
            health = codec.check_collapse(made, feature_table, store.open(), config.optimizer.device)
        history = made.metrics["history"]
        picture = reporting.image(store, made.uri, lambda: plots.curves_png(history, curve_groups(history)))
        return reporting.artifact(
            made,
            store,
            {"curves": picture},
            check_results=[_beside_pca(made.metrics), *_checks(health)],
        )

    return autoencoder_checkpoint


@dg.definitions
def codecs() -> dg.Definitions:
    """A checkpoint per codec of the trained pipelines."""
    config = deployed_config()
    names, start = (
        dict.fromkeys(row.codec for row in config.trained_pipelines().values()),
        config.starts("codec"),
    )
    return dg.Definitions(assets=[build_asset(name, config.codecs[name], start) for name in names])
