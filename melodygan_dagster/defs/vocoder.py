"""log-mel -> wav: the vocoder that the families share."""

import dagster as dg

from melodygan_core.config import VERSIONS, VocoderConfig
from melodygan_core.storage.store import Artifact
from melodygan_dagster import configs, reporting
from melodygan_dagster.conditions import QUARTERLY, TRAINING
from melodygan_dagster.io_managers import RECORD
from melodygan_dagster.resources import OWNER, StoreResource, deployed_preset


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
    config_schema=configs.schema(deployed_preset().vocoder),
    check_specs=[
        dg.AssetCheckSpec(
            "nearer_than_griffin_lim",
            asset="vocoder_checkpoint",
            description="Of the same log-mels of test tracks it makes sound that is nearer to the truth.",
        )
    ],
)
def vocoder_checkpoint(
    context: dg.AssetExecutionContext, store: StoreResource, feature_table: Artifact
) -> dg.MaterializeResult:
    """A network that turns log-mel into sound, trained on the dataset's own; measured beside Griffin-Lim."""
    from melodygan_core import vocoder
    from melodygan_core.audio import plots

    config = configs.config_of(context, VocoderConfig)
    made = vocoder.train(feature_table, store.open(), config, reporting.observer(context))
    groups = [["train/recon/mel", "validation/log_mel_l1"], ["train/recon/stft", "validation/stft"]]
    gap = made.metrics["test/griffin_lim/kad"] - made.metrics["test/neural/kad"]
    return reporting.artifact(
        made,
        store,
        {"curves": reporting.image(store, made.uri, lambda: plots.curves_png(made.metrics["history"], groups))},
        check_results=[
            dg.AssetCheckResult(
                passed=gap > 0,
                check_name="nearer_than_griffin_lim",
                severity=dg.AssetCheckSeverity.WARN,
                metadata={"kad_gap": gap},
            )
        ],
    )
