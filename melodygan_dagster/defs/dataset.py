"""features -> dataset."""

import dagster as dg

from melodygan_core.config import VERSIONS
from melodygan_dagster import reporting
from melodygan_dagster.conditions import DATASET, NIGHTLY
from melodygan_dagster.io_managers import RECORD
from melodygan_dagster.resources import OWNER, Settings, StoreResource


@dg.asset(
    deps=["features", "catalogue"],
    group_name="features",
    kinds={"parquet", "arrow"},
    owners=[OWNER],
    code_version=VERSIONS["dataset"],
    automation_condition=DATASET,
    freshness_policy=NIGHTLY,
    io_manager_key="records",
    dagster_type=RECORD,
    check_specs=[
        dg.AssetCheckSpec(
            "no_leakage",
            asset="feature_table",
            blocking=True,
            description="No audio is in two splits.",
        ),
    ],
)
def feature_table(store: StoreResource, settings: Settings) -> dg.MaterializeResult:
    """The dataset: which segments are trained on, in which split, packed for memory-mapped reading.

    Incremental: only tracks whose features are new are read. An unchanged rerun has the same data version.
    """
    from melodygan_core import dataset

    core_store = store.open()
    made = dataset.assemble(core_store, settings.dataset(), settings.features(), settings.separation())
    described = dataset.describe(core_store, made)
    return reporting.artifact(
        made,
        store,
        {
            "tracks_by_split": reporting.table(described.splits),
            "excluded": reporting.table(described.excluded),
        },
        check_results=[
            dg.AssetCheckResult(
                passed=not described.leaking_groups,
                check_name="no_leakage",
                metadata={"groups_in_two_splits": ", ".join(described.leaking_groups) or "none"},
            )
        ],
    )
