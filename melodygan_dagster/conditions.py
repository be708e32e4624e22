"""What may start without a hand, and when: every automation condition and freshness policy in one place.

The per-track stages have none: Dagster makes a run of each stretch of neighbours that a condition asks for,
which after scattered failures is many runs. `track_scheduling.py` says what is due of them, in runs of many.
"""

from datetime import timedelta
from typing import Any

import dagster as dg

from melodygan_dagster.resources import number_of

_When = dg.AutomationCondition

CATALOGUE_CRON = "0 3 * * *"
TRAINING_CRON = "0 5 * * 0"

# Seconds between two looks for something to do.
TICK_S = number_of("MELODYGAN_TICK_S", 30)

# Not `eager()`: it would wait for ever for a track that failed for good, and forget what came while the asset
# was being made.
_UPDATED = _When.missing().newly_true() | _When.any_deps_updated()
DATASET: dg.AutomationCondition[Any] = (
    _UPDATED.since(_When.newly_requested() & ~_UPDATED)
    & _When.any_deps_match(~_When.missing()).allow(dg.AssetSelection.assets("features"))
    & ~_When.any_deps_in_progress()
    & ~_When.in_progress()
).with_label("catalogue or features have been updated")

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
