"""pipeline -> a portable folder."""

import dagster as dg

from melodygan_core.config import VERSIONS
from melodygan_core.storage import Artifact
from melodygan_dagster import reporting
from melodygan_dagster.conditions import AFTER_TRAINING
from melodygan_dagster.io_managers import RECORD
from melodygan_dagster.pipelines import DeployedPipeline
from melodygan_dagster.resources import OWNER, StoreResource


def build_asset(pipeline: DeployedPipeline) -> dg.AssetsDefinition:
    """The release of a pipeline."""

    @dg.asset(
        key=[pipeline.name, "release"],
        ins={**pipeline.ins, "evaluation": dg.AssetIn([pipeline.name, "evaluation"])},
        group_name=pipeline.name,
        kinds={"safetensors", "markdown"},
        owners=[OWNER],
        code_version=VERSIONS["release"],
        automation_condition=AFTER_TRAINING,
        io_manager_key="records",
        dagster_type=RECORD,
    )
    def release(
        store: StoreResource, evaluation: Artifact, feature_table: Artifact, **checkpoints: Artifact
    ) -> dg.MaterializeResult:
        """One self-contained folder for `melodygan generate`; kept back when worse than the one in use."""
        from melodygan_core import release as core
        from melodygan_core.maintenance import erasure

        core_store = store.open()
        with reporting.one_sentence_errors():
            published = core.publish(
                pipeline.artifacts(checkpoints),
                evaluation,
                feature_table,
                core_store,
                pipeline.config.generation,
                core_store.record(core.name_of(pipeline.name)),
            )
        card = store.url(f"{published.artifact.uri}/MODEL_CARD.md")
        metadata = {"replaced": published.replaced, "reason": published.reason, "model_card": card}
        erased = erasure.of_artifact(core_store, published.artifact)
        if erased:
            metadata["erased_sources"] = ", ".join(erased)
        return reporting.artifact(published.artifact, store, metadata)

    return release
