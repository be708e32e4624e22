"""dataset -> autoencoder."""

from typing import Any

import dagster as dg

from melodygan_core.config import FAMILIES, VERSIONS
from melodygan_core.storage.store import Artifact
from melodygan_dagster import configs, reporting
from melodygan_dagster.conditions import QUARTERLY, TRAINING
from melodygan_dagster.io_managers import RECORD
from melodygan_dagster.resources import OWNER, StoreResource, deployed_preset


def _checks(health: Any) -> list[dg.AssetCheckResult]:
    from melodygan_core.codec.collapse import MIN_ACTIVE, MIN_SPREAD

    said = (
        f"{health.active_dims} directions of the latent are alive, at least {MIN_ACTIVE} are needed; "
        f"reconstructions lie {health.spread:.2f} times as far apart as the segments, "
        f"at least {MIN_SPREAD} is needed"
    )
    return [
        dg.AssetCheckResult(
            passed=not health.collapsed,
            check_name="no_collapse",
            description=said,
            metadata={"active_dims": health.active_dims, "spread": health.spread},
        ),
        dg.AssetCheckResult(passed=health.finite, check_name="finite"),
    ]


def _beside_pca(metrics: dict[str, Any]) -> list[dg.AssetCheckResult]:
    gap = metrics["test/explained_variance"] - metrics["test/explained_variance_pca"]
    return [
        dg.AssetCheckResult(
            passed=gap >= -0.02,
            check_name="not_behind_pca",
            severity=dg.AssetCheckSeverity.WARN,
            metadata={"gap": gap},
        )
    ]


def _of(family: str) -> dg.AssetsDefinition:
    preset = getattr(deployed_preset(), family).autoencoder
    beside_pca = [
        dg.AssetCheckSpec(
            "not_behind_pca",
            asset=[family, "autoencoder_checkpoint"],
            description="On test tracks it explains at least as much as PCA of the same size, within 0.02.",
        )
    ]

    @dg.asset(
        key_prefix=family,
        group_name=family,
        kinds={"torch", "safetensors"},
        owners=[OWNER],
        code_version=VERSIONS["autoencoder"],
        automation_condition=TRAINING,
        freshness_policy=QUARTERLY,
        io_manager_key="records",
        dagster_type=RECORD,
        pool="gpu",
        config_schema=configs.schema(preset),
        check_specs=[
            *(beside_pca if family == "dense" else []),
            dg.AssetCheckSpec(
                "no_collapse",
                asset=[family, "autoencoder_checkpoint"],
                blocking=True,
                description="Different test segments have different latents and come out different.",
            ),
            dg.AssetCheckSpec(
                "finite",
                asset=[family, "autoencoder_checkpoint"],
                blocking=True,
                description="What it makes of test segments is numbers.",
            ),
        ],
    )
    def autoencoder_checkpoint(
        context: dg.AssetExecutionContext, store: StoreResource, feature_table: Artifact
    ) -> dg.MaterializeResult:
        """Log-mel to latents and back; the best weights by validation.

        `dense` is fully connected, over each segment's binned log-mel and MFCC; `temporal` makes a sequence of
        latents of the log-mel's frames.
        """
        from melodygan_core import codec
        from melodygan_core.audio import plots

        config = configs.config_of(context, type(preset))
        made = codec.train(feature_table, store.open(), config, reporting.observer(context))
        groups = [["train/loss", "validation/loss"], ["validation/explained_variance"]]
        return reporting.artifact(
            made,
            store,
            {
                "curves": reporting.image(
                    store, made.uri, lambda: plots.curves_png(made.metrics["history"], groups)
                )
            },
            check_results=[
                *(_beside_pca(made.metrics) if family == "dense" else []),
                *_checks(codec.check_collapse(made, feature_table, store.open())),
            ],
        )

    return autoencoder_checkpoint


autoencoder_checkpoints = [_of(family) for family in FAMILIES]
