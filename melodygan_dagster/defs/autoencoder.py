"""dataset -> autoencoder."""

from typing import Any

import dagster as dg

from melodygan_core.config import VERSIONS, DenseAutoencoderConfig
from melodygan_core.store import Artifact
from melodygan_dagster import configs, reporting
from melodygan_dagster.conditions import QUARTERLY, TRAINING
from melodygan_dagster.io_managers import RECORD
from melodygan_dagster.resources import OWNER, StoreResource, deployed_preset

KEY = dg.AssetKey(["dense", "autoencoder_checkpoint"])


def _checks(health: Any) -> list[dg.AssetCheckResult]:
    from melodygan_core.autoencoder.health import MIN_ALIVE, MIN_SPREAD

    said = (
        f"{health.alive_dims} directions of the latent are alive, at least {MIN_ALIVE} are needed; "
        f"reconstructions lie {health.spread:.2f} times as far apart as the segments, "
        f"at least {MIN_SPREAD} is needed"
    )
    return [
        dg.AssetCheckResult(
            passed=not health.collapsed,
            check_name="no_collapse",
            description=said,
            metadata={"alive_dims": health.alive_dims, "spread": health.spread},
        ),
        dg.AssetCheckResult(passed=health.finite, check_name="finite"),
    ]


@dg.asset(
    key_prefix="dense",
    group_name="dense",
    kinds={"torch", "safetensors"},
    owners=[OWNER],
    code_version=VERSIONS["autoencoder"],
    automation_condition=TRAINING,
    freshness_policy=QUARTERLY,
    io_manager_key="records",
    dagster_type=RECORD,
    pool="gpu",
    config_schema=configs.schema(deployed_preset().dense.autoencoder),
    check_specs=[
        dg.AssetCheckSpec(
            "not_behind_pca",
            asset=KEY,
            description="On test tracks it explains at least as much as PCA of the same size, within 0.02.",
        ),
        dg.AssetCheckSpec(
            "no_collapse",
            asset=KEY,
            blocking=True,
            description="Different test segments have different latents and come out different.",
        ),
        dg.AssetCheckSpec(
            "finite", asset=KEY, blocking=True, description="What it makes of test segments is numbers."
        ),
    ],
)
def autoencoder_checkpoint(
    context: dg.AssetExecutionContext, store: StoreResource, feature_table: Artifact
) -> dg.MaterializeResult:
    """A fully connected autoencoder over each segment's binned log-mel and MFCC; best weights by validation."""
    from melodygan_core import autoencoder, plots

    config = configs.config_of(context, DenseAutoencoderConfig)
    made = autoencoder.train(feature_table, store.open(), config, reporting.observer(context))
    groups = [["train/loss", "validation/loss"], ["validation/explained_variance"]]
    gap = made.metrics["test/explained_variance"] - made.metrics["test/explained_variance_pca"]
    return reporting.artifact(
        made,
        store,
        {"curves": reporting.image(store, made.uri, lambda: plots.curves_png(made.metrics["history"], groups))},
        check_results=[
            dg.AssetCheckResult(
                passed=gap >= -0.02,
                check_name="not_behind_pca",
                severity=dg.AssetCheckSeverity.WARN,
                metadata={"gap": gap},
            ),
            *_checks(autoencoder.examine(made, feature_table, store.open())),
        ],
    )
