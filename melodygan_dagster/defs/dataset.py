"""features -> dataset."""

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
    """One check: the list of the core's Health that must be empty, what it means, and one finding in words.

    No titles are among the words: they are strangers' text, and the UI takes a description for Markdown.
    """

    finding: str
    description: str
    words: str = "{problem}"


# What no model may be trained on.
BLOCKING = {
    "no_leakage": _Check(
        "leaks",
        "No sound is in two splits, neither the same nor nearly the same.",
        "{track} ({split}) has {what} as {other} ({other_split})",
    ),
    "rate_and_lengths": _Check(
        "misshapen",
        "Rows have the sizes of the config, and each track as many as it is long.",
        "{track}: {problem}",
    ),
    "finite": _Check(
        "not_finite", "No value in the dataset is NaN or infinite.", "{track}: {rows} rows hold no numbers"
    ),
    "enough_sound": _Check("too_few", "Each split has enough usable segments."),
    "statistics": _Check("still_bands", "Every band moves in the training tracks, so it can be standardised."),
}
# What people should know of the whole library; a track's defects cost its own segments only.
KNOWN = {
    "silence": _Check("silent", "No track is silent for more than half of it.", "{track}: {share:.0%} silent"),
    "clipping": _Check(
        "clipped", "No track is clipped in more than a tenth of its segments.", "{track}: {share:.0%} clipped"
    ),
    "duplicates": _Check(
        "duplicates",
        "No sound comes twice; of each group of copies one is trained on.",
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
        said = [check.words.format_map(row) for row in found[: reporting.NAMED]]
        if len(found) > len(said):
            said.append(f"and {len(found) - len(said)} more")
        yield dg.AssetCheckResult(
            passed=not found,
            check_name=name,
            severity=dg.AssetCheckSeverity.ERROR if name in BLOCKING else dg.AssetCheckSeverity.WARN,
            description="; ".join(said) or None,
            metadata={"count": len(found), "found": reporting.shown(found)},
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
            "excluded_by_reason": reporting.table(described.reasons),
            "excluded_tracks": len(described.excluded),
            "excluded": reporting.shown(described.excluded),
        },
        check_results=list(_results(described.health)),
    )
