"""models -> figures."""

from collections.abc import Mapping
from typing import Any

import dagster as dg

from melodygan_core.config import VERSIONS, EvaluationConfig
from melodygan_core.store import Artifact
from melodygan_dagster import configs, reporting
from melodygan_dagster.conditions import AFTER_TRAINING
from melodygan_dagster.io_managers import RECORD
from melodygan_dagster.resources import OWNER, StoreResource, deployed_preset

KEY = dg.AssetKey(["dense", "evaluation"])
MIN_MEMORISATION_RATIO = 0.5


def _checks(metrics: Mapping[str, Any]) -> list[dg.AssetCheckResult]:
    ratio = metrics["memorisation/ratio"]
    return [
        dg.AssetCheckResult(
            passed=ratio >= MIN_MEMORISATION_RATIO,
            check_name="not_memorised",
            description=f"the nearest training segment is {ratio:.2f} times as far from generated segments "
            f"as from unseen real ones; allowed: at least {MIN_MEMORISATION_RATIO}",
            metadata={"ratio": ratio, "allowed": f"at least {MIN_MEMORISATION_RATIO}"},
        )
    ]


@dg.asset(
    key_prefix="dense",
    ins={
        "gan_checkpoint": dg.AssetIn(key_prefix="dense"),
        "autoencoder_checkpoint": dg.AssetIn(key_prefix="dense"),
    },
    group_name="dense",
    kinds={"parquet", "json"},
    owners=[OWNER],
    code_version=VERSIONS["evaluation"],
    automation_condition=AFTER_TRAINING,
    io_manager_key="records",
    dagster_type=RECORD,
    config_schema=configs.schema(deployed_preset().evaluation),
    check_specs=[
        dg.AssetCheckSpec(
            "not_memorised",
            asset=KEY,
            blocking=True,
            description="Generated segments do not lie far nearer to training segments than unseen ones.",
        )
    ],
)
def evaluation(
    context: dg.AssetExecutionContext,
    store: StoreResource,
    gan_checkpoint: Artifact,
    autoencoder_checkpoint: Artifact,
    feature_table: Artifact,
) -> dg.MaterializeResult:
    """Distances of a generated set to real test tracks, beside the floor and the ceilings of the chain."""
    from melodygan_core import evaluation as core
    from melodygan_core import plots

    config = configs.config_of(context, EvaluationConfig)
    generation = deployed_preset().generation
    made = core.evaluate(
        gan_checkpoint, autoencoder_checkpoint, feature_table, store.open(), config, generation
    )
    rows = made.metrics["table"]
    intervals = [(r["set"], r["kad"], r["kad_low"], r["kad_high"]) for r in rows]
    return reporting.artifact(
        made,
        store,
        {
            "picture": reporting.image(
                store, made.uri, lambda: plots.intervals_png(intervals, "KAD x1000 to test tracks")
            ),
            "distances": reporting.table(rows),
        },
        check_results=_checks(made.metrics),
    )
