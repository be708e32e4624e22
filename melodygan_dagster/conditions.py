"""What may start without a hand, and when: every automation condition and freshness policy in one place."""

from datetime import timedelta
from typing import Any

import dagster as dg

_When = dg.AutomationCondition

CATALOGUE_CRON = "0 3 * * *"
RETRY_CRON = "0 4 * * *"
TRAINING_CRON = "0 5 * * 0"

# A new track at once, a failed one again the next night, and never one whose upstream is missing. Not
# `since_last_handled()`: that forgets what was missing before the condition was first evaluated.
PER_TRACK = (
    _When.missing()
    & (_When.missing().newly_true() | _When.cron_tick_passed(RETRY_CRON)).since(
        _When.newly_requested() | _When.newly_updated()
    )
    & ~_When.any_deps_match(_When.missing())
    & ~_When.in_progress()
).with_label("a track whose upstream is there and that has not been tried since last night")

# `eager()` would wait for ever for a track that failed for good.
DATASET = _When.eager().without(~_When.any_deps_missing()).with_label("catalogue or features have been updated")

_NEW_DATA = _When.any_deps_match(_When.data_version_changed())
_READY = (
    ~_When.any_deps_missing()
    & ~_When.any_deps_in_progress()
    & ~_When.in_progress()
    & _When.all_deps_blocking_checks_passed()
)

# `eager()` would train again on a dataset that was only looked at again; a data version tells them apart.
_DUE: dg.AutomationCondition[Any] = _When.cron_tick_passed(TRAINING_CRON) & (
    _NEW_DATA.since_last_handled() | _When.missing()
)
TRAINING = (_DUE.since_last_handled() & _READY).with_label("weekly, when the dataset is another than last time")

# What is made of the first model follows it, and not the dataset, which grows every night.
AFTER_TRAINING = (
    _When.any_deps_match(_When.data_version_changed() | _When.will_be_requested())
    .ignore(dg.AssetSelection.assets("feature_table"))
    .since_last_handled()
    & _READY
).with_label("a model that this is made of is another one")

# Of aggregates only: a time window knows no partitions.
NIGHTLY = dg.FreshnessPolicy.time_window(fail_window=timedelta(days=3), warn_window=timedelta(hours=36))
# Models may rest while nothing new comes; a quarter of a year without one deserves a look.
QUARTERLY = dg.FreshnessPolicy.time_window(fail_window=timedelta(days=90), warn_window=timedelta(days=30))
