"""The assets of every trained pipeline: samples, evaluation and release, by the table in the config."""

import dagster as dg

from melodygan_dagster.defs import evaluation, generation, release
from melodygan_dagster.pipelines import deployed_pipelines


@dg.definitions
def pipelines() -> dg.Definitions:
    """`generated_samples`, `evaluation` and `release` per trained pipeline."""
    stages = (generation, evaluation, release)
    return dg.Definitions(
        assets=[stage.build_asset(pipeline) for pipeline in deployed_pipelines() for stage in stages]
    )
