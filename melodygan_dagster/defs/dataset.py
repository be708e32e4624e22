"""Features to dataset: the asset `feature_table` and the checks that block training."""

from collections.abc import Iterator
from typing import TYPE_CHECKING, NamedTuple

import dagster as dg

from melodygan_core.config import VERSIONS
from melodygan_dagster import reporting
from melodygan_dagster.conditions import DATASET, NIGHTLY
from melodygan_dagster.io_managers import RECORD
from melodygan_dagster.resources import OWNER, Settings, StoreResource

if TYPE_CHECKING:
    from melodygan_core.dataset import Health


class _Check(NamedTuple):
    """One check of the dataset.

    Attributes:
        finding: Name of the list of the core's Health that must be empty.
        description: What a pass means.
        sentence: Format of one finding. It holds no titles: they are text of strangers, and the UI renders
            descriptions as Markdown.
    """

    finding: str
    description: str
    sentence: str = "{problem}"


# Defects that no model may be trained on.
BLOCKING = {
    "no_leakage": _Check(
        "leaks",
        "No sound is in two splits, neither the same nor nearly the same.",
        "{track} ({split}) has {what} as {other} ({other_split})",
    ),
    "rate_and_lengths": _Check(
        "misshapen",
        "Rows have the sizes of the config, and each track has as many as its length asks for.",
        "{track}: {problem}",
    ),
    "finite": _Check(
        "not_finite", "No value in the dataset is NaN or infinite.", "{track}: {rows} rows hold no numbers"
    ),
    "enough_sound": _Check("too_few", "Each split has enough usable segments."),
    "statistics": _Check("still_bands", "Every band varies in the training tracks, so it can be standardised."),
}
# Defects that people should know about. They cost only the segments of their own track.
KNOWN = {
    "silence": _Check("silent", "No track is silent for more than half of it.", "{track}: {share:.0%} silent"),
    "clipping": _Check(
        "clipped", "No track is clipped in more than a tenth of its segments.", "{track}: {share:.0%} clipped"
    ),
    "duplicates": _Check(
        "duplicates",
        "No sound occurs twice; of each group of copies, one is trained on.",
        "{track}: {kind} as {of} ({split})",
    ),
    "durations": _Check(
        "wrong_durations",
        "Tracks are as long as the catalogue says, within 5 % or 3 s.",
        "{track}: {wav_s} s, not {catalogue_s} s",
    ),
    "fingerprints": _Check(
        "not_compared", "Every track was compared with the others by its fingerprint.", "{track}: {reason}"
    ),
}


def _results(health: "Health") -> Iterator[dg.AssetCheckResult]:
    for name, check in (BLOCKING | KNOWN).items():
        found = [{"problem": f} if isinstance(f, str) else f for f in getattr(health, check.finding)]
        sentences = [check.sentence.format_map(row) for row in found[: reporting.NAMED]]
        if len(found) > len(sentences):
            sentences.append(f"and {len(found) - len(sentences)} more")
        yield dg.AssetCheckResult(
            passed=not found,
            check_name=name,
            severity=dg.AssetCheckSeverity.ERROR if name in BLOCKING else dg.AssetCheckSeverity.WARN,
            description="; ".join(sentences) or None,
            metadata={"count": len(found), "found": reporting.first_rows(found)},
        )


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
        dg.AssetCheckSpec(name, asset="feature_table", blocking=name in BLOCKING, description=check.description)
        for name, check in (BLOCKING | KNOWN).items()
    ],
)
def feature_table(store: StoreResource, settings: Settings) -> dg.MaterializeResult:
    """The dataset: the segments to train on and their splits, packed for memory-mapped reading.

    Incremental: only tracks with new features are read. An unchanged rerun has the same data version.
    """
    from melodygan_core import dataset

    core_store = store.open()
    with reporting.one_sentence_errors():
        made = dataset.assemble(core_store, settings.dataset(), settings.features(), settings.separation())
    described = dataset.describe(core_store, made)
    return reporting.artifact(
        made,
        store,
        {
            "tracks_by_split": reporting.table(described.splits),
            "excluded_by_reason": reporting.table(described.reasons),
            "excluded_tracks": len(described.excluded),
            "excluded": reporting.first_rows(described.excluded),
        },
        check_results=list(_results(described.health)),
    )
