"""Spectrum to wav: the asset `vocoder_checkpoint`, which all codecs share, and the flow over it."""

import dagster as dg

from melodygan_core.config import VERSIONS, FlowVocoderConfig, VocoderConfig
from melodygan_core.storage.store import Artifact
from melodygan_dagster import configs, reporting, starting
from melodygan_dagster.conditions import AFTER_TRAINING, QUARTERLY, TRAINING
from melodygan_dagster.io_managers import RECORD
from melodygan_dagster.resources import OWNER, Settings, StoreResource, deployed_config


def build_asset(preset: VocoderConfig, start_from: str = "") -> dg.AssetsDefinition:
    """Returns the asset `vocoder_checkpoint`.

    Args:
        preset: The values that the launchpad starts from.
        start_from: Release whose weights it begins with in this deployment.
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
        config_schema=configs.training_schema(preset, start_from),
        check_specs=[
            dg.AssetCheckSpec(
                "nearer_than_griffin_lim",
                asset="vocoder_checkpoint",
                description="From the same spectra of test tracks, it makes sound nearer to the original.",
            )
        ],
    )
    def vocoder_checkpoint(
        context: dg.AssetExecutionContext,
        store: StoreResource,
        settings: Settings,
        feature_table: Artifact,
    ) -> dg.MaterializeResult:
        """A network that turns spectra into sound, trained on the dataset, measured beside Griffin-Lim."""
        from melodygan_core import vocoder
        from melodygan_core.audio import plots

        config, callback = configs.config_of(context, VocoderConfig), reporting.metrics_callback(context)
        with reporting.one_sentence_errors(), starting.given(context, store, settings, "vocoder") as start:
            made = vocoder.train(feature_table, store.open(), config, callback, start)
        groups = [["train/recon/bands", "validation/log_bands_l1"], ["train/recon/stft", "validation/stft"]]
        curves = reporting.image(store, made.uri, lambda: plots.curves_png(made.metrics["history"], groups))
        check = _nearer(made, "nearer_than_griffin_lim", "neural", "griffin_lim")
        return reporting.artifact(made, store, {"curves": curves}, check_results=[check])

    return vocoder_checkpoint


def build_flow_asset(preset: FlowVocoderConfig) -> dg.AssetsDefinition:
    """Returns the asset `flow_vocoder_checkpoint`.

    Args:
        preset: The values that the launchpad starts from.
    """

    @dg.asset(
        group_name="vocoder",
        kinds={"torch", "safetensors"},
        owners=[OWNER],
        code_version=VERSIONS["flow_vocoder"],
        automation_condition=AFTER_TRAINING,
        freshness_policy=QUARTERLY,
        io_manager_key="records",
        dagster_type=RECORD,
        pool="gpu",
        config_schema=configs.schema(preset),
        check_specs=[
            dg.AssetCheckSpec(
                "nearer_than_neural",
                asset="flow_vocoder_checkpoint",
                description="From the same spectra of test tracks, it makes sound nearer to the original than "
                "the vocoder that it refines.",
            )
        ],
    )
    def flow_vocoder_checkpoint(
        context: dg.AssetExecutionContext,
        store: StoreResource,
        feature_table: Artifact,
        vocoder_checkpoint: Artifact,
    ) -> dg.MaterializeResult:
        """A flow that refines the vocoder's sound in a few steps, measured beside it and Griffin-Lim."""
        from melodygan_core.audio import plots
        from melodygan_core.gallery.figures import curve_groups
        from melodygan_core.vocoder import flow

        config, callback = configs.config_of(context, FlowVocoderConfig), reporting.metrics_callback(context)
        with reporting.one_sentence_errors():
            made = flow.train(vocoder_checkpoint, feature_table, store.open(), config, callback)
        history = made.metrics["history"]
        curves = reporting.image(store, made.uri, lambda: plots.curves_png(history, curve_groups(history)))
        check = _nearer(made, "nearer_than_neural", "flow", "neural")
        return reporting.artifact(made, store, {"curves": curves}, check_results=[check])

    return flow_vocoder_checkpoint


def _nearer(made: Artifact, check: str, name: str, other: str) -> dg.AssetCheckResult:
    """Whether a vocoder's sound is nearer to the original than another's, by KAD."""
    kads = {vocoder: made.metrics[f"test/{vocoder}/kad"] for vocoder in (name, other)}
    comparable = None not in kads.values()
    return dg.AssetCheckResult(
        passed=not comparable or kads[name] < kads[other],
        check_name=check,
        severity=dg.AssetCheckSeverity.WARN,
        metadata=reporting.figures(kads) if comparable else {"not_compared": "too few test tracks"},
    )


@dg.definitions
def defs() -> dg.Definitions:
    """Returns the vocoder, and the flow over it if a trained pipeline uses that."""
    config = deployed_config()
    assets = [build_asset(config.vocoder, config.starts("vocoder"))]
    if any(row.vocoder == "flow" for row in config.trained_pipelines().values()):
        assets.append(build_flow_asset(config.flow_vocoder))
    return dg.Definitions(assets=assets)
