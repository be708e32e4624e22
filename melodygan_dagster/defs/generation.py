"""pipeline -> sound."""

import dagster as dg

from melodygan_core.config import VERSIONS, GenerationConfig
from melodygan_core.storage import Artifact
from melodygan_dagster import configs, reporting
from melodygan_dagster.conditions import AFTER_TRAINING
from melodygan_dagster.io_managers import RECORD
from melodygan_dagster.pipelines import DeployedPipeline
from melodygan_dagster.resources import OWNER, StoreResource


def build_asset(pipeline: DeployedPipeline) -> dg.AssetsDefinition:
    """The samples of a pipeline."""

    @dg.asset(
        key=[pipeline.name, "generated_samples"],
        ins=pipeline.ins,
        group_name=pipeline.name,
        kinds={"wav", "parquet"},
        owners=[OWNER],
        code_version=VERSIONS["generation"],
        pool="gpu",
        automation_condition=AFTER_TRAINING,
        io_manager_key="records",
        dagster_type=RECORD,
        config_schema=configs.schema(pipeline.config.generation),
    )
    def generated_samples(
        context: dg.AssetExecutionContext,
        store: StoreResource,
        feature_table: Artifact,
        **checkpoints: Artifact,
    ) -> dg.MaterializeResult:
        """New sound: noise, latents, spectrum, wav; each sample with its provenance and licences."""
        from melodygan_core import generation

        config = configs.config_of(context, GenerationConfig)
        with reporting.one_sentence_errors():
            made = generation.generate(pipeline.artifacts(checkpoints), feature_table, store.open(), config)
        rows = made.metrics["samples"]
        metadata = reporting.samples(store, made.uri, [row["file"] for row in rows])
        return reporting.artifact(made, store, {**metadata, "samples": reporting.table(rows)})

    return generated_samples
