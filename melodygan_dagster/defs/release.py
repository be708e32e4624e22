"""models -> a portable folder."""

import dagster as dg

from melodygan_core.config import FAMILIES, VERSIONS
from melodygan_core.storage.store import Artifact
from melodygan_dagster import reporting
from melodygan_dagster.conditions import AFTER_TRAINING
from melodygan_dagster.io_managers import RECORD
from melodygan_dagster.resources import OWNER, StoreResource, deployed_preset


def _of(family: str) -> dg.AssetsDefinition:
    @dg.asset(
        key_prefix=family,
        ins={
            name: dg.AssetIn(key_prefix=family)
            for name in ("gan_checkpoint", "autoencoder_checkpoint", "evaluation")
        },
        group_name=family,
        kinds={"safetensors", "markdown"},
        owners=[OWNER],
        code_version=VERSIONS["release"],
        automation_condition=AFTER_TRAINING,
        io_manager_key="records",
        dagster_type=RECORD,
    )
    def release(
        store: StoreResource,
        gan_checkpoint: Artifact,
        autoencoder_checkpoint: Artifact,
        vocoder_checkpoint: Artifact,
        evaluation: Artifact,
        feature_table: Artifact,
    ) -> dg.MaterializeResult:
        """One self-contained folder for `melodygan generate`; kept back when worse than the one in use."""
        from melodygan_core import release as core
        from melodygan_core.maintenance import erasure

        core_store = store.open()
        published = core.publish(
            gan_checkpoint,
            autoencoder_checkpoint,
            vocoder_checkpoint,
            evaluation,
            feature_table,
            core_store,
            deployed_preset().generation,
            core_store.record(core.name_of(family)),
        )
        card = store.url(f"{published.artifact.uri}/MODEL_CARD.md")
        shown = {"replaced": published.replaced, "reason": published.reason, "model_card": card}
        forgotten = erasure.of_artifact(core_store, published.artifact)
        if forgotten:
            shown["forgotten_sources"] = ", ".join(forgotten)
        return reporting.artifact(published.artifact, store, shown)

    return release


releases = [_of(family) for family in FAMILIES]
