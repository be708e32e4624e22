"""dataset -> latents."""

import dagster as dg

from melodygan_core.config import FAMILIES, VERSIONS
from melodygan_core.storage.store import Artifact
from melodygan_dagster import reporting
from melodygan_dagster.conditions import AFTER_TRAINING
from melodygan_dagster.io_managers import RECORD
from melodygan_dagster.resources import OWNER, StoreResource


def _of(family: str) -> dg.AssetsDefinition:
    @dg.asset(
        key_prefix=family,
        ins={"autoencoder_checkpoint": dg.AssetIn(key_prefix=family)},
        group_name=family,
        kinds={"parquet", "torch"},
        owners=[OWNER],
        code_version=VERSIONS["latents"],
        automation_condition=AFTER_TRAINING,
        io_manager_key="records",
        dagster_type=RECORD,
    )
    def latent_table(
        store: StoreResource, autoencoder_checkpoint: Artifact, feature_table: Artifact
    ) -> dg.MaterializeResult:
        """The latent of every usable segment, with the mean and deviation that standardise them."""
        from melodygan_core import latents

        return reporting.artifact(latents.encode(autoencoder_checkpoint, feature_table, store.open()), store)

    return latent_table


latent_tables = [_of(family) for family in FAMILIES]
