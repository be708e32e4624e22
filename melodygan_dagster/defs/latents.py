"""dataset -> latents: one table per codec that a trained pipeline uses."""

import dagster as dg

from melodygan_core.config import VERSIONS
from melodygan_core.storage import Artifact
from melodygan_dagster import reporting
from melodygan_dagster.conditions import AFTER_TRAINING
from melodygan_dagster.defs.codec import CHECKPOINT
from melodygan_dagster.io_managers import RECORD
from melodygan_dagster.resources import OWNER, StoreResource, deployed_config


def build_asset(codec: str, device: str) -> dg.AssetsDefinition:
    """The latent table of a codec, which encodes on a device."""

    @dg.asset(
        key=[codec, "latent_table"],
        ins={"codec_checkpoint": dg.AssetIn([codec, CHECKPOINT])},
        group_name=codec,
        kinds={"parquet", "torch"},
        owners=[OWNER],
        code_version=VERSIONS["latents"],
        automation_condition=AFTER_TRAINING,
        io_manager_key="records",
        dagster_type=RECORD,
        pool="gpu",
    )
    def latent_table(
        store: StoreResource, codec_checkpoint: Artifact, feature_table: Artifact
    ) -> dg.MaterializeResult:
        """The latents of every usable segment, with the mean and deviation that standardise them."""
        from melodygan_core import latents

        with reporting.one_sentence_errors():
            made = latents.encode(codec_checkpoint, feature_table, store.open(), device)
        return reporting.artifact(made, store)

    return latent_table


@dg.definitions
def latent_tables() -> dg.Definitions:
    """A table per codec of the trained pipelines."""
    config = deployed_config()
    names = dict.fromkeys(row.codec for row in config.trained_pipelines().values())
    assets = [build_asset(name, config.codecs[name].optimizer.device) for name in names]
    return dg.Definitions(assets=assets)
