"""pipeline -> figures."""

from collections.abc import Mapping
from typing import Any

import dagster as dg

from melodygan_core.config import VERSIONS, EvaluationConfig
from melodygan_core.storage import Artifact
from melodygan_dagster import configs, reporting
from melodygan_dagster.conditions import AFTER_TRAINING
from melodygan_dagster.io_managers import RECORD
from melodygan_dagster.pipelines import DeployedPipeline
from melodygan_dagster.resources import OWNER, StoreResource

MIN_MEMORISATION_RATIO = 0.5


def _checks(metrics: Mapping[str, Any]) -> list[dg.AssetCheckResult]:
    from melodygan_core.evaluation import inside_spread

    ratio = metrics["memorisation/ratio"]
    seams = {k: v for k, v in metrics.items() if k.startswith("seams/")}
    return [
        dg.AssetCheckResult(
            passed=not seams or all(inside_spread(seams, what) for what in ("latents", "log_mel")),
            check_name="seams_inside_spread",
            severity=dg.AssetCheckSeverity.WARN,
            metadata=reporting.figures(seams) or {"seams": "none: the prior leaves no borders"},
        ),
        dg.AssetCheckResult(
            passed=ratio >= MIN_MEMORISATION_RATIO,
            check_name="not_memorised",
            description=f"the nearest training segment is {ratio:.2f} times as far from generated segments "
            f"as from unseen real ones (at least {MIN_MEMORISATION_RATIO} is allowed)",
            metadata={**reporting.figures({"ratio": ratio}), "allowed": f"at least {MIN_MEMORISATION_RATIO}"},
        ),
    ]


def music_metadata(made: Artifact, store: StoreResource) -> dict[str, Any]:
    """Returns a picture and a table of the measures of music, beside real and shuffled music."""
    from melodygan_core import evaluation as core
    from melodygan_core.audio import plots
    from melodygan_core.metrics.music import UNITS

    values = core.music_values(made, store.open())
    metadata: dict[str, Any] = {"music": reporting.table(core.music_table(made.metrics.get("music", [])))}
    if values:
        picture = reporting.image(store, f"{made.uri}/music", lambda: plots.distributions_png(values, UNITS))
        metadata = {"music_picture": picture, **metadata}
    return metadata


def build_asset(pipeline: DeployedPipeline) -> dg.AssetsDefinition:
    """The evaluation of a pipeline."""
    key = [pipeline.name, "evaluation"]

    @dg.asset(
        key=key,
        ins=pipeline.ins,
        group_name=pipeline.name,
        kinds={"parquet", "json"},
        owners=[OWNER],
        code_version=VERSIONS["evaluation"],
        pool="gpu",
        automation_condition=AFTER_TRAINING,
        io_manager_key="records",
        dagster_type=RECORD,
        config_schema=configs.schema(pipeline.config.evaluation),
        check_specs=[
            dg.AssetCheckSpec(
                "seams_inside_spread",
                asset=key,
                description="Across borders of what the prior makes at once, sound changes as much as within.",
            ),
            dg.AssetCheckSpec(
                "not_memorised",
                asset=key,
                blocking=True,
                description="Generated segments do not lie far nearer to training segments than unseen ones.",
            ),
        ],
    )
    def evaluation(
        context: dg.AssetExecutionContext,
        store: StoreResource,
        feature_table: Artifact,
        **checkpoints: Artifact,
    ) -> dg.MaterializeResult:
        """Distances of a generated set to real test tracks, beside real music and vocoder and codec alone."""
        from melodygan_core import evaluation as core
        from melodygan_core.audio import plots

        config = configs.config_of(context, EvaluationConfig)
        artifacts, generation = pipeline.artifacts(checkpoints), pipeline.config.generation
        with reporting.one_sentence_errors():
            made = core.evaluate(artifacts, feature_table, store.open(), config, generation)
        rows = made.metrics["table"]
        intervals = [
            (f"{r['set']}, {r['window_s']:g} s", r["kad"], r["kad_low"], r["kad_high"])
            for r in rows
            if r.get("kad") is not None
        ]
        # One sentence for all sets is not repeated in every row.
        notes = {r["note"] for r in rows if r.get("note")}
        if len(notes) == 1:
            rows = [{k: v for k, v in r.items() if k != "note"} for r in rows]
        metadata: dict[str, Any] = {"distances": reporting.table(rows)}
        if len(notes) == 1:
            metadata = {"note": notes.pop(), **metadata}
        if intervals:
            title = "KAD x1000 to test tracks"
            picture = reporting.image(store, made.uri, lambda: plots.intervals_png(intervals, title))
            metadata = {"picture": picture, **metadata}
        metadata |= music_metadata(made, store)
        return reporting.artifact(made, store, metadata, check_results=_checks(made.metrics))

    return evaluation
