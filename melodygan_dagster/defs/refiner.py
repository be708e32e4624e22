"""codec -> refiner: one checkpoint per refined codec that a trained pipeline uses."""

import dagster as dg

from melodygan_core.config import VERSIONS, RefinerConfig
from melodygan_core.storage import Artifact
from melodygan_dagster import configs, reporting, starting
from melodygan_dagster.conditions import AFTER_TRAINING, QUARTERLY
from melodygan_dagster.defs.codec import CHECKPOINT
from melodygan_dagster.io_managers import RECORD
from melodygan_dagster.resources import OWNER, Settings, StoreResource, deployed_config


def build_asset(codec: str, default: RefinerConfig, start_from: str = "") -> dg.AssetsDefinition:
    """The checkpoint asset of a codec's refiner.

    Args:
        codec: Name of the codec.
        default: The refiner's config in this deployment, the launchpad's default.
        start_from: Release whose weights it begins with in this deployment.
    """
    key = [codec, "refiner_checkpoint"]

    @dg.asset(
        key=key,
        ins={
            "feature_table": dg.AssetIn("feature_table"),
            "codec_checkpoint": dg.AssetIn([codec, CHECKPOINT]),
        },
        group_name=codec,
        kinds={"torch", "safetensors"},
        owners=[OWNER],
        code_version=VERSIONS["refiner"],
        automation_condition=AFTER_TRAINING,
        freshness_policy=QUARTERLY,
        io_manager_key="records",
        dagster_type=RECORD,
        pool="gpu",
        config_schema=configs.training_schema(default, start_from),
        description=f"A flow that adds the detail that the {codec} codec loses. The best weights by the "
        "error on validation tracks.",
        check_specs=[
            dg.AssetCheckSpec(
                "nearer_than_the_codec",
                asset=key,
                description="Its error on validation tracks is below that of the codec's decoder.",
            ),
        ],
    )
    def refiner_checkpoint(
        context: dg.AssetExecutionContext,
        store: StoreResource,
        settings: Settings,
        feature_table: Artifact,
        codec_checkpoint: Artifact,
    ) -> dg.MaterializeResult:
        from melodygan_core.audio import plots
        from melodygan_core.codec import refiner
        from melodygan_core.gallery.figures import curve_groups

        config, callback = configs.config_of(context, RefinerConfig), reporting.metrics_callback(context)
        with reporting.one_sentence_errors(), starting.given(context, store, settings, "refiner") as start:
            made = refiner.train(codec_checkpoint, feature_table, store.open(), config, callback, start)
        history, error = made.metrics["history"], made.metrics["validation/loss"]
        picture = reporting.image(store, made.uri, lambda: plots.curves_png(history, curve_groups(history)))
        check = dg.AssetCheckResult(
            passed=error < 1,
            check_name="nearer_than_the_codec",
            severity=dg.AssetCheckSeverity.WARN,
            description=f"its squared error is {error:.2f} of the decoder's",
            metadata=reporting.figures({"error": error}),
        )
        return reporting.artifact(made, store, {"curves": picture}, check_results=[check])

    return refiner_checkpoint


@dg.definitions
def refiners() -> dg.Definitions:
    """A checkpoint per refined codec of the trained pipelines."""
    config = deployed_config()
    names = dict.fromkeys(row.codec for row in config.trained_pipelines().values() if row.refined)
    start = config.starts("refiner")
    return dg.Definitions(assets=[build_asset(name, config.refiner, start) for name in names])
