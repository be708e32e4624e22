"""Spectrum to wav: the asset `vocoder_checkpoint`, which all codecs share."""

import dagster as dg

from melodygan_core.config import VERSIONS, VocoderConfig
from melodygan_core.storage.store import Artifact
from melodygan_dagster import configs, reporting
from melodygan_dagster.conditions import QUARTERLY, TRAINING
from melodygan_dagster.io_managers import RECORD
from melodygan_dagster.resources import OWNER, StoreResource, deployed_config


def build_asset(preset: VocoderConfig) -> dg.AssetsDefinition:
    """Returns the asset `vocoder_checkpoint`.

    Args:
        preset: The values that the launchpad starts from.
    """

    @dg.asset(
        group_name="vocoder",
        kinds={"torch", "safetensors"},
        owners=[OWNER],
        code_version=VERSIONS["vocoder"],
        automation_condition=TRAINING,
        freshness_policy=QUARTERLY,
        io_manager_key="records",
        dagster_type=RECORD,
        pool="gpu",
        config_schema=configs.schema(preset),
        check_specs=[
            dg.AssetCheckSpec(
                "nearer_than_griffin_lim",
                asset="vocoder_checkpoint",
                description="From the same spectra of test tracks, it makes sound nearer to the original.",
            )
        ],
    )
    def vocoder_checkpoint(
        context: dg.AssetExecutionContext, store: StoreResource, feature_table: Artifact
    ) -> dg.MaterializeResult:
        """A network that turns spectra into sound, trained on the dataset, measured beside Griffin-Lim."""
        from melodygan_core import vocoder
        from melodygan_core.audio import plots

        config = configs.config_of(context, VocoderConfig)
        with reporting.one_sentence_errors():
            made = vocoder.train(feature_table, store.open(), config, reporting.metrics_callback(context))
        groups = [["train/recon/bands", "validation/log_bands_l1"], ["train/recon/stft", "validation/stft"]]
        kads = {name: made.metrics[f"test/{name}/kad"] for name in ("neural", "griffin_lim")}
        comparable = None not in kads.values()
        curves = reporting.image(store, made.uri, lambda: plots.curves_png(made.metrics["history"], groups))
        return reporting.artifact(
            made,
            store,
            {"curves": curves},
            check_results=[
                dg.AssetCheckResult(
                    passed=not comparable or kads["neural"] < kads["griffin_lim"],
                    check_name="nearer_than_griffin_lim",
                    severity=dg.AssetCheckSeverity.WARN,
                    metadata=reporting.figures(kads) if comparable else {"not_compared": "too few test tracks"},
                )
            ],
        )

    return vocoder_checkpoint


@dg.definitions
def defs() -> dg.Definitions:
    """Returns the vocoder with the deployment's preset in its launchpad."""
    return dg.Definitions(assets=[build_asset(deployed_config().vocoder)])
