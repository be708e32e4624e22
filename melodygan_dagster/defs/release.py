"""models -> a portable folder."""

import dagster as dg

from melodygan_core.config import VERSIONS
from melodygan_core.store import Artifact
from melodygan_dagster import reporting
from melodygan_dagster.conditions import AFTER_TRAINING
from melodygan_dagster.io_managers import RECORD
from melodygan_dagster.resources import OWNER, StoreResource


@dg.asset(
    key_prefix="dense",
    ins={
        name: dg.AssetIn(key_prefix="dense")
        for name in ("gan_checkpoint", "autoencoder_checkpoint", "evaluation")
    },
    group_name="dense",
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
    evaluation: Artifact,
    feature_table: Artifact,
) -> dg.MaterializeResult:
    """One self-contained folder that `melodygan generate` takes; kept back when worse than the one in use."""
    from melodygan_core import forgetting
    from melodygan_core import release as core

    core_store = store.open()
    published = core.publish(
        gan_checkpoint,
        autoencoder_checkpoint,
        evaluation,
        feature_table,
        core_store,
        core_store.record(core.NAME),
    )
    card = store.url(f"{published.artifact.uri}/MODEL_CARD.md")
    shown = {"replaced": published.replaced, "reason": published.reason, "model_card": card}
    forgotten = forgetting.of_artifact(core_store, published.artifact)
    if forgotten:
        shown["forgotten_sources"] = ", ".join(forgotten)
    return reporting.artifact(published.artifact, store, shown)
