"""Figures of a training at each validation: those that Dagster observed, or those of a finished model."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from melodygan_web.dagster_runs import Ask

# Validations of an asset that are read; a preset has at most some hundreds.
_MOST = 500
_OBSERVATIONS = """query StudioCurves($key: AssetKeyInput!, $limit: Int!) {
  assetOrError(assetKey: $key) {
    __typename
    ... on Asset { assetObservations(limit: $limit) {
      runId timestamp
      metadataEntries {
        label
        ... on FloatMetadataEntry { floatValue }
        ... on IntMetadataEntry { intValue }
      }
    } }
  }
}"""


@dataclass(frozen=True)
class Validation:
    """What was measured at one validation.

    Attributes:
        step: Optimizer updates so far.
        at: In seconds since 1970; 0 where it is not known.
        values: Figures by name, such as `validation/loss`; finite.
        run: Dagster's run; empty where it is not known.
    """

    step: int
    at: float
    values: Mapping[str, float]
    run: str = ""


@dataclass(frozen=True)
class Left:
    """How long a training still takes.

    Attributes:
        percent: Of its most steps, 0 to 100.
        at_most_s: Seconds until its last step; it may stop earlier. None where its speed is not known yet.
        step: Steps so far.
        of: Its most steps.
    """

    percent: int
    at_most_s: float | None
    step: int
    of: int


def observed(ask: Ask, asset: str) -> list[Validation]:
    """The validations of an asset's last training, the first one first; those of a resumed one go on.

    Raises:
        TransientError: Dagster does not answer.
    """
    answer = ask(_OBSERVATIONS, {"key": {"path": asset.split("/")}, "limit": _MOST})["assetOrError"]
    found: list[Validation] = []
    # The newest first: where the step is not lower than the one after it, another training ended.
    for event in answer.get("assetObservations") or []:
        validation = _validation(event)
        if validation is None:
            continue
        if found and validation.step >= found[-1].step:
            break
        found.append(validation)
    return found[::-1]


def _validation(event: Mapping[str, Any]) -> Validation | None:
    values = {}
    for entry in event["metadataEntries"]:
        value = entry.get("floatValue", entry.get("intValue"))
        if isinstance(value, int | float) and math.isfinite(value):
            values[str(entry["label"])] = float(value)
    step = values.pop("step", None)
    # Milliseconds as text.
    at = float(event["timestamp"]) / 1000
    return None if step is None else Validation(int(step), at, values, str(event.get("runId", "")))


def recorded(history: Any) -> list[Validation]:
    """The validations of a finished model, from its metric `history`; empty where that is damaged."""
    rows = history if isinstance(history, list) else []
    found = []
    for row in rows:
        if isinstance(row, dict) and isinstance(row.get("step"), int | float):
            values = {
                str(k): float(v)
                for k, v in row.items()
                if k != "step" and isinstance(v, int | float) and math.isfinite(v)
            }
            found.append(Validation(int(row["step"]), 0.0, values))
    return found


def time_left(validations: Sequence[Validation], max_steps: int, now_s: float) -> Left:
    """How long a training still takes at the speed of its last validations.

    Args:
        validations: Of `observed`.
        max_steps: Of its settings, at least 1.
        now_s: In seconds since 1970.
    """
    step = validations[-1].step if validations else 0
    percent = int(100 * min(step, max_steps) / max_steps)
    # A resumed training was not running between its runs.
    recent = [v for v in validations if v.run == validations[-1].run][-5:]
    if len(recent) < 2 or recent[-1].at <= recent[0].at:
        return Left(percent, None, step, max_steps)
    step_s = (recent[-1].at - recent[0].at) / (recent[-1].step - recent[0].step)
    left_s = (max_steps - step) * step_s - (now_s - recent[-1].at)
    return Left(percent, max(0.0, left_s), step, max_steps)
