"""models -> figures."""

from collections.abc import Mapping
from typing import Any

import dagster as dg

from melodygan_core.config import FAMILIES, VERSIONS, EvaluationConfig
from melodygan_core.storage.store import Artifact
from melodygan_dagster import configs, reporting
from melodygan_dagster.conditions import AFTER_TRAINING
from melodygan_dagster.io_managers import RECORD
from melodygan_dagster.resources import OWNER, StoreResource, deployed_preset

MIN_MEMORISATION_RATIO = 0.5


def _seams(metrics: dict[str, Any]) -> list[dg.AssetCheckResult]:
    from melodygan_core.evaluation import unseen

    figures = {k: v for k, v in metrics.items() if k.startswith("seams/")}
    return [
        dg.AssetCheckResult(
            passed=all(unseen(figures, what) for what in ("latents", "log_mel")),
            check_name="seams_inside_spread",
            severity=dg.AssetCheckSeverity.WARN,
            metadata=figures,
        )
    ]


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


def _of(family: str) -> dg.AssetsDefinition:
    seams = [
        dg.AssetCheckSpec(
            "seams_inside_spread",
            asset=[family, "evaluation"],
            description="Across borders of what the generator makes at once, sound changes as much as within.",
        )
    ]

    @dg.asset(
        key_prefix=family,
        ins={
            "gan_checkpoint": dg.AssetIn(key_prefix=family),
            "autoencoder_checkpoint": dg.AssetIn(key_prefix=family),
        },
        group_name=family,
        kinds={"parquet", "json"},
        owners=[OWNER],
        code_version=VERSIONS["evaluation"],
        automation_condition=AFTER_TRAINING,
        io_manager_key="records",
        dagster_type=RECORD,
        config_schema=configs.schema(deployed_preset().evaluation),
        check_specs=[
            *(seams if family == "temporal" else []),
            dg.AssetCheckSpec(
                "not_memorised",
                asset=[family, "evaluation"],
                blocking=True,
                description="Generated segments do not lie far nearer to training segments than unseen ones.",
            ),
        ],
    )
    def evaluation(
        context: dg.AssetExecutionContext,
        store: StoreResource,
        gan_checkpoint: Artifact,
        autoencoder_checkpoint: Artifact,
        vocoder_checkpoint: Artifact,
        feature_table: Artifact,
    ) -> dg.MaterializeResult:
        """Distances of a generated set to real test tracks, beside the floor and the ceilings of the chain."""
        from melodygan_core import evaluation as core
        from melodygan_core.audio import plots

        config = configs.config_of(context, EvaluationConfig)
        generation = deployed_preset().generation
        made = core.evaluate(
            gan_checkpoint,
            autoencoder_checkpoint,
            vocoder_checkpoint,
            feature_table,
            store.open(),
            config,
            generation,
        )
        rows = made.metrics["table"]
        intervals = [(f"{r['set']}, {r['window_s']:g} s", r["kad"], r["kad_low"], r["kad_high"]) for r in rows]
        return reporting.artifact(
            made,
            store,
            {
                "picture": reporting.image(
                    store, made.uri, lambda: plots.intervals_png(intervals, "KAD x1000 to test tracks")
                ),
                "distances": reporting.table(rows),
            },
            check_results=[
                *(_seams(made.metrics) if family == "temporal" else []),
                *_checks(made.metrics),
            ],
        )

    return evaluation


evaluations = [_of(family) for family in FAMILIES]
