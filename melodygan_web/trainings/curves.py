"""Curves of a training as points of an SVG: drawn by the server, so that they are there without JavaScript."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from melodygan_web.trainings.figures import Validation

WIDTH, HEIGHT = 320, 120
_PAD = 6
_MOST = 6
_BASELINE = "_real_baseline"
# Sizes of sets and counts say nothing of how a model learns.
_NO_CURVES = ("kad_groups", "skipped_steps")


@dataclass(frozen=True)
class Line:
    """One figure over the steps.

    Attributes:
        name: Of the figure, such as `validation/loss`.
        points: For `<polyline points>`.
        last: Its last value.
    """

    name: str
    points: str
    last: float

    @property
    def label(self) -> str:
        """What it was measured on, in a word or two."""
        if self.name.endswith(_BASELINE):
            return "real music"
        return "training" if self.name.startswith("train/") else "validation"


@dataclass(frozen=True)
class Plot:
    """Figures that share one scale: of the training and of the validation.

    Attributes:
        title: For people.
        lines: At most two, the one of the validation first.
        low: Lowest value of the scale.
        high: Highest value of the scale.
        first_step: Where the steps begin.
        last_step: Where they end.
    """

    title: str
    lines: tuple[Line, ...]
    low: float
    high: float
    first_step: int
    last_step: int


def plots(validations: Sequence[Validation]) -> list[Plot]:
    """Plots of the figures of a training's validations, its loss first; none before two validations."""
    names = list(dict.fromkeys(name for validation in validations for name in validation.values))
    of_validation = [n for n in names if n.startswith("validation/")]
    drawn: list[tuple[str, ...]] = []
    for name in of_validation:
        figure = name.removeprefix("validation/")
        if figure not in _NO_CURVES and not figure.endswith(_BASELINE):
            partner = f"train/{figure}" if f"train/{figure}" in names else name + _BASELINE
            drawn.append((name, partner) if partner in names else (name,))
    partners = {name for group in drawn for name in group}
    rest = [n for n in names if n.startswith("train/") and n not in partners]
    drawn += [(n,) for n in rest if n.removeprefix("train/") not in _NO_CURVES]
    made = [_plot(validations, group) for group in drawn]
    return [plot for plot in made if plot is not None][:_MOST]


def _plot(validations: Sequence[Validation], names: tuple[str, ...]) -> Plot | None:
    series = {n: [(v.step, v.values[n]) for v in validations if n in v.values] for n in names}
    series = {name: points for name, points in series.items() if len(points) > 1}
    if names[0] not in series:
        return None
    steps = [step for points in series.values() for step, _ in points]
    values = [value for points in series.values() for _, value in points]
    low, high, first, last = min(values), max(values), min(steps), max(steps)
    lines = tuple(_line(name, series[name], (first, last), (low, high)) for name in names if name in series)
    return Plot(names[0].partition("/")[2].replace("_", " "), lines, low, high, first, last)


def _line(
    name: str, points: Sequence[tuple[int, float]], steps: tuple[int, int], values: tuple[float, float]
) -> Line:
    wide, tall = max(steps[1] - steps[0], 1), values[1] - values[0]

    def place(step: int, value: float) -> tuple[float, float]:
        # A figure that does not change is a line in the middle.
        share = (value - values[0]) / tall if tall > 0 else 0.5
        x = _PAD + (WIDTH - 2 * _PAD) * (step - steps[0]) / wide
        return round(x, 1), round(HEIGHT - _PAD - (HEIGHT - 2 * _PAD) * share, 1)

    placed = [place(step, value) for step, value in points]
    return Line(name, " ".join(f"{x},{y}" for x, y in placed), points[-1][1])
