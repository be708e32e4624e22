"""sound -> plans: one table per codec of whose latents a trained prior follows plans."""

from typing import Any

import dagster as dg

from melodygan_core.config import VERSIONS
from melodygan_core.storage import Artifact
from melodygan_dagster import reporting
from melodygan_dagster.conditions import AFTER_TRAINING
from melodygan_dagster.defs.codec import CHECKPOINT
from melodygan_dagster.io_managers import RECORD
from melodygan_dagster.pipelines import deployed_pipelines
from melodygan_dagster.resources import OWNER, StoreResource

# Of the audible tokens, so many have a note; of the tracks, so many have a beat. Outside, plans say little.
LEAST_VOICED, LEAST_WITH_BEAT = 0.2, 0.5


def _checks(metrics: dict[str, Any]) -> list[dg.AssetCheckResult]:
    warn = dg.AssetCheckSeverity.WARN
    voiced, with_beat = metrics["voiced_share"], metrics["share_with_beat"]
    return [
        dg.AssetCheckResult(passed=metrics["finite"], check_name="finite"),
        dg.AssetCheckResult(
            passed=voiced >= LEAST_VOICED,
            check_name="melody",
            severity=warn,
            description=f"{voiced:.0%} of the audible tokens have a note (at least {LEAST_VOICED:.0%})",
            metadata=reporting.figures({"voiced_share": voiced}),
        ),
        dg.AssetCheckResult(
            passed=with_beat >= LEAST_WITH_BEAT,
            check_name="beat",
            severity=warn,
            description=f"{with_beat:.0%} of the tracks have a regular beat (at least {LEAST_WITH_BEAT:.0%});"
            f" the mean confidence is {metrics['beat_confidence']:.2f}",
            metadata=reporting.figures(
                {k: metrics[k] for k in ("share_with_beat", "beat_confidence", "bar_confidence")}
            ),
        ),
    ]


def build_asset(codec: str) -> dg.AssetsDefinition:
    """The plan table at the rate of a codec's latents."""
    key = [codec, "plan_table"]

    @dg.asset(
        key=key,
        ins={"codec_checkpoint": dg.AssetIn([codec, CHECKPOINT])},
        group_name=codec,
        kinds={"parquet"},
        owners=[OWNER],
        code_version=VERSIONS["plan"],
        automation_condition=AFTER_TRAINING,
        io_manager_key="records",
        dagster_type=RECORD,
        check_specs=[
            dg.AssetCheckSpec("finite", asset=key, blocking=True, description="All values are finite."),
            dg.AssetCheckSpec("melody", asset=key, description="Enough tokens have a note of the melody."),
            dg.AssetCheckSpec("beat", asset=key, description="Enough tracks have a regular beat."),
        ],
    )
    def plan_table(
        store: StoreResource, codec_checkpoint: Artifact, feature_table: Artifact
    ) -> dg.MaterializeResult:
        """Harmony, melody, onsets, metre, loudness and sections of every track, per latent token."""
        from melodygan_core.plan.table import tabulate

        with reporting.one_sentence_errors():
            made = tabulate(codec_checkpoint, feature_table, store.open())
        return reporting.artifact(made, store, check_results=_checks(made.metrics))

    return plan_table


@dg.definitions
def plan_tables() -> dg.Definitions:
    """A table per codec of the trained pipelines that follow plans."""
    names = dict.fromkeys(p.row.codec for p in deployed_pipelines() if p.follows_plans)
    return dg.Definitions(assets=[build_asset(name) for name in names])
