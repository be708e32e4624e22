"""Automation conditions and freshness policies: what starts by itself, and when.

| what | starts | by |
|---|---|---|
| `catalogue` | every night at 3:00 UTC | `nightly_catalogue` |
| `catalogue` | when `sources.yaml` changes | `sources_changed` |
| `raw_wav`, `stems`, `features` | for every new track; for failed tracks after 4:00 UTC | `tracks_due` |
| `feature_table` | when features or the catalogue were updated and are not in progress | `DATASET` |
| vocoder and codecs | on Sunday at 5:00 UTC, if the dataset changed since the last training | `TRAINING` |
| the same, early | when MELODYGAN_RETRAIN_AFTER tracks are new in the dataset | `enough_new_tracks` |
| latents, priors, samples, evaluation, release | when a model that they use changed | `AFTER_TRAINING` |
| `gallery` | after a run that changed the samples or the evaluation of a pipeline | `GALLERY` |
| killed runs | are reported as failed at the second look | `dead_runs` |

The names in the last column are sensors and schedules of `defs/automation.py`, or conditions of this module,
which the sensor `automation` evaluates. "Changed" means another data version: an asset that is materialized
again with the same data version starts nothing.

The per-track assets have no condition. Dagster makes one run of each contiguous range of partitions that a
condition requests, and after scattered failures these are many. `track_scheduling.py` groups the tracks
instead.
"""

from datetime import timedelta
from typing import Any

import dagster as dg

_When = dg.AutomationCondition

CATALOGUE_CRON = "0 3 * * *"
TRAINING_CRON = "0 5 * * 0"

# `eager()` would wait for ever for a track that failed permanently, and would miss updates that arrive while
# the dataset is being built.
_UPDATED = _When.missing().newly_true() | _When.any_deps_updated()
DATASET: dg.AutomationCondition[Any] = (
    _UPDATED.since(_When.newly_requested() & ~_UPDATED)
    & _When.any_deps_match(~_When.missing()).allow(dg.AssetSelection.assets("features"))
    & ~_When.any_deps_in_progress()
    & ~_When.in_progress()
).with_label("catalogue or features were updated")

_NEW_DATA = _When.any_deps_match(_When.data_version_changed())
_READY = (
    ~_When.any_deps_missing()
    & ~_When.any_deps_in_progress()
    & ~_When.in_progress()
    & _When.all_deps_blocking_checks_passed()
)

# `eager()` would train again on a dataset that was rebuilt without a change.
_DUE: dg.AutomationCondition[Any] = _When.cron_tick_passed(TRAINING_CRON) & (
    _NEW_DATA.since_last_handled() | _When.missing()
)
TRAINING = (_DUE.since_last_handled() & _READY).with_label(
    "weekly, if the dataset changed since the last training"
)

# These follow the models that they are made of, and not the dataset, which grows every night.
AFTER_TRAINING = (
    _When.any_deps_match(_When.data_version_changed() | _When.will_be_requested())
    .ignore(dg.AssetSelection.assets("feature_table"))
    .since_last_handled()
    & _READY
).with_label("a model that this is made of changed")

# Not in one run with what it shows, and not held back by what is missing or failed: one pipeline's failure must
# not take the page from the others. What a pipeline brings last, with its checks passed, starts it.
_ON_PAGE = (
    dg.AssetSelection.key_substring("generated_samples")
    | dg.AssetSelection.key_substring("evaluation")
    | dg.AssetSelection.key_substring("release")
)
_PASSED = _When.all_checks_match(_When.check_passed(), blocking_only=True)
GALLERY: dg.AutomationCondition[Any] = (
    _When.any_deps_match(_When.data_version_changed() & _PASSED).allow(_ON_PAGE).since_last_handled()
    & ~_When.any_deps_in_progress()
    & ~_When.in_progress()
).with_label("samples or evaluation of a pipeline changed")

# For unpartitioned assets only: a time window does not see partitions.
NIGHTLY = dg.FreshnessPolicy.time_window(fail_window=timedelta(days=3), warn_window=timedelta(hours=36))
# Models stay as they are while no new tracks arrive. After 30 days somebody should look.
QUARTERLY = dg.FreshnessPolicy.time_window(fail_window=timedelta(days=90), warn_window=timedelta(days=30))
